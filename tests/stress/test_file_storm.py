"""Thousands of operations on files at once, cancelled at random; loops closed under them."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
from cloverleaf._file_flight import perform
from parity.harness.leaks import descriptors
from parity.harness.turns import turn
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


async def read_cold(file: Any, number: int) -> bytes:
    """Read a block as if it were not in memory: by the ring or by a thread, not at once."""
    found: bytes = await perform(file._reading(BLOCK, number * BLOCK))
    return found


def begun(loop: Loop, requests: list[Any]) -> list[asyncio.Future[bytes]]:
    """Run a turn of the loop in which it begins these, and wait for none."""
    futures: list[asyncio.Future[bytes]] = []
    loop.call_soon(lambda: futures.extend(map(perform, requests)))
    turn(loop)
    return futures


async def test_nothing_is_lost_reads_cancelled_at_random(loop: Loop, path: Path) -> None:
    chance = random.Random(5)
    async with await cloverleaf.open(path, "rb", 0) as file:
        numbers = [chance.randrange(BLOCKS) for _ in range(OPERATIONS)]
        tasks = [loop.create_task(read_cold(file, number)) for number in numbers]
        await asyncio.sleep(0)
        cancelled = {task for task in tasks if chance.random() < 0.4 and task.cancel()}
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for task, number, end in zip(tasks, numbers, ends, strict=True):
            if isinstance(end, asyncio.CancelledError):
                assert task in cancelled
            else:
                assert end == block(number)
        # Many were given up while they were under way, and many were not.
        given_up = sum(isinstance(end, asyncio.CancelledError) for end in ends)
        assert OPERATIONS // 5 < given_up < OPERATIONS * 3 // 5


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


def test_loops_closed_under_operations_leave_nothing_behind(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        before = 0
        cancelled = under_way = 0
        for lap in range(LOOPS):
            loop = cloverleaf.new_event_loop()
            file = loop.run_until_complete(cloverleaf.open(os.dup(fd), "rb", 0))
            tasks = [loop.create_task(read_cold(file, place)) for place in range(8)]
            turn(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            cancelled += sum(task.cancelled() for task in tasks)
            # What is begun now has the descriptor to itself, and nobody waits for it.
            requests = [file._reading(BLOCK, place * BLOCK) for place in range(8)]
            loop.run_until_complete(file.close())
            late = begun(loop, requests)
            under_way += sum(not future.done() for future in late)
            loop.close()
            if lap == 10:
                before = len(descriptors())
        assert cancelled > LOOPS
        assert under_way > LOOPS
        end = time.monotonic() + 60
        while len(descriptors()) > before and time.monotonic() < end:
            pass  # a thread may still read for the last loop
        assert len(descriptors()) <= before
    finally:
        os.close(fd)
