"""The exception handler: what it is told, and what a broken one cannot break."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
import traceback
from typing import Any

import pytest

from .harness.complaints import Complaints
from .harness.links import tcp_pair
from .harness.protocols import Recorder
from .harness.turns import turn, turns_until, until
from .harness.types import Context, Loop


def fail(*_args: object) -> None:
    raise ZeroDivisionError("by intent")


def test_exceptions_of_a_callback_reach_the_handler(loop: Loop, contexts: list[Context]) -> None:
    handle = loop.call_soon(fail, 1)
    turn(loop)
    (context,) = contexts
    assert set(context) == {"message", "exception", "handle"}
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback fail(")
    assert "test_exception_handler.py" in context["message"]


@pytest.mark.parametrize("method", ["call_soon_threadsafe", "call_later", "call_at"])
def test_exceptions_of_every_kind_of_callback_reach_the_handler(
    loop: Loop, contexts: list[Context], method: str
) -> None:
    when = (0,) if method in {"call_later", "call_at"} else ()
    handle = getattr(loop, method)(*when, fail)
    turn(loop)
    assert [context["handle"] for context in contexts] == [handle]
    assert isinstance(contexts[0]["exception"], ZeroDivisionError)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
@pytest.mark.parametrize("no_context", [1, "x"])
def test_what_is_no_context_fails_when_the_callback_is_to_run(
    loop: Loop, contexts: list[Context], method: str, no_context: Any
) -> None:
    when = (0,) if method in {"call_later", "call_at"} else ()
    handle = getattr(loop, method)(*when, fail, context=no_context)
    assert contexts == []
    turn(loop)
    (context,) = contexts
    assert set(context) == {"message", "exception", "handle"}
    assert context["handle"] is handle
    assert type(context["exception"]) is AttributeError
    name = type(no_context).__name__
    assert str(context["exception"]) == f"'{name}' object has no attribute 'run'"


def test_exceptions_keep_the_traceback(loop: Loop, contexts: list[Context]) -> None:
    loop.call_soon(fail)
    turn(loop)
    names = []
    traceback = contexts[0]["exception"].__traceback__
    while traceback:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names[-1] == "fail"


def test_the_handler_is_called_with_loop_and_context(loop: Loop) -> None:
    seen: list[tuple[object, ...]] = []
    loop.set_exception_handler(lambda *args: seen.append(args))
    loop.call_soon(fail)
    turn(loop)
    assert seen[0][0] is loop
    assert len(seen[0]) == 2


def test_the_other_callbacks_of_the_turn_still_run(loop: Loop, contexts: list[Context]) -> None:
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(fail)
    loop.call_soon(seen.append, 2)
    turn(loop)
    assert seen == [1, 2]
    assert len(contexts) == 1


def test_by_default_the_exception_is_logged(loop: Loop, logged: Complaints) -> None:
    loop.call_soon(fail)
    turn(loop)
    (message,) = logged.take()
    assert "Exception in callback fail()" in message
    assert "ZeroDivisionError: by intent" in message
    assert "handle: <Handle fail()" in message


def test_get_exception_handler_returns_what_was_set(loop: Loop) -> None:
    assert loop.get_exception_handler() is None

    def handler(_loop: Loop, _context: Context) -> None:
        """Ignore everything."""

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_a_handler_must_be_callable(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"A callable object or None is expected, got 'nothing'"):
        loop.set_exception_handler("nothing")  # type: ignore[arg-type]


def test_call_exception_handler_passes_the_context_on(loop: Loop, contexts: list[Context]) -> None:
    context = {"message": "told", "own": 1}
    loop.call_exception_handler(context)
    assert contexts == [context]


def test_default_exception_handler_logs_every_key(loop: Loop, logged: Complaints) -> None:
    loop.default_exception_handler({"message": "told", "own key": [1, 2]})
    loop.default_exception_handler({})
    messages = logged.take()
    assert messages[0].startswith("told")
    assert "own key: [1, 2]" in messages[0]
    assert messages[1] == "Unhandled exception in event loop"


def test_a_handler_that_raises_is_logged_and_contained(loop: Loop, logged: Complaints) -> None:
    def broken(_loop: Loop, _context: Context) -> None:
        raise LookupError("handler broke")

    seen: list[int] = []
    loop.set_exception_handler(broken)
    loop.call_soon(fail)
    loop.call_soon(seen.append, 1)
    turn(loop)
    (message,) = logged.take()
    assert message.startswith("Unhandled error in exception handler")
    assert "handler broke" in message
    assert "by intent" in message
    assert seen == [1]


def test_a_default_handler_that_raises_is_logged_and_contained(
    loop: Loop, logged: Complaints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_context: Context) -> None:
        raise LookupError("default handler broke")

    monkeypatch.setattr(loop, "default_exception_handler", broken)
    loop.call_soon(fail)
    turn(loop)
    (message,) = logged.take()
    assert message.startswith("Exception in default exception handler")
    assert "default handler broke" in message


@pytest.mark.parametrize("passing", [KeyboardInterrupt, SystemExit])
def test_a_handler_may_end_the_run(loop: Loop, passing: type[BaseException]) -> None:
    def ending(_loop: Loop, _context: Context) -> None:
        raise passing

    loop.set_exception_handler(ending)
    loop.call_soon(fail)
    with pytest.raises(passing):
        turn(loop)
    loop.set_exception_handler(None)
    turn(loop)


class OwnError(BaseException):
    """Not an ``Exception``, and neither of the two that end a run."""


@pytest.mark.parametrize("other", [OwnError, asyncio.CancelledError, GeneratorExit])
def test_base_exceptions_other_than_the_two_reach_the_handler(
    loop: Loop, contexts: list[Context], other: type[BaseException]
) -> None:
    def callback() -> None:
        raise other

    loop.call_soon(callback)
    turn(loop)
    assert [type(context["exception"]) for context in contexts] == [other]


def test_exceptions_nobody_retrieves_reach_the_handler(loop: Loop, contexts: list[Context]) -> None:
    async def failing() -> None:
        fail()

    async def scenario() -> None:
        task = loop.create_task(failing())
        await asyncio.wait([task])

    loop.run_until_complete(scenario())
    gc.collect()
    (context,) = contexts
    assert context["message"] == "Task exception was never retrieved"
    assert isinstance(context["exception"], ZeroDivisionError)


def test_a_done_callback_that_raises_reaches_the_handler(
    loop: Loop, contexts: list[Context]
) -> None:
    future = loop.create_future()
    future.add_done_callback(fail)
    future.set_result(1)
    turn(loop)
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]


def test_handlers_see_each_callbacks_own_exception(loop: Loop, contexts: list[Context]) -> None:
    def raising(n: int) -> None:
        raise LookupError(n)

    for n in range(100):
        loop.call_soon(raising, n)
    turn(loop)
    assert [context["exception"].args[0] for context in contexts] == list(range(100))


if sys.version_info >= (3, 12):  # the handler runs in the failed callback's context since 3.12

    def test_the_handler_runs_in_the_context_of_what_failed(loop: Loop) -> None:
        variable = contextvars.ContextVar[str]("variable", default="outside")
        seen: list[str] = []
        loop.set_exception_handler(lambda _loop, _context: seen.append(variable.get()))

        def callback() -> None:
            variable.set("inside")
            fail()

        loop.call_soon(callback)
        turn(loop)
        assert seen == ["inside"]


@pytest.mark.parametrize("method", ["call_soon", "call_later", "add_reader", "data_received"])
async def test_the_handler_is_called_while_the_exception_is_handled(
    loop: Loop, method: str
) -> None:
    seen: list[tuple[bool, str]] = []

    def handler(_loop: Loop, context: Context) -> None:
        # `logging.exception()` finds it in the same way.
        seen.append((sys.exc_info()[1] is context["exception"], traceback.format_exc(limit=-1)))

    def callback(_data: bytes = b"") -> None:
        loop.remove_reader(ours)
        fail()

    loop.set_exception_handler(handler)
    ours, theirs = tcp_pair()
    with ours, theirs:
        ours.setblocking(False)
        if method == "call_soon":
            loop.call_soon(callback)
        elif method == "call_later":
            loop.call_later(0, callback)
        elif method == "add_reader":
            loop.add_reader(ours, callback)
        else:
            protocol = Recorder(loop)
            protocol.data_received = fail  # type: ignore[assignment, method-assign]
            await loop.create_connection(lambda: protocol, sock=ours)
        theirs.send(b"x")
        await until(lambda: seen)
        assert sys.exc_info() == (None, None, None)
    ((is_handled, text),) = seen
    assert is_handled
    assert text.endswith("ZeroDivisionError: by intent\n")


def test_what_a_handler_raises_tells_what_it_was_called_for(loop: Loop) -> None:
    def ending(_loop: Loop, _context: Context) -> None:
        raise SystemExit

    loop.set_exception_handler(ending)
    loop.call_soon(fail)
    with pytest.raises(SystemExit) as raised:
        turn(loop)
    assert isinstance(raised.value.__context__, ZeroDivisionError)


@pytest.mark.parametrize("handles_itself", [False, True])
def test_a_coroutine_that_has_the_handler_called_handles_what_it_did(
    loop: Loop, contexts: list[Context], handles_itself: bool
) -> None:
    """A write calls the protocol at once, and so the handler, amid the coroutine."""
    protocol = Recorder(loop)
    protocol.pause_writing = fail  # type: ignore[method-assign]
    seen: list[BaseException | None] = []
    goes_on = loop.create_future()

    async def write(sock: socket.socket) -> None:
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        transport.set_write_buffer_limits(0)
        while not contexts:
            transport.write(bytes(1 << 20))
        seen.append(sys.exc_info()[1])
        await goes_on
        seen.append(sys.exc_info()[1])
        transport.abort()

    async def write_within(sock: socket.socket) -> None:
        if not handles_itself:
            return await write(sock)
        try:
            raise LookupError("of the coroutine")
        except LookupError:
            await write(sock)

    ours, theirs = tcp_pair()
    with ours, theirs:
        task = loop.create_task(write_within(ours))
        try:
            raise KeyError("of the caller")
        except KeyError as error:
            turns_until(loop, lambda: seen)
            goes_on.set_result(None)
            of_the_caller = error
        loop.run_until_complete(task)
    if handles_itself:
        assert [str(error) for error in seen] == ["of the coroutine"] * 2
    else:
        assert seen == [of_the_caller, None]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_a_coroutine_goes_on_handling_what_its_creator_handled_as_well(loop: Loop) -> None:
    told: list[BaseException | None] = []
    loop.set_exception_handler(lambda _loop, _context: told.append(sys.exception()))

    class Full(asyncio.Protocol):
        def pause_writing(self) -> None:
            raise ValueError("full")

    async def clean_up(error: Exception, transport: asyncio.WriteTransport) -> None:
        try:
            raise error
        except LookupError:
            while not told:
                transport.write(bytes(1 << 20))
            await asyncio.sleep(0)
            raise

    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.create_connection(Full, sock=ours)
        transport.set_write_buffer_limits(0)
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - not in 3.11
        try:
            raise LookupError("of both")
        except LookupError as error:
            task = loop.create_task(clean_up(error, transport))
        with pytest.raises(LookupError, match="of both"):
            await task
        transport.abort()
    assert repr(told) == "[ValueError('full')]"


def test_a_handler_may_schedule_and_stop(loop: Loop) -> None:
    seen: list[str] = []

    def handler(running: Loop, _context: dict[str, Any]) -> None:
        running.call_soon(seen.append, "scheduled")
        running.call_soon(running.stop)

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    loop.run_forever()
    assert seen == ["scheduled"]
