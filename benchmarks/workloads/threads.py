"""Other threads and the loop: `call_soon_threadsafe`, `run_coroutine_threadsafe`."""

from __future__ import annotations

import asyncio
import threading
from itertools import repeat

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Prepare, Run


def burst(count: int) -> Prepare:
    """`count` threads call as fast as they can while the loop runs what they ask for."""

    def prepare(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
        left = 0

        def arrive() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                loop.stop()

        def call(times: int) -> None:
            call_soon_threadsafe = loop.call_soon_threadsafe
            for _ in repeat(None, times):
                call_soon_threadsafe(arrive)

        def run(times: int) -> None:
            nonlocal left
            left = times
            callers = [threading.Thread(target=call, args=(times // count,)) for _ in range(count)]
            for caller in callers:
                loop.call_soon(caller.start)
            loop.run_forever()
            for caller in callers:
                caller.join()

        return run

    return prepare


async def nothing() -> None:
    """Ends at its first step."""


def coroutine(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """One thread hands over coroutines and waits for each."""

    def call(times: int) -> None:
        for _ in repeat(None, times):
            asyncio.run_coroutine_threadsafe(nothing(), loop).result()

    def run(times: int) -> None:
        def call_and_stop() -> None:
            call(times)
            loop.call_soon_threadsafe(loop.stop)

        caller = threading.Thread(target=call_and_stop)
        loop.call_soon(caller.start)
        loop.run_forever()
        caller.join()

    return run


WORKLOADS = (
    LoopWorkload(
        "threadsafe-1", "call_soon_threadsafe, 1 thread", "call", burst(1), batch=100, threads=True
    ),
    LoopWorkload(
        "threadsafe-4", "call_soon_threadsafe, 4 threads", "call", burst(4), batch=100, threads=True
    ),
    LoopWorkload(
        "coroutine-threadsafe",
        "run_coroutine_threadsafe and result()",
        "coroutine",
        coroutine,
        threads=True,
    ),
)
