"""Timers: set and cancelled, set and fired, set and cancelled among very many others."""

from __future__ import annotations

import asyncio
from itertools import repeat

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Run
from benchmarks.workloads.callbacks import BATCH, in_turns, nothing

FIRED = 100_000
PENDING = 1_000_000
HOUR = 3600.0


def cancelled(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """Sets a timer and cancels it, as every timeout that is not reached does."""

    def schedule() -> None:
        call_later = loop.call_later
        for _ in repeat(None, BATCH):
            call_later(60.0, nothing).cancel()

    return in_turns(loop, schedule)


def among_many(loop: asyncio.AbstractEventLoop, factory: LoopFactory) -> Run:
    """The same while a million timers wait, with deadlines on both sides of the new ones."""
    for number in range(PENDING):
        loop.call_later(30.0 + number * 7919 % PENDING / PENDING * HOUR, nothing)
    return cancelled(loop, factory)


def fired(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """Sets 100,000 timers in no order within two milliseconds, and waits until all have fired."""
    left = 0

    def fire() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()

    def schedule(count: int) -> None:
        call_later = loop.call_later
        for number in range(count):
            call_later((number * 7919 % FIRED) / FIRED * 0.002, fire)

    def run(times: int) -> None:
        nonlocal left
        for _ in range(times // FIRED):
            left = FIRED
            loop.call_soon(schedule, FIRED)
            loop.run_forever()

    return run


WORKLOADS = (
    LoopWorkload(
        "timer-cancel", "call_later and cancel", "set and cancelled", cancelled, batch=BATCH
    ),
    LoopWorkload(
        "timer-cancel-1m",
        "call_later and cancel among 1,000,000 pending",
        "set and cancelled",
        among_many,
        batch=BATCH,
    ),
    LoopWorkload("timer-fire-100k", "100,000 timers fired", "set and fired", fired, batch=FIRED),
)
