"""Each callback has a context of its own, whatever has become of those before it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import signal
import sys
import sysconfig
import threading
import weakref
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, cast

import pytest

from .harness.turns import turn
from .harness.types import Context, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")
thing: contextvars.ContextVar[object] = contextvars.ContextVar("thing")


def context_of(handle: asyncio.Handle) -> contextvars.Context:
    """Return the context of a handle, as every version of Python has it."""
    context: contextvars.Context = attrgetter("_context")(handle)
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


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="none is kept without the GIL"
)
@pytest.mark.only("cloverleaf")  # asyncio keeps none
def test_code_that_runs_when_a_context_that_was_found_goes_may_use_the_loop(loop: Loop) -> None:
    class Uses:
        def __del__(self) -> None:
            used.append(repr(loop))
            if not loop.is_closed():
                loop.call_soon(used.append, "called")
                loop.remove_reader(0)

    used: list[str] = []
    loop.call_soon(number.set, 1)
    turn(loop)
    for context in [context for context in search() if not context]:
        # One that is in use refuses.
        with contextlib.suppress(RuntimeError):
            context.run(thing.set, Uses())
    del context
    # The spare one is used, and what was planted goes.
    for _ in repeat(None, 3):
        loop.call_soon(number.set, 1)
        turn(loop)
    assert "called" in used


def test_what_is_set_after_the_callback_was_scheduled_is_not_seen(loop: Loop) -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append((number.get(None), thing.get(None)))

    def schedule() -> None:
        token = number.set(1)
        handles.append(loop.call_soon(look))
        loop.call_soon(look)
        loop.call_later(0, look)
        loop.call_soon_threadsafe(look)
        number.set(2)
        thing.set("later")
        number.reset(token)

    handles: list[asyncio.Handle] = []
    loop.call_soon(schedule)
    while len(seen) < 4:
        turn(loop)
    assert seen == [(1, None)] * 4


@pytest.mark.parametrize("way", ["soon", "later", "threadsafe"])
@pytest.mark.parametrize("asked", ["before", "within", "after"])
def test_a_handles_context_is_one_and_the_one_that_its_callback_runs_in(
    loop: Loop, way: str, asked: str
) -> None:
    def callback() -> None:
        assert number.get() == 5
        number.set(6)
        if asked == "within":
            contexts.append(context_of(handle))

    def schedule() -> asyncio.Handle:
        number.set(5)
        if way == "soon":
            return loop.call_soon(callback)
        if way == "later":
            return loop.call_later(0, callback)
        return loop.call_soon_threadsafe(callback)

    contexts: list[contextvars.Context] = []
    handle = contextvars.copy_context().run(schedule)
    if asked == "before":
        contexts.append(context_of(handle))
        assert contexts[0][number] == 5
    for _ in repeat(None, 3):
        turn(loop)
    contexts += [context_of(handle), context_of(handle)]
    assert all(type(context) is contextvars.Context for context in contexts)
    assert {id(context) for context in contexts} == {id(contexts[0])}
    assert contexts[0][number] == 6


def test_a_cancelled_handle_keeps_its_context(loop: Loop) -> None:
    token = number.set(3)
    handle = loop.call_soon(print)
    number.reset(token)
    handle.cancel()
    turn(loop)
    assert context_of(handle)[number] == 3
    assert context_of(handle) is context_of(handle)


def test_the_handler_sees_the_context_that_the_callback_failed_in(loop: Loop) -> None:
    def fail() -> None:
        number.set(8)
        raise ValueError("as it should")

    seen: list[object] = []
    loop.set_exception_handler(lambda _, told: seen.append(context_of(told["handle"])[number]))
    loop.call_soon(fail)
    kept = loop.call_soon(fail)
    loop.call_soon_threadsafe(fail)
    turn(loop)
    assert seen == [8, 8, 8]
    assert context_of(kept)[number] == 8


def test_a_token_is_of_its_callbacks_context_alone(loop: Loop) -> None:
    def take() -> None:
        tokens.append(number.set(1))

    def reset() -> None:
        try:
            number.reset(tokens[-1])
        except ValueError as error:
            refused.append(str(error))

    tokens: list[contextvars.Token[int]] = []
    refused: list[str] = []
    for _ in repeat(None, 3):
        for callback in (take, reset, take, reset):
            loop.call_soon(callback)
        turn(loop)
    assert len(refused) == 6
    assert all("was created in a different Context" in text for text in refused)


def test_a_context_cannot_be_entered_again_from_its_callback(loop: Loop) -> None:
    def callback() -> None:
        try:
            context_of(handle).run(print)
        except RuntimeError as error:
            refused.append(str(error))

    refused: list[str] = []
    handle = loop.call_soon(callback)
    turn(loop)
    assert len(refused) == 1
    assert "is already entered" in refused[0]


def test_a_handle_in_a_cycle_through_its_variables_is_collected(loop: Loop) -> None:
    def schedule() -> asyncio.Handle:
        value = Thing()
        thing.set(value)
        value.handle = loop.call_later(3600, print)  # type: ignore[attr-defined]
        references.append(weakref.ref(value))
        return value.handle  # type: ignore[attr-defined,no-any-return]

    references: list[weakref.ref[Thing]] = []
    contextvars.copy_context().run(schedule).cancel()
    contextvars.copy_context().run(schedule).cancel()
    turn(loop)
    gc.collect()
    assert [reference() for reference in references] == [None, None]


class Stranger:
    """No context, but something that can run what is to run in it."""

    def __init__(self, runs: list[int]) -> None:
        self.runs = runs

    def run(self, callback: Callable[..., object], *args: object) -> object:
        self.runs.append(len(args))
        return callback(*args)


@pytest.mark.parametrize("count", [0, 1, 3, 5])
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_stranger_runs_what_it_was_given_as_the_context_of(
    loop: Loop, count: int, is_kept: bool
) -> None:
    runs: list[int] = []
    seen: list[tuple[object, ...]] = []
    stranger = cast("contextvars.Context", Stranger(runs))
    args = tuple(range(count))

    def callback(*got: object) -> None:
        seen.append(got)

    handles: list[asyncio.Handle] = []
    ways: list[Callable[..., asyncio.Handle]] = [
        loop.call_soon,
        partial(loop.call_later, 0),
        loop.call_soon_threadsafe,
    ]
    for way in ways:
        handles.append(way(callback, *args, context=stranger))
        if not is_kept:
            handles.clear()
    turn(loop)
    turn(loop)
    assert runs == [count] * 3
    assert seen == [args] * 3


def test_a_stranger_runs_the_steps_of_a_task_and_the_callbacks_of_a_future(loop: Loop) -> None:
    runs: list[int] = []
    stranger = cast("contextvars.Context", Stranger(runs))

    async def work() -> int:
        await asyncio.sleep(0)
        waited = loop.create_future()
        loop.call_soon(waited.set_result, 5)
        return int(await waited)

    seen: list[object] = []
    future = loop.create_future()
    future.add_done_callback(seen.append, context=stranger)
    future.set_result(None)
    turn(loop)
    assert seen == [future]
    assert runs == [1]
    if sys.version_info >= (3, 15):
        return  # a task refuses what is no Context
    task = asyncio.Task(work(), loop=loop, context=stranger)
    assert loop.run_until_complete(asyncio.wait_for(task, 60)) == 5
    assert len(runs) == 4


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_error_of_a_stranger_is_reported_as_the_callbacks(
    loop: Loop, contexts: list[Context], is_kept: bool
) -> None:
    class Unable:
        def run(self, callback: Callable[..., object], *args: object) -> object:
            if callback is print:
                raise ValueError("not in here")
            return callback(*args)  # the handler, since 3.12

    kept = [
        loop.call_soon(print, "lost", context=cast("contextvars.Context", stranger))
        for stranger in (Unable(), object())
    ]
    if not is_kept:
        kept.clear()
    turn(loop)
    assert [repr(told["exception"]) for told in contexts] == [
        "ValueError('not in here')",
        """AttributeError("'object' object has no attribute 'run'")""",
    ]
    assert all(told["message"].startswith("Exception in callback print(") for told in contexts)


def test_callbacks_that_run_within_each_other_have_contexts_of_their_own(loop: Loop) -> None:
    def inner(value: int) -> None:
        seen.append(number.get(None))
        number.set(value)

    def outer() -> None:
        number.set(1)
        for value in (2, 3):
            handle = loop.call_soon(inner, value)
            handle._run()
            handle.cancel()
        seen.append(number.get())

    seen: list[int | None] = []
    loop.call_soon(outer)
    loop.call_soon(inner, 4)
    turn(loop)
    assert seen == [1, 1, 1, None]


def test_a_signal_handler_has_the_variables_of_the_moment_when_it_was_set(loop: Loop) -> None:
    def handler() -> None:
        seen.append(number.get(None))
        number.set(0)
        if len(seen) == 3:
            loop.stop()
        else:
            signal.raise_signal(signal.SIGUSR1)

    seen: list[int | None] = []
    token = number.set(9)
    loop.add_signal_handler(signal.SIGUSR1, handler)
    number.reset(token)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert len(seen) == 3
    assert seen[0] == 9


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
