"""Many callbacks that wait at once: each is called as if it were alone, whoever has its handle."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pytest

from .harness.turns import turn
from .harness.types import Loop

MANY = 300
number: contextvars.ContextVar[int] = contextvars.ContextVar("number")


class Thing:
    """Something that can be seen to go, and that can be called."""

    def __call__(self, *_: object) -> None:
        """Do nothing."""


def fill(loop: Loop, count: int = MANY) -> None:
    for _ in repeat(None, count):
        loop.call_soon(Thing())


def on_a_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.fixture(params=["running", "stopped", "thread", "thread-beside"])
def schedule(loop: Loop, request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], None]:
    """Run a function that queues: in the loop, before it runs, or on a thread, before or beside."""

    def run(function: Callable[[], Any]) -> None:
        if request.param == "running":
            loop.call_soon(function)
            turn(loop)
        elif request.param == "thread-beside":
            loop.call_soon(on_a_thread, function)
            turn(loop)
        elif request.param == "thread":
            on_a_thread(function)
        else:
            function()

    return run


@pytest.mark.parametrize("count", range(5))
def test_each_callback_has_its_arguments_in_its_turn(
    loop: Loop, schedule: Callable[[Callable[[], Any]], None], count: int
) -> None:
    def queue() -> None:
        for value in range(MANY):
            loop.call_soon_threadsafe(lambda *args: seen.append(args), *range(value, value + count))

    seen: list[tuple[int, ...]] = []
    schedule(queue)
    turn(loop)
    assert seen == [tuple(range(value, value + count)) for value in range(MANY)]


def test_each_callback_has_the_variables_of_its_moment_or_the_context_it_is_given(
    loop: Loop, schedule: Callable[[Callable[[], Any]], None]
) -> None:
    def look() -> None:
        seen.append(number.get(-1))
        number.set(-2)

    def queue() -> None:
        for value in range(MANY):
            number.set(value)
            loop.call_soon_threadsafe(look)
        for value in range(MANY):
            given[value].run(number.set, -value)
            loop.call_soon_threadsafe(look, context=given[value])

    seen: list[int] = []
    given = [contextvars.Context() for _ in range(MANY)]
    token = number.set(0)
    schedule(queue)
    number.reset(token)
    turn(loop)
    assert seen == [*range(MANY), *range(0, -MANY, -1)]
    assert {context[number] for context in given} == {-2}


def test_handles_that_are_kept_can_be_cancelled_among_those_that_are_not(
    loop: Loop, schedule: Callable[[Callable[[], Any]], None]
) -> None:
    def queue() -> None:
        for value in range(MANY):
            handle = loop.call_soon_threadsafe(seen.append, value)
            if value % 3 == 0:
                kept.append(handle)
            if value % 7 == 0:
                handle.cancel()

    seen: list[int] = []
    kept: list[asyncio.Handle] = []
    schedule(queue)
    for handle in kept[::2]:
        handle.cancel()
    turn(loop)
    assert seen == [value for value in range(MANY) if value % 7 and value % 6]
    assert all(isinstance(handle, asyncio.Handle) for handle in kept)
    assert [handle.cancelled() for handle in kept[::2]] == [True] * len(kept[::2])


def test_a_weak_reference_to_a_handle_lives_until_its_callback_has_run(
    loop: Loop, schedule: Callable[[Callable[[], Any]], None]
) -> None:
    def queue() -> None:
        references.extend(
            weakref.ref(loop.call_soon_threadsafe(Thing())) for _ in repeat(None, MANY)
        )
        alive.append(sum(reference() is not None for reference in references))

    references: list[weakref.ref[asyncio.Handle]] = []
    alive: list[int] = []
    schedule(queue)
    turn(loop)
    alive.append(sum(reference() is not None for reference in references))
    assert alive == [MANY, 0]


def test_the_handler_hears_of_each_that_fails_with_its_handle(
    loop: Loop, schedule: Callable[[Callable[[], Any]], None]
) -> None:
    def fail(value: int) -> None:
        number.set(value)
        raise ValueError(value)

    def queue() -> None:
        for value in range(MANY):
            loop.call_soon_threadsafe(fail, value)

    def handler(_: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
        handle = told["handle"]
        assert isinstance(handle, asyncio.Handle)
        assert handle._callback is fail  # type: ignore[attr-defined]
        assert told["message"].startswith("Exception in callback ")
        seen.append((handle._args, handle._context[number], str(told["exception"])))  # type: ignore[attr-defined]

    seen: list[object] = []
    loop.set_exception_handler(handler)
    schedule(queue)
    turn(loop)
    assert seen == [((value,), value, str(value)) for value in range(MANY)]


def test_those_behind_one_that_ends_the_run_come_in_the_next(loop: Loop) -> None:
    def leave() -> None:
        raise SystemExit(3)

    def queue() -> None:
        for value in range(MANY):
            loop.call_soon(seen.append, value)
        loop.call_soon(leave)
        for value in range(MANY, 2 * MANY):
            loop.call_soon(seen.append, value)
        loop.call_soon(seen.append, -1)

    seen: list[int] = []
    loop.call_soon(queue)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert len(seen) == MANY
    turn(loop)
    assert seen == [*range(2 * MANY), -1]


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
@pytest.mark.only("cloverleaf")  # asyncio's sockets complain besides
@pytest.mark.parametrize("way", ["callback", "argument", "variable"])
def test_a_stopped_loop_in_a_cycle_with_what_waits_is_collected(
    kind_factory: Callable[[], Loop], way: str
) -> None:
    class Holds(Thing):
        def __init__(self, loop: Loop) -> None:
            self.loop = loop

    def queue(loop: Loop) -> None:
        for _ in repeat(None, MANY):
            held = Holds(loop)
            references.append(weakref.ref(held))
            if way == "callback":
                loop.call_soon(held)
            elif way == "argument":
                loop.call_soon(print, held)
            else:
                thing.set(held)
                loop.call_soon(print)

    thing: contextvars.ContextVar[Holds] = contextvars.ContextVar("thing")
    references: list[weakref.ref[Holds]] = []
    loop = kind_factory()
    loop.call_soon(loop.stop)
    loop.call_soon(queue, loop)
    loop.run_forever()
    gc.collect()
    assert all(reference() is not None for reference in references)
    del loop
    gc.collect()
    assert [reference() for reference in references] == [None] * MANY


def test_a_closed_loop_lets_go_of_what_waits(
    loop: Loop, schedule: Callable[[Callable[[], Any]], None]
) -> None:
    def queue() -> None:
        for _ in repeat(None, MANY):
            thing = Thing()
            references.append(weakref.ref(thing))
            loop.call_soon_threadsafe(thing, thing)

    references: list[weakref.ref[Thing]] = []
    schedule(queue)
    loop.close()
    assert [reference() for reference in references] == [None] * MANY


def test_what_looks_on_from_the_midst_of_the_queue_sees_the_rest(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(handle: asyncio.Handle) -> None:
        seen.append(handle)
        handle._callback(*handle._args)  # type: ignore[attr-defined]

    def queue() -> None:
        for value in range(MANY):
            loop.call_soon(called.append, value)
        monkeypatch.setattr(asyncio.Handle, "_run", look)

    seen: list[asyncio.Handle] = []
    called: list[int] = []
    loop.call_soon(queue)
    turn(loop)
    turn(loop)
    assert called == list(range(MANY))
    ours = [handle for handle in seen if handle._callback == called.append]  # type: ignore[attr-defined]
    assert [handle._args for handle in ours] == [(value,) for value in range(MANY)]


@pytest.mark.only("cloverleaf")  # asyncio's loop keeps what it reports
def test_a_field_that_was_filled_past_the_properties_goes_when_nobody_is_in_the_way(
    loop: Loop,
) -> None:
    class Uses:
        def __del__(self) -> None:
            used.append(loop.is_closed())
            loop.call_soon(Thing())

    def queue() -> None:
        for field in ("_loop", "_repr", "_context", "_cancelled", "_source_traceback"):
            fill(loop)
            descriptors[field].__set__(loop.call_soon(Thing()), Uses())
            fill(loop)

    used: list[bool] = []
    descriptors = vars(asyncio.Handle)
    loop.set_exception_handler(lambda *_: None)
    loop.call_soon(queue)
    turn(loop)
    turn(loop)
    assert used == [False] * 5
