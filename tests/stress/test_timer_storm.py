"""Hundreds of thousands of timers, set, cancelled and fired at random."""

from __future__ import annotations

import asyncio
import gc
import random
import time

import pytest

from parity.harness.turns import turn
from parity.harness.types import Loop

TIMERS = 200_000


@pytest.mark.deadline(240)
def test_order_of_many_timers_set_and_cancelled_at_random(loop: Loop) -> None:
    chance = random.Random(9)
    base = loop.time() - 100
    fired: list[float] = []
    live: dict[int, float] = {}
    handles = {}
    for serial in range(TIMERS):
        when = base + chance.randrange(10**7) / 1e6
        handles[serial] = loop.call_at(when, fired.append, when)
        live[serial] = when
        if chance.random() < 0.5:
            dropped = chance.randrange(serial + 1)
            if dropped in live:
                handles[dropped].cancel()
                del live[dropped]
    turn(loop)
    assert fired == sorted(live.values())


def test_timers_that_are_always_cancelled_do_not_slow_the_loop(loop: Loop) -> None:
    """A timeout per request: set far ahead, cancelled soon; the dead ones are bounded."""
    kept = [loop.call_later(3600, int) for _ in range(1000)]
    for _ in range(50):
        handles = [loop.call_later(60, int) for _ in range(2000)]
        for handle in handles:
            handle.cancel()
        turn(loop)
    handles.clear()
    # A hundred thousand have been cancelled; dead ones are swept once they outnumber the others.
    left = sum(isinstance(each, asyncio.TimerHandle) for each in gc.get_objects())
    assert len(kept) <= left < 10 * len(kept)
    for handle in kept:
        handle.cancel()


def test_timers_in_callbacks_of_timers_go_on_in_time(loop: Loop) -> None:
    seen: list[float] = []
    early: list[bool] = []
    resolution = time.get_clock_info("monotonic").resolution

    def again(due: float, left: int) -> None:
        seen.append(due)
        early.append(due > loop.time() + resolution)
        if left:
            loop.call_at(due + 1e-5, again, due + 1e-5, left - 1)
        elif len(seen) == 20 * 51:
            loop.stop()

    start = loop.time()
    for n in range(20):
        loop.call_at(start + n * 1e-3, again, start + n * 1e-3, 50)
    loop.run_forever()
    for n in range(20):
        own = [due for due in seen if start + n * 1e-3 <= due < start + (n + 0.99) * 1e-3]
        assert len(own) == 51
    assert not any(early)
