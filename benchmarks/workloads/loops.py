"""The loop itself: made and closed, as `asyncio.run` does each time."""

from __future__ import annotations

import asyncio

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Run


def make_and_close(_: asyncio.AbstractEventLoop, factory: LoopFactory) -> Run:
    """Makes a loop and closes it without running it."""

    def run(times: int) -> None:
        for _ in range(times):
            factory().close()

    return run


def make_run_close(_: asyncio.AbstractEventLoop, factory: LoopFactory) -> Run:
    """Runs one callback in between."""

    def run(times: int) -> None:
        for _ in range(times):
            loop = factory()
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.close()

    return run


WORKLOADS = (
    LoopWorkload("loop-create-close", "A loop made and closed", "loop", make_and_close),
    LoopWorkload("loop-run-once", "A loop made, run for one turn, closed", "loop", make_run_close),
)
