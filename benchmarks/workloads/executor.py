"""`run_in_executor`: there and back, one job at a time and many."""

from __future__ import annotations

import asyncio

from benchmarks.suite.workload import LoopWorkload
from benchmarks.workloads.coroutines import driven

MANY = 100


def nothing() -> None:
    """The job."""


async def one_by_one(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Waits for each job before it submits the next."""
    for _ in range(times):
        await loop.run_in_executor(None, nothing)


async def together(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Submits `MANY` jobs, then waits for all of them."""
    for _ in range(times // MANY):
        await asyncio.gather(*(loop.run_in_executor(None, nothing) for _ in range(MANY)))


WORKLOADS = (
    LoopWorkload(
        "executor", "run_in_executor, one at a time", "job", driven(one_by_one), threads=True
    ),
    LoopWorkload(
        "executor-100",
        "run_in_executor, 100 at a time",
        "job",
        driven(together),
        batch=MANY,
        threads=True,
    ),
)
