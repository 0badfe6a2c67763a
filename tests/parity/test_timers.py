"""Timers: never early, by deadline, then by age, and gone when cancelled."""

from __future__ import annotations

import asyncio
import math
import random
import time
import weakref
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import pytest

from .harness.turns import turn, turns_until
from .harness.types import Loop


def test_no_timer_is_early(loop: Loop) -> None:
    chance = random.Random(1)
    early: list[float] = []

    def fire(due: float) -> None:
        if loop.time() < due:
            early.append(due - loop.time())

    last = 0.0
    for _ in range(500):
        delay = chance.random() * 0.2
        last = max(last, delay)
        due = loop.time() + delay
        loop.call_at(due, fire, due)
    loop.call_later(last + 0.01, loop.stop)
    loop.run_forever()
    # asyncio rounds by the resolution of its clock, one nanosecond.
    assert [by for by in early if by > 2e-9] == []


async def test_sleep_is_never_shorter_than_asked(loop: Loop) -> None:
    for delay in (0.0001, 0.0007, 0.001, 0.0033, 0.0101):
        before = time.monotonic()
        await asyncio.sleep(delay)
        assert time.monotonic() - before >= delay - 2e-9


def test_order_timers_run_by_deadline(loop: Loop) -> None:
    chance = random.Random(2)
    start = loop.time() - 10
    times = [start + chance.randrange(10**6) / 1e6 for _ in range(1000)]
    seen: list[float] = []
    for when in times:
        loop.call_at(when, seen.append, when)
    turn(loop)
    assert seen == sorted(times)


@pytest.mark.only("cloverleaf")  # asyncio promises no order among equal deadlines
def test_order_timers_of_one_deadline_run_by_age(loop: Loop) -> None:
    when = loop.time() - 1
    seen: list[int] = []
    for n in range(1000):
        loop.call_at(when, seen.append, n)
    turn(loop)
    assert seen == list(range(1000))


def test_a_due_timer_runs_in_the_turn_that_finds_it_due(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_at(loop.time() - 1, seen.append, "due")
    loop.call_later(3600, seen.append, "not due")
    turn(loop)
    assert seen == ["due"]


def test_a_timer_set_by_a_timer_waits_for_the_next_turn(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.call_at(loop.time() - 1, seen.append, "second")

    loop.call_at(loop.time() - 1, first)
    turn(loop)
    assert seen == ["first"]
    turn(loop)
    assert seen == ["first", "second"]


@pytest.mark.parametrize("delay", [0, -1, -1e9, -math.inf])
def test_a_delay_that_is_over_runs_in_the_next_turn(loop: Loop, delay: float) -> None:
    seen: list[int] = []
    loop.call_later(delay, seen.append, 1)
    turn(loop)
    assert seen == [1]


@pytest.mark.parametrize("delay", [1e9, 1e18, 1e300, math.inf])
def test_a_far_timer_neither_runs_nor_disturbs(loop: Loop, delay: float) -> None:
    seen: list[str] = []
    handle = loop.call_later(delay, seen.append, "far")
    loop.call_later(0.002, seen.append, "near")
    loop.call_later(0.004, loop.stop)
    loop.run_forever()
    assert seen == ["near"]
    assert handle.when() >= delay
    handle.cancel()
    turn(loop)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, False])
def test_a_delay_of_zero_is_a_timer_that_is_due(loop: Loop, zero: float) -> None:
    seen: list[int] = []
    handle = loop.call_later(zero, seen.append, 1)
    assert isinstance(handle, asyncio.TimerHandle)
    turn(loop)
    assert seen == [1]


def test_a_delay_must_be_given(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"delay must not be None"):
        loop.call_later(None, print)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"when cannot be None"):
        loop.call_at(None, print)  # type: ignore[arg-type]


@pytest.mark.parametrize("delay", ["1", b"1", [], object()])
def test_a_delay_must_be_a_number(loop: Loop, delay: float) -> None:
    with pytest.raises(TypeError):
        loop.call_later(delay, print)


def test_a_delay_may_be_any_number_that_adds_to_a_float(loop: Loop) -> None:
    million: Any = Fraction(10**6)
    half: Any = Fraction(1, 2)
    assert loop.call_later(million, print).when() >= 10**6
    assert loop.call_at(half, print).when() == 0.5
    assert float(loop.call_at(10**30, print).when()) == 1e30


def test_a_delay_that_no_float_holds_is_refused(loop: Loop) -> None:
    with pytest.raises(OverflowError):
        loop.call_later(10**400, print)


def test_a_delay_that_is_not_a_number_runs_in_the_next_turn(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_later(math.nan, seen.append, 1)
    turn(loop)
    assert seen == [1]


def test_time_is_the_monotonic_clock(loop: Loop) -> None:
    before = time.monotonic()
    now = loop.time()
    assert before <= now <= time.monotonic()


def test_time_is_finer_than_a_millisecond(loop: Loop) -> None:
    def seen() -> set[float]:
        end = time.monotonic() + 0.002
        times = set()
        while time.monotonic() < end:
            times.add(loop.time())
        return times

    # Once is enough: another program may have the processor for as long as that.
    assert any(len(seen()) > 10 for _ in range(1000))


def test_a_cancelled_timer_never_fires(loop: Loop) -> None:
    seen: list[int] = []
    handles = [loop.call_later(0.001 * n, seen.append, n) for n in range(10)]
    for handle in handles[::2]:
        handle.cancel()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == [1, 3, 5, 7, 9]


def test_a_due_timer_that_is_cancelled_by_an_earlier_one_does_not_fire(loop: Loop) -> None:
    seen: list[int] = []
    now = loop.time()
    later = loop.call_at(now - 1, seen.append, 2)
    loop.call_at(now - 2, later.cancel)
    turn(loop)
    assert seen == []


def test_cancel_frees_the_arguments_of_a_far_timer_at_once(loop: Loop) -> None:
    class Held:
        pass

    argument = Held()
    reference = weakref.ref(argument)
    handle = loop.call_later(3600, print, argument)
    del argument
    handle.cancel()
    assert reference() is None


def test_a_cancelled_timer_wakes_nobody(loop: Loop) -> None:
    loop.call_later(0.001, print).cancel()
    loop.call_later(0.01, loop.stop)
    before = loop.time()
    loop.run_forever()
    assert loop.time() - before >= 0.01 - 1e-6


def test_a_hundred_thousand_timers_run_in_order(loop: Loop) -> None:
    chance = random.Random(3)
    start = loop.time() - 10
    seen: list[float] = []
    handles = []
    for _ in range(100_000):
        when = start + chance.randrange(10**6) / 1e6
        handles.append(loop.call_at(when, seen.append, when))
    for handle in handles[::2]:
        handle.cancel()
    turn(loop)
    assert seen == sorted(handle.when() for handle in handles[1::2])


@pytest.mark.only("cloverleaf")  # asyncio rounds its sleep up to a whole millisecond
def test_sleep_below_a_millisecond_does_not_wait_for_a_whole_one(loop: Loop) -> None:
    async def slept() -> float:
        before = time.perf_counter()
        await asyncio.sleep(0.0002)
        return time.perf_counter() - before

    # Once is enough: the machine may be late with any of them, and nothing makes one early.
    assert any(loop.run_until_complete(slept()) < 0.0009 for _ in range(5000))


async def test_wait_for_ends_what_takes_too_long(loop: Loop) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)


async def test_timeout_at_a_past_time_ends_at_once(loop: Loop) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout_at(loop.time() - 1):
            await loop.create_future()


def test_a_callback_that_sets_an_earlier_timer_is_not_made_to_wait_for_a_later_one(
    loop: Loop,
) -> None:
    seen: list[str] = []
    loop.call_later(3600, seen.append, "late")

    def set_early() -> None:
        loop.call_later(0.001, seen.append, "early")
        loop.call_later(0.002, loop.stop)

    loop.call_soon(set_early)
    loop.run_forever()
    assert seen == ["early"]


@pytest.mark.only("cloverleaf")  # asyncio's timers follow what time() says (decision 0009)
def test_timers_follow_the_kernels_clock_whatever_time_says(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def replace_time() -> None:
        now = time.monotonic()
        loop.call_at(now + 3600, seen.append, "far")
        # By this clock the far timer is due as well.
        monkeypatch.setattr(loop, "time", lambda: now + 7200)
        loop.call_at(now + 0.01, stop)

    def stop() -> None:
        seen.append("near")
        loop.call_soon(loop.stop)

    loop.call_soon(replace_time)
    loop.run_forever()
    assert seen == ["near"]


@pytest.mark.only("cloverleaf")  # asyncio's timers follow what time() says (decision 0009)
def test_timers_do_not_stand_still_when_a_replaced_time_does(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()

    def replace_time() -> None:
        monkeypatch.setattr(loop, "time", lambda: began)
        loop.call_at(began + 0.01, loop.stop)

    loop.call_soon(replace_time)
    loop.run_forever()  # for ever, where it followed that clock: the test's deadline ends it
    assert time.monotonic() - began >= 0.01 - 2e-9


def test_a_timer_says_what_a_replaced_time_makes_of_its_delay(loop: Loop) -> None:
    with patch.object(loop, "time", lambda: 5.0):
        assert loop.call_later(1, print).when() == 6.0
        handle = loop.call_later(0.5, print)
        assert handle.when() == 5.5
        handle.cancel()
    assert abs(loop.call_later(0, print).when() - loop.time()) < 60


def test_a_timer_runs_after_its_delay_by_a_clock_that_is_ahead(loop: Loop) -> None:
    clock = loop.time
    seen: list[int] = []
    with patch.object(loop, "time", lambda: clock() + 3600):
        handle = loop.call_later(0.01, seen.append, 1)
        assert handle.when() > clock() + 3500
        turns_until(loop, lambda: seen)


def test_a_time_replaced_on_the_class_is_asked_for_a_timer(loop: Loop) -> None:
    clock = loop.time
    assert loop.call_later(0, print).when() > 0.0
    with patch.object(type(loop), "time", lambda _: -1.0):
        assert loop.call_later(1, print).when() == 0.0
        assert loop.call_later(2, print).when() == 1.0
    assert loop.call_later(0, print).when() > 0.0
    assert abs(loop.call_later(0, print).when() - clock()) < 60
