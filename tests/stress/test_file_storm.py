"""Thousands of operations on files at once, cancelled at random; loops closed under them."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

import cloverleaf
from parity.harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files

BLOCK = 512
BLOCKS = 4096
OPERATIONS = 6000  # more than a ring has in flight: the pool takes the rest
LOOPS = 1000


def block(number: int) -> bytes:
    """Return what is in a block of the file, which tells it from all others."""
    return b"%08d" % number * (BLOCK // 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file of numbered blocks."""
    path = tmp_path / "blocks"
    path.write_bytes(b"".join(map(block, range(BLOCKS))))
    return path


def descriptors() -> int:
    """Count the descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only the number


@pytest.mark.deadline(60)
async def test_nothing_is_lost_reads_cancelled_at_random(loop: Loop, path: Path) -> None:
    chance = random.Random(5)
    async with await cloverleaf.open(path, "rb", 0) as file:
        numbers = [chance.randrange(BLOCKS) for _ in range(OPERATIONS)]
        tasks = [loop.create_task(file.pread(BLOCK, number * BLOCK)) for number in numbers]
        await asyncio.sleep(0)
        cancelled = {task for task in tasks if chance.random() < 0.4 and task.cancel()}
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for task, number, end in zip(tasks, numbers, ends, strict=True):
            if isinstance(end, asyncio.CancelledError):
                assert task in cancelled
            else:
                assert end == block(number)
        assert sum(isinstance(end, bytes) for end in ends) >= OPERATIONS - len(cancelled)


@pytest.mark.deadline(60)
async def test_nothing_is_lost_writes_at_their_places(loop: Loop, path: Path) -> None:
    chance = random.Random(6)
    numbers = list(range(BLOCKS))
    chance.shuffle(numbers)
    async with await cloverleaf.open(path, "r+b", 0) as file:
        counts = await asyncio.gather(
            *(file.pwrite(block(BLOCKS - number), number * BLOCK) for number in numbers)
        )
    assert counts == [BLOCK] * BLOCKS
    written = await cloverleaf.files.read_bytes(path)
    assert written == b"".join(block(BLOCKS - number) for number in range(BLOCKS))


@pytest.mark.deadline(60)
def test_loops_closed_under_operations_leave_nothing_behind(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        before = 0
        for turn in range(LOOPS):
            loop = cloverleaf.new_event_loop()
            file = loop.run_until_complete(cloverleaf.open(os.dup(fd), "rb", 0))
            tasks = [loop.create_task(file.pread(BLOCK, place * BLOCK)) for place in range(8)]
            loop.call_soon(loop.stop)
            loop.run_forever()
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            late = loop.create_task(file.pread(BLOCK, 0))
            loop.call_soon(loop.stop)
            loop.run_forever()
            late.cancel()
            loop.run_until_complete(asyncio.gather(late, return_exceptions=True))
            loop.run_until_complete(file.close())
            loop.close()
            if turn == 10:
                before = descriptors()
        assert descriptors() <= before
    finally:
        os.close(fd)
