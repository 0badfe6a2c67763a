"""Each callback has a context of its own, whatever has become of those before it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref
from itertools import repeat

import pytest

from .harness.turns import turn
from .harness.types import Loop

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")
thing: contextvars.ContextVar[object] = contextvars.ContextVar("thing")


def context_of(handle: asyncio.Handle) -> contextvars.Context:
    """Return the context of a handle, as every version of Python has it."""
    context: contextvars.Context = vars(asyncio.Handle)["_context"].__get__(handle)
    return context


def search() -> list[contextvars.Context]:
    """Return every context that the collector knows, those set aside by the harness too."""
    gc.unfreeze()
    found = [thing for thing in gc.get_objects() if type(thing) is contextvars.Context]
    gc.freeze()
    return found


class Thing:
    """Something that can be seen to go."""


def test_a_variable_of_an_earlier_callback_is_not_set_in_a_later_one(loop: Loop) -> None:
    seen: list[int | None] = []

    def callback(value: int) -> None:
        seen.append(number.get(None))
        number.set(value)

    for _ in repeat(None, 3):
        for value in range(20):
            loop.call_soon(callback, value)
            loop.call_later(0, callback, value)
        turn(loop)
    turn(loop)
    assert seen == [None] * 120


def test_a_context_has_the_variables_of_the_moment_when_the_callback_was_scheduled(
    loop: Loop,
) -> None:
    seen = []

    def schedule() -> None:
        for value in range(20):
            number.set(value)
            loop.call_soon(lambda: seen.append(number.get()))

    for _ in repeat(None, 3):
        loop.call_soon(schedule)
        turn(loop)
        turn(loop)
    assert seen == list(range(20)) * 3


def test_a_value_goes_with_the_last_callback_that_could_see_it(loop: Loop) -> None:
    references = []
    left = []

    def callback() -> None:
        value = Thing()
        thing.set(value)
        references.append(weakref.ref(value))

    def count() -> None:
        left.append(sum(reference() is not None for reference in references))

    for _ in repeat(None, 10):
        loop.call_soon(callback)
    loop.call_soon(count)
    turn(loop)
    assert left == [0]


def test_the_context_of_a_handle_that_is_kept_stays_as_its_callback_left_it(loop: Loop) -> None:
    handles = [loop.call_soon(number.set, value) for value in range(10)]
    contexts = [context_of(handle) for handle in handles[5:]]
    del handles[5:]
    for _ in repeat(None, 3):
        for _ in repeat(None, 20):
            loop.call_soon(number.set, -1)
        turn(loop)
    contexts = [context_of(handle) for handle in handles] + contexts
    assert [context[number] for context in contexts] == list(range(10))


def test_a_weak_reference_to_a_context_ends_with_it(loop: Loop) -> None:
    references = [weakref.ref(context_of(loop.call_soon(print))) for _ in range(5)]
    loop.call_soon(number.set, 1)
    turn(loop)
    loop.call_soon(number.set, 2)
    turn(loop)
    assert [reference() for reference in references] == [None] * 5


def test_a_context_that_somebody_has_found_is_nobody_elses(loop: Loop) -> None:
    for _ in repeat(None, 50):
        loop.call_soon(number.set, 1)
    turn(loop)
    found = search()
    before = [dict(context) for context in found]
    assert found
    for _ in repeat(None, 100):
        loop.call_soon(number.set, 2)
    turn(loop)
    assert [dict(context) for context in found] == before


@pytest.mark.only("cloverleaf")  # asyncio keeps none
def test_code_that_runs_when_a_context_that_was_found_goes_may_use_the_loop(loop: Loop) -> None:
    class Uses:
        def __del__(self) -> None:
            used.append(repr(loop))
            if not loop.is_closed():
                loop.call_soon(used.append, "called")
                loop.remove_reader(0)

    used: list[str] = []
    # So many that a loop gives some of them back before it sleeps.
    for _ in repeat(None, 20_000):
        loop.call_soon(number.set, 1)
    turn(loop)
    found = [context for context in search() if not context][::50]
    for context in found:
        # One that is in use refuses.
        with contextlib.suppress(RuntimeError):
            context.run(thing.set, Uses())
    assert found
    del found, context
    for _ in repeat(None, 5):
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    # Every spare one is used, and what was planted goes.
    for _ in repeat(None, 20_000):
        loop.call_soon(number.set, 1)
    turn(loop)
    assert used


@pytest.mark.parametrize("has_variable", [True, False])
def test_a_thread_hands_its_own_variables_over(loop: Loop, has_variable: bool) -> None:
    seen: list[int | None] = []

    def call() -> None:
        if has_variable:
            number.set(7)
        for _ in repeat(None, 20):
            loop.call_soon_threadsafe(lambda: seen.append(number.get(None)))

    def schedule() -> None:
        for _ in repeat(None, 20):
            loop.call_soon(number.set, 3)

    token = number.set(-1)
    for _ in repeat(None, 2):
        loop.call_soon(schedule)
        turn(loop)
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        turn(loop)
    number.reset(token)
    assert seen == [7 if has_variable else None] * 40
