"""What happens between a connection and its protocol's knowing of it, turn by turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .harness.links import wait_for_a_client
from .harness.turns import turns
from .harness.types import Loop


class Diary:
    """Notes what happens, and how many turns of the loop after the protocol was made."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.turn = 0
        self.noted: list[tuple[str, int]] = []
        self.is_over = False

    def begin(self) -> None:
        self.note("factory")
        self.loop.call_soon(self._count)

    def note(self, what: str) -> None:
        self.noted.append((what, self.turn))

    def _count(self) -> None:
        self.turn += 1
        if not self.is_over:
            self.loop.call_soon(self._count)


class Noting(asyncio.Protocol):
    """Notes its calls, and does what it was told at its start."""

    def __init__(self, diary: Diary, when_made: Callable[[], object]) -> None:
        diary.begin()
        self.diary = diary
        self.when_made = when_made

    def connection_made(self, transport: Any) -> None:
        self.diary.note("made")
        self.when_made()

    def connection_lost(self, exc: Exception | None) -> None:
        self.diary.note(f"lost {exc}")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def connect(loop: Loop, listener: socket.socket, factory: Callable[[], Noting]) -> None:
    """Connect, note what comes of it, and close."""
    host, port = listener.getsockname()
    diary: Diary | None = None

    def make() -> Noting:
        nonlocal diary
        protocol = factory()
        diary = protocol.diary
        return protocol

    try:
        transport, _ = await loop.create_connection(make, host, port)
    except BaseException as error:
        assert diary is not None
        diary.note(type(error).__name__)
        raise
    assert diary is not None
    diary.note("connected")
    transport.close()


async def test_who_connects_goes_on_behind_what_the_protocol_has_scheduled(
    loop: Loop, listener: socket.socket
) -> None:
    diary = Diary(loop)
    made = lambda: loop.call_soon(diary.note, "scheduled")  # noqa: E731
    await connect(loop, listener, lambda: Noting(diary, made))
    await turns(3)
    diary.is_over = True
    assert diary.noted == [
        ("factory", 0),
        ("made", 1),
        ("scheduled", 2),
        ("connected", 2),
        ("lost None", 3),
    ]


@pytest.mark.parametrize("moment", ["before", "within", "after"])
async def test_a_cancelled_meeting_closes_the_connection(
    loop: Loop, listener: socket.socket, moment: str
) -> None:
    diary = Diary(loop)

    def cancel() -> None:
        diary.note("cancel")
        assert task.cancel("on purpose")

    def factory() -> Noting:
        if moment == "before":
            loop.call_soon(cancel)
        when_made = {
            "before": lambda: None,
            "within": cancel,
            "after": lambda: loop.call_soon(cancel),
        }
        return Noting(diary, when_made[moment])

    task = loop.create_task(connect(loop, listener, factory))
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("on purpose",)
    await turns(3)
    diary.is_over = True
    expected = {
        "before": [("cancel", 0), ("made", 1), ("CancelledError", 1), ("lost None", 2)],
        "within": [("made", 1), ("cancel", 1), ("CancelledError", 2), ("lost None", 3)],
        "after": [("made", 1), ("cancel", 2), ("CancelledError", 2), ("lost None", 3)],
    }
    assert diary.noted == [("factory", 0), *expected[moment]]
    peer, _ = listener.accept()
    with peer:
        peer.setblocking(False)
        assert await loop.sock_recv(peer, 1) == b""


async def is_closed(loop: Loop, listener: socket.socket) -> bool:
    """Whether the client that comes next has gone."""
    await loop.run_in_executor(None, wait_for_a_client, listener)
    peer, _ = listener.accept()
    with peer:
        peer.setblocking(False)
        return await loop.sock_recv(peer, 1) == b""


class Quiet(asyncio.Protocol):
    """Takes what comes."""


@pytest.mark.parametrize("end", ["close", "throw", "drop"])
async def test_a_connection_that_is_given_up_by_hand_is_closed(
    loop: Loop, listener: socket.socket, end: str
) -> None:
    coroutine: Any = loop.create_connection(Quiet, *listener.getsockname())
    awaited = coroutine.send(None)
    assert asyncio.isfuture(awaited)
    assert coroutine.cr_await is not None
    if end == "close":
        coroutine.close()
    elif end == "throw":
        with pytest.raises(LookupError, match="on purpose"):
            coroutine.throw(LookupError("on purpose"))
    del awaited, coroutine
    assert await is_closed(loop, listener)


@pytest.mark.parametrize("end", ["cancel", "close", "throw"])
async def test_an_attempt_that_waits_is_given_up(loop: Loop, end: str) -> None:
    made: list[Quiet] = []

    def factory() -> Quiet:
        made.append(Quiet())
        return made[-1]

    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        # The kernel takes one connection more than the backlog says.
        with socket.create_connection(address):
            wait_for_a_client(listener)
            coroutine = loop.create_connection(factory, *address)
            if end == "cancel":
                task = loop.create_task(coroutine)
                await turns(3)
                assert task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                assert asyncio.isfuture(coroutine.send(None))
                if end == "close":
                    coroutine.close()
                else:
                    with pytest.raises(LookupError, match="on purpose"):
                        coroutine.throw(LookupError("on purpose"))
            first, _ = listener.accept()
            first.close()
    assert not made


async def test_nobody_resumes_a_connection_before_its_time(
    loop: Loop, listener: socket.socket
) -> None:
    coroutine = loop.create_connection(Quiet, *listener.getsockname())
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        coroutine.send(None)
    assert await is_closed(loop, listener)


async def test_debug_mode_that_comes_meanwhile_tells_of_the_connection(
    loop: Loop, listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="asyncio")
    host, port = listener.getsockname()

    class Curious(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            loop.set_debug(True)

    transport, _ = await loop.create_connection(Curious, host, port)
    loop.set_debug(False)
    transport.close()
    assert f"connected to {host}:{port}: (" in caplog.text


async def test_a_replaced_create_future_is_called(
    loop: Loop, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[asyncio.Future[Any]] = []
    original = loop.create_future

    def create_future() -> asyncio.Future[Any]:
        made.append(original())
        return made[-1]

    monkeypatch.setattr(loop, "create_future", create_future)
    transport, _ = await loop.create_connection(Quiet, *listener.getsockname())
    monkeypatch.undo()
    assert made
    assert all(future.done() for future in made)
    transport.close()


async def test_a_sock_connect_that_its_class_was_given_is_called(
    loop: Loop, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    original = type(loop).sock_connect

    async def instead(self: Any, sock: socket.socket, address: Any) -> None:
        called.append(address)
        await original(self, sock, address)

    async def connect() -> None:
        transport, _ = await loop.create_connection(Quiet, *listener.getsockname())
        transport.close()

    await connect()
    monkeypatch.setattr(type(loop), "sock_connect", instead)
    await connect()
    monkeypatch.undo()
    await connect()
    assert called == [listener.getsockname()]
