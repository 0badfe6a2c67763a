"""`call_soon`: what it costs to schedule a callback and to run it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from itertools import repeat

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Prepare, Run

BATCH = 1000


def nothing(*_: object) -> None:
    """The callback: as little as Python can do."""


def chain(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """Every callback schedules the next one, so a turn runs one callback."""
    left = 0

    def step() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(step)
        else:
            loop.stop()

    def run(times: int) -> None:
        nonlocal left
        left = times
        loop.call_soon(step)
        loop.run_forever()

    return run


def in_turns(loop: asyncio.AbstractEventLoop, schedule: Callable[[], None]) -> Run:
    """Calls `schedule`, which schedules a batch, once a turn."""
    left = 0

    def turn() -> None:
        nonlocal left
        if left <= 0:
            loop.stop()
            return
        left -= BATCH
        schedule()
        loop.call_soon(turn)

    def run(times: int) -> None:
        nonlocal left
        left = times
        loop.call_soon(turn)
        loop.run_forever()

    return run


def plain(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """A batch of callbacks without arguments."""

    def schedule() -> None:
        call_soon = loop.call_soon
        for _ in repeat(None, BATCH):
            call_soon(nothing)

    return in_turns(loop, schedule)


def with_argument(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """A batch of callbacks with one argument."""

    def schedule() -> None:
        call_soon = loop.call_soon
        for _ in repeat(None, BATCH):
            call_soon(nothing, None)

    return in_turns(loop, schedule)


def with_context(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """A batch of callbacks, each in a context that it is given."""
    context = contextvars.copy_context()

    def schedule() -> None:
        call_soon = loop.call_soon
        for _ in repeat(None, BATCH):
            call_soon(nothing, context=context)

    return in_turns(loop, schedule)


def batch(name: str, title: str, prepare: Prepare) -> LoopWorkload:
    """A workload of `BATCH` callbacks a turn."""
    return LoopWorkload(name, title, "callback", prepare, batch=BATCH, floor="queue")


WORKLOADS = (
    LoopWorkload(
        "call-soon-chain", "call_soon, each from the one before", "callback", chain, floor="queue"
    ),
    batch("call-soon-batch", "call_soon, 1,000 a turn", plain),
    batch("call-soon-argument", "call_soon with an argument, 1,000 a turn", with_argument),
    batch("call-soon-context", "call_soon with context=, 1,000 a turn", with_context),
)
