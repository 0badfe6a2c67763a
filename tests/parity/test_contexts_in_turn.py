"""Callbacks that follow each other with the same variables, or in the same context."""

from __future__ import annotations

import contextvars
import ctypes
import gc
import os
import signal
import threading
import time
import weakref
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

import pytest

from .harness.turns import turn

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .harness.types import Loop

DEADLINE = 60

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")
thing: contextvars.ContextVar[object] = contextvars.ContextVar("thing")


class Thing:
    """Something that can be seen to go."""


class Teller:
    """Says which variables are there when it goes."""

    def __init__(self, told: list[int | None]) -> None:
        self.told = told

    def __call__(self, *_: object) -> None:
        """Do nothing."""

    def __del__(self) -> None:
        self.told.append(number.get(None))


def nothing(*_: object) -> None:
    """Do as little as a callback can."""


def with_number(value: int) -> contextvars.Context:
    """Return a context in which the number is this."""
    context = contextvars.copy_context()
    context.run(number.set, value)
    return context


@pytest.mark.parametrize("count", [3, 200])
@pytest.mark.parametrize("is_own", [True, False])
def test_what_goes_with_a_callback_goes_outside_of_its_context(
    loop: Loop, count: int, is_own: bool
) -> None:
    told: list[int | None] = []
    context = with_number(1)
    for _ in repeat(None, count):
        if is_own:
            loop.call_soon(nothing, Teller(told), context=context)
            loop.call_soon(nothing, context=context)
        else:
            context.run(loop.call_soon, nothing, Teller(told))
            context.run(loop.call_soon, nothing)
        context.run(loop.call_soon, nothing, 1, 2, Teller(told))
        context.run(loop.call_soon, nothing, 1, 2, 3, Teller(told))
        context.run(loop.call_later, 0, nothing, Teller(told))
        context.run(loop.call_soon, partial(nothing, Teller(told)))
        teller = Teller(told)
        context.run(loop.call_soon, nothing, teller, teller)
        context.run(loop.call_soon, nothing, 1, teller := Teller(told), teller)
        teller = Teller(told)
        if is_own:
            loop.call_soon(teller, teller, context=context)
        else:
            context.run(loop.call_soon, teller, teller)
        del teller
    while len(told) < 8 * count:
        turn(loop)
    assert told == [None] * (8 * count)


def test_a_value_goes_with_the_last_callback_that_has_it(loop: Loop) -> None:
    left: list[bool] = []

    def look(reference: weakref.ref[Thing]) -> None:
        left.append(reference() is not None)

    for _ in repeat(None, 3):
        context = contextvars.copy_context()
        value = Thing()
        context.run(thing.set, value)
        reference = weakref.ref(value)
        for _ in repeat(None, 5):
            context.run(loop.call_soon, nothing)
        del context, value
        loop.call_soon(look, reference)
        turn(loop)
    assert left == [False] * 3


@pytest.mark.parametrize("count", [3, 200])
def test_a_context_given_to_several_callbacks_is_free_for_those_of_others(
    loop: Loop, count: int
) -> None:
    seen: list[object] = []
    context = with_number(0)

    def within() -> None:
        number.set(number.get() + 1)
        try:
            context.run(nothing)
        except RuntimeError as error:
            seen.append("is already entered" in str(error))

    def beside() -> None:
        seen.append((number.get(None), context.run(number.get)))

    for _ in repeat(None, count):
        loop.call_soon(within, context=context)
        loop.call_soon(within, context=context)
        loop.call_soon(beside)
    turn(loop)
    assert seen == [each for done in range(1, count + 1) for each in (True, True, (None, 2 * done))]
    assert context.run(number.get) == 2 * count


def test_what_a_signals_handler_sets_is_not_the_next_callbacks(loop: Loop) -> None:
    # By C's own function, which runs no handler: Python does so when the turn has ended.
    kill = ctypes.PyDLL(None).kill
    process = os.getpid()
    seen: list[int] = []
    handled: list[int] = []
    context = with_number(5)

    def handler(signum: int, _frame: object) -> None:
        handled.append(signum)
        number.set(6)

    def step(left: int) -> None:
        seen.append(number.get())
        if left:
            context.run(loop.call_soon, step, left - 1)
        else:
            loop.stop()
        context.run(loop.call_soon, kill, process, signal.SIGUSR1)

    token = number.set(0)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        context.run(loop.call_soon, step, 50)
        loop.run_forever()
        turn(loop)
    finally:
        signal.signal(signal.SIGUSR1, before)
        number.reset(token)
    assert seen == [5] * 51
    assert len(handled) == 51


def test_a_callbacks_changes_are_not_those_of_the_next_one(loop: Loop) -> None:
    seen: list[int] = []
    context = with_number(5)

    def look(value: int) -> None:
        seen.append(number.get())
        number.set(value)

    for value in range(200):
        context.run(loop.call_soon, nothing)
        context.run(loop.call_soon, look, value)
        context.run(loop.call_soon, nothing)
    turn(loop)
    assert seen == [5] * 200


def test_a_variable_that_was_set_back_is_none_of_the_next_ones_business(loop: Loop) -> None:
    refused: list[bool] = []
    tokens: list[contextvars.Token[int]] = []
    context = with_number(5)

    def take() -> None:
        number.reset(number.set(6))
        tokens.append(number.set(7))
        number.set(5)

    def reset() -> None:
        with pytest.raises(ValueError, match="was created in a different Context"):
            number.reset(tokens.pop())
        refused.append(number.get() == 5)

    for _ in repeat(None, 100):
        context.run(loop.call_soon, take)
        context.run(loop.call_soon, reset)
    turn(loop)
    assert refused == [True] * 100


def test_a_token_is_of_no_use_to_the_next_callback(loop: Loop) -> None:
    refused: list[bool] = []
    tokens: list[contextvars.Token[int]] = []
    context = with_number(5)

    def take() -> None:
        # The same object: the variables stay what they are.
        tokens.append(number.set(5))

    def reset() -> None:
        with pytest.raises(ValueError, match="was created in a different Context"):
            number.reset(tokens.pop())
        refused.append(True)

    for _ in repeat(None, 100):
        context.run(loop.call_soon, take)
        context.run(loop.call_soon, reset)
    turn(loop)
    assert refused == [True] * 100


def test_each_callback_of_a_chain_has_what_the_one_before_had_set(loop: Loop) -> None:
    seen: list[tuple[int, bool]] = []

    def step(left: int, changes: bool) -> None:
        if changes:
            number.set(number.get() + 1)
        seen.append((number.get(), changes))
        if left:
            loop.call_soon(step, left - 1, left % 3 == 0)
        else:
            loop.stop()

    with_number(0).run(loop.call_soon, step, 30, False)
    loop.run_forever()
    assert [value for value, _ in seen] == [(place + 2) // 3 if place else 0 for place in range(31)]
    assert number.get(None) is None


def is_entered(context: contextvars.Context) -> bool:
    """Return whether a context is in use."""
    try:
        context.run(nothing)
    except RuntimeError:
        return True
    return False


def test_who_finds_the_context_of_a_callback_has_it_alone(loop: Loop) -> None:
    found: list[contextvars.Context] = []
    context = with_number(5)

    def search() -> None:
        gc.unfreeze()
        every = [each for each in gc.get_objects() if type(each) is contextvars.Context]
        gc.freeze()
        found.extend(filter(is_entered, every))

    for _ in repeat(None, 3):
        context.run(loop.call_soon, nothing)
    context.run(loop.call_soon, search)
    context.run(loop.call_soon, nothing)

    def change() -> None:
        # A function of ours: a bound method would go with its call, which is then made alone.
        number.set(6)

    for _ in repeat(None, 100):
        context.run(loop.call_soon, change)
    turn(loop)
    # That of whoever runs the loop may be found, too.
    assert [each[number] for each in found if number in each] == [5]


@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_run_leaves_the_context_as_it_was(
    loop: Loop, is_own: bool, error: type[BaseException]
) -> None:
    context = with_number(5)
    seen: list[int | None] = []

    def schedule(callback: Callable[[], None]) -> None:
        if is_own:
            loop.call_soon(callback, context=context)
        else:
            context.run(loop.call_soon, callback)

    def fail() -> None:
        seen.append(number.get(None))
        raise error

    loop.set_exception_handler(nothing)
    for _ in repeat(None, 3):
        for callback in (nothing, nothing, fail, nothing):
            schedule(callback)
        try:
            turn(loop)
        except (KeyboardInterrupt, SystemExit):
            seen.append(number.get(None))
            turn(loop)
        assert number.get(None) is None
        assert context.run(number.get) == 5
    assert [value for value in seen if value] == [5] * 3


@pytest.mark.parametrize("count", [2, 100])
def test_a_loop_that_waits_is_in_no_context(loop: Loop, count: int) -> None:
    context = with_number(5)
    arrived: list[int] = []

    def enter() -> None:
        end = time.monotonic() + DEADLINE
        while not arrived and time.monotonic() < end:
            try:
                arrived.append(context.run(number.get))
            except RuntimeError:
                continue
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=enter)
    for _ in repeat(None, count):
        loop.call_soon(nothing, context=context)
    loop.call_soon(thread.start, context=context)
    loop.call_soon(nothing, context=context)
    loop.run_forever()
    thread.join()
    assert arrived == [5]


def test_a_handle_that_was_cancelled_by_the_one_before_does_not_run(loop: Loop) -> None:
    seen: list[str] = []
    handles: list[asyncio.Handle] = []
    context = with_number(5)
    context.run(loop.call_soon, nothing)
    context.run(loop.call_soon, lambda: handles.pop().cancel())
    handles.append(context.run(loop.call_soon, seen.append, "cancelled"))
    context.run(loop.call_soon, seen.append, "after")
    turn(loop)
    assert seen == ["after"]


def test_a_handle_that_is_kept_runs_in_the_context_of_those_before(loop: Loop) -> None:
    seen: list[int] = []
    handles: list[asyncio.Handle] = []
    context = with_number(5)

    def look() -> None:
        seen.append(number.get())

    # Only what the running loop schedules itself is kept without a handle.
    def schedule() -> None:
        for _ in repeat(None, 200):
            loop.call_soon(nothing, context=context)
            loop.call_soon(nothing, context=context)
            handles.append(loop.call_soon(look, context=context))

    loop.call_soon(schedule)
    turn(loop)
    turn(loop)
    assert seen == [5] * 200


def test_what_goes_with_a_callback_may_enter_the_context_it_was_given(loop: Loop) -> None:
    entered: list[int] = []
    context = with_number(5)

    class Enterer:
        def __call__(self, *_: object) -> None:
            """Do nothing."""

        def __del__(self) -> None:
            entered.append(context.run(number.get))

    def schedule() -> None:
        for _ in repeat(None, 200):
            loop.call_soon(nothing, Enterer(), context=context)
            enterer = Enterer()
            loop.call_soon(enterer, enterer, context=context)
            del enterer
            loop.call_soon(nothing, context=context)

    loop.call_soon(schedule)
    turn(loop)
    turn(loop)
    assert entered == [5] * 400


def test_a_loop_that_waits_keeps_nobodys_variables(loop: Loop) -> None:
    class Stopper:
        def __del__(self) -> None:
            loop.call_soon_threadsafe(stopped.append, True)
            loop.call_soon_threadsafe(loop.stop)

    stopped: list[bool] = []
    context = contextvars.copy_context()
    context.run(thing.set, Stopper())
    context.run(loop.call_soon, nothing)
    context.run(loop.call_soon, nothing)
    del context
    late = loop.call_later(DEADLINE, loop.stop)
    loop.run_forever()
    late.cancel()
    assert stopped == [True]


@pytest.mark.parametrize("is_own", [True, False])
def test_what_a_callback_lets_go_of_goes_outside_of_its_context(loop: Loop, is_own: bool) -> None:
    told: list[int | None] = []
    tellers: list[Teller] = []
    context = with_number(5)

    def let_go(teller: Teller) -> None:
        # The call has the last reference from now on.
        tellers.remove(teller)

    def schedule() -> None:
        for _ in repeat(None, 200):
            tellers.append(Teller(told))
            if is_own:
                loop.call_soon(let_go, tellers[-1], context=context)
            else:
                context.run(loop.call_soon, let_go, tellers[-1])

    loop.call_soon(schedule)
    turn(loop)
    turn(loop)
    assert told == [None] * 200
