"""What `start_server` makes its streams of, and what a program may have put in its place."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from .harness.turns import until
from .harness.types import Loop

Pair = tuple[Any, Any]


class Serving:
    """A server of streams that keeps the last connection's reader and writer."""

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs
        self.made: list[Pair] = []

    async def _serve(self, reader: Any, writer: Any) -> None:
        self.made.append((reader, writer))

    async def connect(self) -> Pair:
        """Let a client connect, which sends a line."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, **self.kwargs)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            peer.sendall(b"line\n")
            await until(lambda: bool(self.made))
            reader, writer = self.made.pop()
            await until(lambda: len(reader._buffer) == 5)
        server.close()
        return reader, writer


async def test_a_server_makes_streams_of_asyncios_classes(loop: Loop) -> None:
    reader, writer = await Serving(limit=2).connect()
    protocol: Any = writer.transport.get_protocol()
    classes = (asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReaderProtocol)
    made = (reader, writer, protocol)
    assert all(isinstance(each, cls) for each, cls in zip(made, classes, strict=True))
    assert reader._loop is loop
    assert reader._limit == 2
    assert reader._transport is writer.transport
    assert protocol._stream_reader is reader
    assert repr(reader).startswith("<StreamReader ")
    with pytest.raises(ValueError, match="limit"):
        await reader.readline()
    writer.transport.abort()


async def test_a_unix_server_makes_them_too(loop: Loop, tmp_path: Path) -> None:
    made: list[Pair] = []

    async def serve(reader: Any, writer: Any) -> None:
        made.append((reader, writer))
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    path = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(serve, path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"line\n")
        assert await reader.readline() == b"line\n"
        writer.close()
        await writer.wait_closed()
    assert isinstance(made[0][0], asyncio.StreamReader)


@pytest.mark.parametrize("name", ["StreamReader", "StreamReaderProtocol", "StreamWriter"])
async def test_a_replaced_class_is_used(
    loop: Loop, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = Serving()
    reader, writer = await serving.connect()
    writer.transport.abort()
    mine = type("Mine", (getattr(asyncio, name),), {})
    monkeypatch.setattr(asyncio.streams, name, mine)
    reader, writer = await serving.connect()
    objects = {
        "StreamReader": reader,
        "StreamReaderProtocol": writer.transport.get_protocol(),
        "StreamWriter": writer,
    }
    assert type(objects[name]) is mine
    assert await reader.readline() == b"line\n"
    await writer.drain()
    writer.transport.abort()


async def test_a_replaced_method_need_be_no_coroutine(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio.StreamReader, "readline", lambda _: "mine")
    monkeypatch.setattr(asyncio.StreamWriter, "drain", lambda _: "dry")
    reader, writer = await Serving().connect()
    assert (reader.readline(), writer.drain()) == ("mine", "dry")
    writer.transport.abort()


async def test_a_replaced_connection_made_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    original = asyncio.StreamReaderProtocol.connection_made

    def connection_made(self: Any, transport: Any) -> None:
        called.append(transport)
        original(self, transport)

    monkeypatch.setattr(asyncio.StreamReaderProtocol, "connection_made", connection_made)
    reader, writer = await Serving().connect()
    assert called == [writer.transport]
    assert await reader.readline() == b"line\n"
    writer.transport.abort()


async def test_a_server_tells_of_a_callback_that_fails(loop: Loop) -> None:
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    async def serve(reader: Any, writer: Any) -> None:
        raise ValueError("mine")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        await until(lambda: bool(told))
        peer.settimeout(60)
        assert await loop.run_in_executor(None, peer.recv, 1) == b""
    server.close()
    assert told[0]["message"] == "Unhandled exception in client_connected_cb"
    assert str(told[0]["exception"]) == "mine"
