"""`drain()` of the writers that a server's callback and `open_connection` give."""

from __future__ import annotations

import asyncio
import collections
import copy
import gc
import inspect
import socket
import sysconfig
import warnings
from typing import Any

import pytest

from .harness.streams import both_sides, served
from .harness.turns import until
from .harness.types import Loop


async def turns(loop: Loop, awaitable: Any) -> int:
    """How many turns of the loop an awaitable takes."""
    count = 0
    task = asyncio.ensure_future(awaitable)
    while not task.done():
        await asyncio.sleep(0)
        count += 1
    task.result()
    return count


@both_sides
async def test_a_drain_with_nothing_to_wait_for_takes_no_turn(loop: Loop, side: str) -> None:
    async with served(side) as (_, writer, peer):
        writer.write(b"x")
        assert await writer.drain() is None
        assert await turns(loop, asyncio.sleep(0)) - await turns(loop, writer.drain()) == 1
        peer.settimeout(60)
        assert peer.recv(1) == b"x"


@both_sides
async def test_a_drain_waits_for_room(loop: Loop, side: str) -> None:
    async with served(side) as (_, writer, peer):
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(b"x" * (16 << 20))
        drain: Any = loop.create_task(writer.drain())
        await until(lambda: drain._fut_waiter is not None)
        assert not drain.done()
        other: Any = loop.create_task(writer.drain())
        await until(lambda: other._fut_waiter is not None)
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        await loop.run_in_executor(None, receive, peer, 16 << 20)
        assert await drain is None


@both_sides
async def test_who_waits_in_drain_is_there_for_programs(loop: Loop, side: str) -> None:
    async with served(side) as (_, writer, peer):
        protocol = writer.transport.get_protocol()
        waiters = protocol._drain_waiters
        assert waiters == collections.deque()
        assert protocol._drain_waiters is waiters
        assert vars(protocol)["_drain_waiters"] is waiters
        assert not hasattr(asyncio.StreamReaderProtocol, "_drain_waiters")
        assert not hasattr(type(protocol), "_drain_waiters")
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(b"x" * (16 << 20))
        drain: Any = loop.create_task(writer.drain())
        await until(lambda: len(waiters) == 1)
        await loop.run_in_executor(None, receive, peer, 16 << 20)
        assert await drain is None
        assert not waiters


@both_sides
async def test_a_copy_of_a_protocol_shares_who_waits_in_drain(loop: Loop, side: str) -> None:
    async with served(side) as (_, writer, _):
        protocol = writer.transport.get_protocol()
        other: Any = copy.copy(protocol)
        assert vars(other)["_drain_waiters"] is protocol._drain_waiters


async def test_who_waits_in_drain_stays_with_who_has_asked_before(loop: Loop) -> None:
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    waiters = protocol._drain_waiters  # type: ignore[attr-defined]
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    assert protocol._drain_waiters is waiters  # type: ignore[attr-defined]
    transport.abort()
    theirs.close()


@both_sides
async def test_a_protocol_of_another_class_drains(loop: Loop, side: str) -> None:
    class Theirs(asyncio.StreamReaderProtocol):
        pass

    async with served(side) as (_, writer, peer):
        protocol: Any = writer.transport.get_protocol()
        protocol.__class__ = Theirs
        assert type(protocol) is Theirs
        assert vars(protocol)["_drain_waiters"] == collections.deque()
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(b"x" * (16 << 20))
        drain: Any = loop.create_task(writer.drain())
        await until(lambda: len(vars(protocol)["_drain_waiters"]) == 1)
        await loop.run_in_executor(None, receive, peer, 16 << 20)
        assert await drain is None


@pytest.mark.only("cloverleaf")
@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="it is kept there")
@both_sides
async def test_a_connection_where_nobody_waits_has_no_room_for_them(loop: Loop, side: str) -> None:
    async with served(side) as (reader, writer, peer):
        peer.sendall(b"ab\n")
        assert await reader.readline() == b"ab\n"
        writer.write(b"x")
        assert await writer.drain() is None
        assert "_drain_waiters" not in vars(writer.transport.get_protocol())


def receive(peer: socket.socket, count: int) -> None:
    """Receive so many bytes."""
    peer.settimeout(60)
    while count > 0:
        count -= len(peer.recv(min(count, 1 << 20)))


@both_sides
async def test_a_drain_of_what_is_closing_lets_others_run(loop: Loop, side: str) -> None:
    async with served(side) as (_, writer, _):
        writer.close()
        ran: list[int] = []
        loop.call_soon(ran.append, 1)
        try:
            await writer.drain()
        except ConnectionResetError as error:
            assert str(error) == "Connection lost"  # noqa: PT017
        assert ran


@both_sides
async def test_attributes_are_found_in_whatever_order_they_came(loop: Loop, side: str) -> None:
    async with served(side) as (reader, writer, peer):
        peer.sendall(b"ab\n")
        assert await reader.readline() == b"ab\n"
        assert await writer.drain() is None
        protocol: Any = writer.transport.get_protocol()
        for of in (protocol, writer):
            attributes = vars(of)
            for name in reversed(list(attributes)):
                attributes[name] = attributes.pop(name)
        peer.sendall(b"cd\n")
        assert await reader.readline() == b"cd\n"
        assert await writer.drain() is None
        protocol.pause_writing()
        drain: Any = loop.create_task(writer.drain())
        await until(lambda: drain._fut_waiter is not None)
        protocol.resume_writing()
        assert await drain is None


@both_sides
async def test_a_drain_tells_of_the_error_of_the_reader(loop: Loop, side: str) -> None:
    async with served(side) as (reader, writer, _):
        reader.set_exception(ValueError("broken"))
        with pytest.raises(ValueError, match=r"^broken$"):
            await writer.drain()


@both_sides
async def test_a_drain_looks_when_it_is_awaited(loop: Loop, side: str) -> None:
    async with served(side) as (reader, writer, _):
        drain = writer.drain()
        reader.set_exception(ValueError("late"))
        with pytest.raises(ValueError, match=r"^late$"):
            await drain


@both_sides
async def test_a_drain_after_the_end_is_refused(loop: Loop, side: str) -> None:
    async with served(side) as (reader, writer, _):
        writer.transport.abort()
        await until(reader.at_eof)
        with pytest.raises(ConnectionResetError, match=r"^Connection lost$"):
            await writer.drain()


@both_sides
async def test_a_drain_is_a_coroutine(loop: Loop, side: str) -> None:
    async with served(side) as (_, writer, _):
        drain: Any = writer.drain()
        assert inspect.isawaitable(drain)
        assert asyncio.iscoroutine(drain)
        assert getattr(drain, "__name__", None) == "drain"
        assert getattr(drain, "__qualname__", None) == "StreamWriter.drain"
        await drain
        with pytest.raises(RuntimeError, match=r"^cannot reuse already awaited coroutine$"):
            await drain
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            writer.drain()
            gc.collect()
        texts = [str(warning.message) for warning in caught]
        assert "coroutine 'StreamWriter.drain' was never awaited" in texts


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("writer", "drain"),
        ("reader", "exception"),
        ("protocol", "_drain_helper"),
        ("transport", "is_closing"),
    ],
)
@pytest.mark.parametrize("where", ["class", "object"])
async def test_a_replaced_method_of_a_drain_is_called(
    loop: Loop, owner: str, name: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes: dict[str, Any] = {
        "writer": asyncio.StreamWriter,
        "reader": asyncio.StreamReader,
        "protocol": asyncio.StreamReaderProtocol,
    }
    async with served("server") as (reader, writer, _):
        objects = {
            "writer": writer,
            "reader": reader,
            "protocol": writer._protocol,
            "transport": writer.transport,
        }
        target = objects[owner] if where == "object" else classes.get(owner, type(objects[owner]))
        called: list[str] = []
        original = getattr(target, name)

        def replaced(*args: Any) -> Any:
            called.append(name)
            return original(*args)

        monkeypatch.setattr(target, name, replaced)
        await writer.drain()
        assert called
        async with served("server") as (_, later, _):
            called.clear()
            await later.drain()
            assert bool(called) == (where == "class")
        monkeypatch.undo()


async def test_a_writer_is_asyncios(loop: Loop) -> None:
    async with served("server") as (reader, writer, peer):
        assert isinstance(writer, asyncio.StreamWriter)
        assert type(writer).__name__ == "StreamWriter"
        assert repr(writer).startswith("<StreamWriter transport=")
        protocol: Any = writer.transport.get_protocol()
        assert protocol._client_connected_cb.__name__ == "serve"
        writer.writelines([b"a", b"b"])
        await writer.drain()
        peer.settimeout(60)
        assert peer.recv(2) == b"ab"
        assert await reader.read(0) == b""
