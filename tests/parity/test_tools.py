"""Tools that replace ``asyncio.Handle._run`` see every callback, while they do and no longer."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from .harness.complaints import Complaints
from .harness.links import linked
from .harness.protocols import Recorder
from .harness.turns import turns
from .harness.types import Context, Loop

Run = Callable[[Any], Any]


class Tool:
    """Looks on from when it is attached: which handles run, of what, and whether one does now."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.names: list[str] = []
        self.depth = 0
        self._genuine: Run | None = None

    def attach(self) -> None:
        """Begin."""
        genuine: Run = asyncio.Handle._run
        self._genuine = genuine

        @functools.wraps(genuine)
        def run(handle: Any) -> Any:
            self.seen.append(handle)
            self.names.append(getattr(handle._callback, "__name__", "?"))
            self.depth += 1
            try:
                return genuine(handle)
            finally:
                self.depth -= 1

        setattr(asyncio.Handle, "_run", run)  # noqa: B010 - a tool's liberty

    def detach(self) -> None:
        """Put asyncio's method back."""
        if self._genuine is not None:
            setattr(asyncio.Handle, "_run", self._genuine)  # noqa: B010 - as above
            self._genuine = None


@pytest.fixture
def tool() -> Iterator[Tool]:
    """Return a tool that is detached after the test."""
    tool = Tool()
    yield tool
    tool.detach()


def nothing(*_: object) -> None:
    """Be a callback."""


async def test_every_kind_of_callback_is_seen(loop: Loop, tool: Tool) -> None:
    def soon() -> None: ...
    def later() -> None: ...
    def threadsafe() -> None: ...
    def done(_: object) -> None: ...
    def readable() -> None:
        loop.remove_reader(reading)

    tool.attach()
    reading, writing = os.pipe()
    loop.call_soon(soon)
    loop.call_later(0, later)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(threadsafe,))
    thread.start()
    thread.join()
    loop.create_future().add_done_callback(done)
    future = loop.create_future()
    future.add_done_callback(done)
    future.set_result(None)
    loop.add_reader(reading, readable)
    os.write(writing, b"x")
    await turns(5)
    tool.detach()
    os.close(reading)
    os.close(writing)
    names = tool.names
    for name in ("soon", "later", "threadsafe", "done", "readable"):
        assert names.count(name) == 1, names


async def test_a_tool_may_come_and_go_while_the_loop_runs(loop: Loop, tool: Tool) -> None:
    loop.call_soon(nothing)
    await turns(2)
    assert tool.seen == []
    for round_ in (1, 2):
        tool.attach()
        await turns(2)
        loop.call_soon(nothing)
        await turns(2)
        tool.detach()
        await turns(2)
        loop.call_soon(nothing)
        await turns(2)
        assert tool.names.count("nothing") == round_


def test_a_tool_may_be_there_before_the_loop(kind_factory: Callable[[], Loop], tool: Tool) -> None:
    tool.attach()
    loop = kind_factory()
    loop.call_soon(nothing)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert tool.names[:1] == ["nothing"]


async def test_a_tool_finds_what_asyncios_handles_have(loop: Loop, tool: Tool) -> None:
    tool.attach()
    context = contextvars.copy_context()
    loop.call_soon(nothing, 1, 2, context=context)
    timer = loop.call_later(0, nothing, 3)
    await turns(3)
    tool.detach()
    plain, timed = (each for each in tool.seen if each._callback is nothing)
    assert isinstance(plain, asyncio.Handle)
    assert plain._args == (1, 2)
    assert plain._loop is loop  # type: ignore[attr-defined]
    assert plain._context is context  # type: ignore[attr-defined]
    assert not plain.cancelled()
    assert "nothing" in repr(plain)
    assert timed is timer
    assert isinstance(timed, asyncio.TimerHandle)
    assert timed._args == (3,)


async def test_the_steps_of_a_task_lead_to_the_task(loop: Loop, tool: Tool) -> None:
    async def working() -> None:
        await asyncio.sleep(0)

    tool.attach()
    task = loop.create_task(working())
    await task
    tool.detach()
    owners = [getattr(handle._callback, "__self__", None) for handle in tool.seen]
    assert owners.count(task) == 2


async def test_a_callback_runs_in_its_context(loop: Loop, tool: Tool) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    context.run(variable.set, "the callback's own")
    values: list[str] = []
    tool.attach()
    loop.call_soon(lambda: values.append(variable.get()), context=context)
    await turns(2)
    assert values == ["the callback's own"]


async def test_exceptions_still_reach_the_handler(
    loop: Loop, tool: Tool, contexts: list[Context]
) -> None:
    def failing() -> None:
        raise LookupError("on purpose")

    tool.attach()
    handle = loop.call_soon(failing)
    await turns(2)
    (context,) = contexts
    assert isinstance(context["exception"], LookupError)
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback ")


def test_what_a_tool_raises_ends_the_run(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("the tool's own fault")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", broken)
        loop.call_soon(nothing)
        with pytest.raises(ZeroDivisionError):
            loop.run_forever()
    assert not loop.is_running()
    loop.call_soon(loop.stop)
    loop.run_forever()


async def test_cancelled_callbacks_are_not_seen(loop: Loop, tool: Tool) -> None:
    tool.attach()
    loop.call_soon(nothing).cancel()
    loop.call_later(0, nothing).cancel()
    await turns(3)
    assert "nothing" not in tool.names


async def test_a_mock_takes_the_callbacks_place(loop: Loop) -> None:
    called: list[str] = []
    with mock.patch.object(asyncio.TimerHandle, "_run") as run:
        await turns(1)
        loop.call_later(0, called.append, "timer")
        loop.call_soon(called.append, "plain")
        await turns(3)
    assert called == ["plain"]
    run.assert_called_once_with()


async def test_protocols_are_called_within_handles(loop: Loop, tool: Tool) -> None:
    """What holds the loop up is a protocol as often as a callback."""
    depths: dict[str, int] = {}

    class Noting(Recorder):
        def note(self, name: str) -> None:
            depths[name] = tool.depth

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.note("connection_made")
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            self.note("data_received")
            super().data_received(data)

        def eof_received(self) -> bool | None:
            self.note("eof_received")
            return super().eof_received()

        def connection_lost(self, exc: BaseException | None) -> None:
            self.note("connection_lost")
            super().connection_lost(exc)

    tool.attach()
    await turns(1)
    async with linked(loop, Noting) as (ours, peer):
        peer.sendall(b"data")
        assert await ours.received(4) == b"data"
        peer.close()
        await ours.lost
    tool.detach()
    assert depths == dict.fromkeys(
        ["connection_made", "data_received", "eof_received", "connection_lost"], 1
    )


async def test_answers_in_pieces_are_all_sent(loop: Loop, tool: Tool) -> None:
    class Answers(Recorder):
        def data_received(self, data: bytes) -> None:
            for number in range(3):
                self.transport.write(b"%d" % number)

    tool.attach()
    await turns(1)
    async with linked(loop, Answers) as (_, peer):
        peer.sendall(b"?")
        received = b""
        while len(received) < 3:
            received += await loop.run_in_executor(None, peer.recv, 3)
    tool.detach()
    assert received == b"012"


async def test_slow_callbacks_are_reported_all_the_same(
    loop: Loop, tool: Tool, logged: Complaints
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    tool.attach()
    loop.call_soon(nothing)
    await turns(3)
    loop.set_debug(False)
    assert any("nothing" in text and "took" in text for text in logged.take())
