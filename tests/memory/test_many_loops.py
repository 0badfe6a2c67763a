"""Ten thousand loops, made and closed: no descriptor, thread or memory stays."""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Literal

import pytest

import cloverleaf

from .test_growth import resident

LOOPS = 10_000
BATCH = 500
SECONDS = 60


def count(what: Literal["fd", "task"]) -> int:
    """Return how many descriptors are open, or how many threads there are."""
    return sum(1 for _ in Path("/proc/self", what).iterdir())


def falls_to(what: Literal["fd", "task"], most: int) -> bool:
    """Whether no more are left; a thread ends, with what it used, after its loop was closed."""
    until = time.monotonic() + SECONDS
    while count(what) > most:
        if time.monotonic() > until:
            return False
        os.sched_yield()
    return True


@pytest.mark.deadline(240)
@pytest.mark.parametrize("backend", ["epoll", "io_uring"])
def test_ten_thousand_loops_leave_nothing(
    backend: Literal["epoll", "io_uring"], tmp_path: Path
) -> None:
    try:
        cloverleaf.new_event_loop(backend=backend).close()
    except OSError as refusal:
        pytest.skip(f"no ring is to be had here: {refusal}")
    path = tmp_path / "file"

    async def use() -> None:
        async with cloverleaf.open(path, "wb", 0) as file:
            await file.pwrite(b"by a ring, or a thread", 0)

    def batch() -> None:
        for number in range(BATCH):
            loop = cloverleaf.new_event_loop(backend=backend)
            # One in five uses what a loop makes at its first use alone: ring, threads, wake-up.
            loop.run_until_complete(use() if number % 5 == 0 else loop.shutdown_asyncgens())
            loop.close()

    def kept() -> tuple[int, int]:
        gc.collect()
        return sys.getallocatedblocks(), resident()

    batch()
    batch()
    open_before, threads = count("fd"), count("task")

    def growth() -> tuple[int, int]:
        blocks, size = kept()
        for _ in range(LOOPS // BATCH - 2):
            batch()
            assert falls_to("fd", open_before)
        blocks_after, size_after = kept()
        return blocks_after - blocks, size_after - size

    # Once is enough: a leak grows each time.
    for _ in range(3):
        blocks, size = growth()
        if blocks < LOOPS // 100 and size < 8 << 20:
            break
    assert blocks < LOOPS // 100, "something of each loop stays"
    assert size < 8 << 20
    assert falls_to("task", threads + 1)
