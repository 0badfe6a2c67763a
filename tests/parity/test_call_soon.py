"""``call_soon``: first in, first out, and one turn runs exactly what was ready before it."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest

from .harness.turns import turn
from .harness.types import Loop

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


def test_order_callbacks_run_first_in_first_out(loop: Loop) -> None:
    seen: list[int] = []
    for n in range(1000):
        loop.call_soon(seen.append, n)
    turn(loop)
    assert seen == list(range(1000))


def test_a_turn_runs_exactly_the_jobs_that_were_ready(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.call_soon(seen.append, "scheduled by first")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    turn(loop)
    assert seen == ["first", "second"]
    turn(loop)
    assert seen == ["first", "second", "scheduled by first"]


def test_a_turn_ends_though_its_callback_schedules_itself(loop: Loop) -> None:
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        loop.call_soon(again)

    loop.call_soon(again)
    for expected in range(1, 6):
        turn(loop)
        assert count == expected


def test_callbacks_after_stop_in_the_same_turn_still_run(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "after stop")
    loop.run_forever()
    assert seen == ["after stop"]


def test_due_timers_run_behind_the_jobs_that_were_ready(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_at(loop.time() - 1, seen.append, "timer")
    loop.call_soon(seen.append, "job")
    turn(loop)
    assert seen == ["job", "timer"]


def test_arguments_are_passed_on_unchanged(loop: Loop) -> None:
    seen: list[tuple[object, ...]] = []

    def callback(*args: object) -> None:
        seen.append(args)

    passed: list[tuple[object, ...]] = [tuple(range(n)) for n in range(8)]
    for args in passed:
        loop.call_soon(callback, *args)
    turn(loop)
    assert seen == passed


def test_the_return_value_is_ignored(loop: Loop) -> None:
    loop.call_soon(lambda: 42)
    turn(loop)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_keyword_arguments_for_the_callback_are_refused(loop: Loop, method: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        getattr(loop, method)(print, sep="-")


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_a_callback_must_be_given(loop: Loop, method: str) -> None:
    with pytest.raises(TypeError):
        getattr(loop, method)()


def test_callback_may_be_given_by_name(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_soon(callback=lambda: seen.append(1))
    loop.call_soon_threadsafe(callback=lambda: seen.append(2))
    loop.call_later(delay=0, callback=lambda: seen.append(3))
    loop.call_at(when=0, callback=lambda: seen.append(4))
    turn(loop)
    assert sorted(seen) == [1, 2, 3, 4]


def test_a_callback_that_cannot_be_called_is_reported_when_it_runs(
    loop: Loop, contexts: list[dict[str, Any]]
) -> None:
    not_callable: Any = 42
    loop.call_soon(not_callable)
    turn(loop)
    assert isinstance(contexts[0]["exception"], TypeError)


def test_the_context_is_copied_when_scheduled(loop: Loop) -> None:
    seen: list[int] = []
    token = number.set(1)
    loop.call_soon(lambda: seen.append(number.get()))
    number.reset(token)
    turn(loop)
    assert seen == [1]


def test_a_change_of_a_variable_stays_in_the_callbacks_context(loop: Loop) -> None:
    loop.call_soon(number.set, 7)
    turn(loop)
    assert number.get() == 0


def test_a_given_context_is_entered_and_shared(loop: Loop) -> None:
    context = contextvars.copy_context()
    seen: list[int] = []
    loop.call_soon(number.set, 5, context=context)
    loop.call_soon(lambda: seen.append(number.get()), context=context)
    loop.call_soon_threadsafe(lambda: seen.append(number.get()), context=context)
    loop.call_later(0, lambda: seen.append(number.get()), context=context)
    turn(loop)
    turn(loop)
    assert seen == [5, 5, 5]
    assert context[number] == 5


def test_callbacks_of_one_turn_do_not_see_each_others_variables(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_soon(number.set, 9)
    loop.call_soon(lambda: seen.append(number.get()))
    turn(loop)
    assert seen == [0]


def test_call_soon_and_call_soon_threadsafe_keep_one_order(loop: Loop) -> None:
    seen: list[int] = []
    for n in range(0, 100, 2):
        loop.call_soon(seen.append, n)
        loop.call_soon_threadsafe(seen.append, n + 1)
    turn(loop)
    turn(loop)
    assert seen == list(range(100))


def test_call_soon_and_call_soon_threadsafe_keep_one_order_inside_a_callback(loop: Loop) -> None:
    seen: list[int] = []

    def schedule() -> None:
        for n in range(0, 20, 2):
            loop.call_soon_threadsafe(seen.append, n)
            loop.call_soon(seen.append, n + 1)
        loop.call_soon(loop.stop)

    loop.call_soon(schedule)
    loop.run_forever()
    assert seen == list(range(20))
