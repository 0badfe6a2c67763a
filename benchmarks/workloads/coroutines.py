"""Tasks and futures: switching, waking, spawning, waiting together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Prepare, Run

GROUP = 100


def driven(main: Callable[[asyncio.AbstractEventLoop, int], Awaitable[object]]) -> Prepare:
    """Runs a coroutine function to its end, with the loop and the number of operations."""

    def prepare(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
        async def call(times: int) -> None:
            await main(loop, times)

        return lambda times: loop.run_until_complete(call(times))

    return prepare


async def nothing() -> None:
    """Ends at its first step."""


async def sleep(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """`GROUP` tasks take turns."""

    async def member() -> None:
        for _ in range(times // GROUP):
            await asyncio.sleep(0)

    await asyncio.gather(*(member() for _ in range(GROUP)))


async def wake(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """A task waits for a future that a callback resolves."""
    for _ in range(times):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def ping_pong(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Two tasks pass one item to and fro through two queues."""
    there: asyncio.Queue[int] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def return_all() -> None:
        for _ in range(times):
            back.put_nowait(await there.get())

    task = asyncio.create_task(return_all())
    for number in range(times):
        there.put_nowait(number)
        await back.get()
    await task


async def gather(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Spawns `GROUP` tasks and waits for them, again and again."""
    for _ in range(times // GROUP):
        await asyncio.gather(*(nothing() for _ in range(GROUP)))


async def task_group(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """The same with a TaskGroup."""
    for _ in range(times // GROUP):
        async with asyncio.TaskGroup() as group:
            for _ in range(GROUP):
                group.create_task(nothing())


async def timeout(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Enters a timeout, gives way once, and leaves it in time."""
    for _ in range(times):
        async with asyncio.timeout(10):
            await asyncio.sleep(0)


WORKLOADS = (
    LoopWorkload("sleep-0", "sleep(0), 100 tasks", "switch", driven(sleep), batch=GROUP),
    LoopWorkload("future-wake", "Future set by a callback, awaited", "wake-up", driven(wake)),
    LoopWorkload(
        "queue-ping-pong", "Queue ping-pong of two tasks", "round trip", driven(ping_pong)
    ),
    LoopWorkload("gather", "Spawn and gather, 100 tasks", "task", driven(gather), batch=GROUP),
    LoopWorkload("task-group", "TaskGroup of 100 tasks", "task", driven(task_group), batch=GROUP),
    LoopWorkload("timeout", "asyncio.timeout around sleep(0)", "timeout", driven(timeout)),
)
