"""Greenlets in callbacks: each has its own variables, and the loop may stand still in one."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from typing import Any

import pytest

from .harness.turns import turn
from .harness.types import Loop

greenlet: Any = pytest.importorskip("greenlet")

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")


def nothing() -> None:
    """Do as little as a callback can."""


def with_number(value: int) -> contextvars.Context:
    """Return a context in which the number is this."""
    context = contextvars.copy_context()
    context.run(number.set, value)
    return context


@pytest.mark.parametrize("is_own", [True, False])
def test_a_greenlet_that_rests_between_turns_keeps_its_variables(loop: Loop, is_own: bool) -> None:
    seen: list[int | None] = []
    main = greenlet.getcurrent()

    def count() -> None:
        while True:
            seen.append(number.get(None))
            number.set((number.get(None) or 0) + 1)
            main.switch()

    counting = greenlet.greenlet(count)

    def callback() -> None:
        counting.switch()
        seen.append(number.get())

    context = with_number(50)
    for _ in range(3):
        for _ in range(2):
            for each in (callback, nothing):
                if is_own:
                    loop.call_soon(each, context=context)
                else:
                    context.run(loop.call_soon, each)
        turn(loop)
    counting.throw()
    assert seen[::2] == [None, 1, 2, 3, 4, 5]
    assert seen[1::2] == [50] * 6
    assert number.get(None) is None


def test_a_greenlet_that_holds_a_callbacks_context_has_it_alone(loop: Loop) -> None:
    held: list[contextvars.Context] = []
    seen: list[int] = []
    main = greenlet.getcurrent()

    def callback() -> None:
        seen.append(number.get())
        greenlet.greenlet(lambda: held.append(main.gr_context)).switch()
        number.set(100)

    context = with_number(5)
    for _ in range(100):
        for each in (nothing, callback, nothing):
            context.run(loop.call_soon, each)
    turn(loop)
    assert seen == [5] * 100
    assert len({id(each) for each in held}) == 100
    assert [each[number] for each in held] == [100] * 100


def test_a_loop_stands_still_in_a_greenlet_while_another_one_runs(
    loop: Loop, request: pytest.FixtureRequest
) -> None:
    other = type(loop)()
    request.addfinalizer(other.close)
    seen: list[object] = []
    main = greenlet.getcurrent()

    def away() -> None:
        seen.append(("before", number.get()))
        asyncio._set_running_loop(None)
        said = main.switch("away")
        asyncio._set_running_loop(loop)
        seen.append((said, number.get()))

    def run() -> str:
        context = with_number(1)
        for each in (nothing, away, nothing, away, nothing, loop.stop):
            context.run(loop.call_soon, each)
        loop.run_forever()
        return "done"

    running = greenlet.greenlet(run)
    said = running.switch()
    context = with_number(2)
    while said == "away":
        assert loop.is_running()
        for _ in range(3):
            context.run(other.call_soon, lambda: seen.append(number.get()))
        turn(other)
        said = running.switch("back")
    assert said == "done"
    assert running.dead
    assert not loop.is_running()
    assert seen == [("before", 1), 2, 2, 2, ("back", 1)] * 2
    assert number.get(None) is None


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, ValueError, greenlet.GreenletExit]
)
def test_what_is_thrown_into_a_loop_that_stands_still(
    loop: Loop, error: type[BaseException]
) -> None:
    told: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    main = greenlet.getcurrent()
    ended: list[object] = []

    def away() -> None:
        asyncio._set_running_loop(None)
        try:
            main.switch()
        finally:
            asyncio._set_running_loop(loop)

    def run() -> None:
        with_number(1).run(loop.call_soon, away)
        loop.call_soon(loop.stop)
        try:
            loop.run_forever()
        except BaseException as raised:
            ended.append(type(raised))
        ended.append(number.get(None))

    running = greenlet.greenlet(run)
    running.switch()
    running.throw(error)
    assert running.dead
    if error in (KeyboardInterrupt, SystemExit):
        assert (ended, told) == ([error, None], [])
    else:
        assert (ended, [type(each) for each in told]) == ([None], [error])
    turn(loop)


def test_a_protocol_that_stands_still_has_written_what_it_wrote(loop: Loop) -> None:
    main = greenlet.getcurrent()
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)

    class Halting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.WriteTransport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            asyncio._set_running_loop(None)
            main.switch(data)
            asyncio._set_running_loop(loop)
            self.transport.write(data.upper())

        def connection_lost(self, _: Exception | None) -> None:
            loop.stop()

    def run() -> str:
        loop.run_until_complete(loop.create_connection(Halting, sock=ours))
        loop.run_forever()
        return "done"

    running = greenlet.greenlet(run)
    theirs.send(b"a")
    assert running.switch() == b"a"
    theirs.send(b"b")
    assert running.switch() == b"b"
    assert theirs.recv(1) == b"A"
    theirs.shutdown(socket.SHUT_WR)
    assert running.switch() == "done"
    assert theirs.recv(10) == b"B"
    theirs.close()


async def test_what_a_greenlet_awaits_is_awaited_by_its_task(loop: Loop) -> None:
    def wait_for(awaitable: Any) -> Any:
        return greenlet.getcurrent().parent.switch(awaitable)

    async def spawn(function: Any, *args: object) -> Any:
        child = greenlet.greenlet(function)
        child.gr_context = greenlet.getcurrent().gr_context
        result = child.switch(*args)
        while not child.dead:
            try:
                value = await result
            except BaseException as error:
                result = child.throw(error)
            else:
                result = child.switch(value)
        return result

    def work(value: int) -> tuple[int, int, bool]:
        number.set(value)
        wait_for(asyncio.sleep(0))
        future = loop.create_future()
        loop.call_soon(future.set_result, value)
        answer = wait_for(future)
        failing = loop.create_future()
        loop.call_soon(failing.set_exception, LookupError("of the future"))
        try:
            wait_for(failing)
        except LookupError:
            return answer, number.get(), True
        return answer, number.get(), False

    async def task(value: int) -> tuple[Any, int]:
        return await spawn(work, value), number.get()

    results = await asyncio.gather(*(task(value) for value in range(5)))
    assert [each for each, _ in results] == [(value, value, True) for value in range(5)]
    assert [value for _, value in results] == list(range(5))
    assert number.get(None) is None
