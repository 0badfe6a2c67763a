"""``asyncio.start_server``, ``open_connection`` and their Unix twins on the loop's transports."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .harness.turns import alone, until
from .harness.types import Loop

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line in capitals, until the end."""
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def connected(over: str) -> AsyncIterator[Pair]:
    """Serve ``upper`` and connect to it."""
    with tempfile.TemporaryDirectory(prefix="clv") as folder:
        if over == "tcp":
            server = await asyncio.start_server(upper, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
        else:
            path = str(Path(folder) / "socket")
            server = await asyncio.start_unix_server(upper, path)
            reader, writer = await asyncio.open_unix_connection(path)
        async with server:
            yield reader, writer
            writer.close()
            await writer.wait_closed()
            # Only the end of the last connection lets the server's own handlers be done.
            await alone()


both = pytest.mark.parametrize("over", ["tcp", "unix"])


@both
async def test_lines_go_there_and_back(loop: Loop, over: str) -> None:
    async with connected(over) as (reader, writer):
        for n in range(100):
            writer.write(b"line %d\n" % n)
            await writer.drain()
            assert await reader.readline() == b"LINE %d\n" % n


@both
async def test_lines_sent_at_once_are_answered_in_order(loop: Loop, over: str) -> None:
    async with connected(over) as (reader, writer):
        lines = [b"line %d\n" % n for n in range(1000)]
        writer.writelines(lines)
        await writer.drain()
        for line in lines:
            assert await reader.readline() == line.upper()


@both
async def test_write_eof_ends_the_servers_reading(loop: Loop, over: str) -> None:
    async with connected(over) as (reader, writer):
        writer.write(b"last\n")
        assert writer.can_write_eof()
        writer.write_eof()
        assert await reader.read() == b"LAST\n"
        assert reader.at_eof()


@both
async def test_reading_to_a_separator_and_exactly(loop: Loop, over: str) -> None:
    async with connected(over) as (reader, writer):
        writer.write(b"one;two;\n")
        assert await reader.readuntil(b";") == b"ONE;"
        assert await reader.readexactly(5) == b"TWO;\n"
        writer.write_eof()
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await reader.readexactly(1)
        assert raised.value.partial == b""


async def test_drain_waits_while_the_peer_does_not_read(loop: Loop) -> None:
    release, received = asyncio.Event(), loop.create_future()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        received.set_result(len(await reader.read()))
        writer.close()

    async with await asyncio.start_server(slow, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(16 << 20))
        drain = loop.create_task(writer.drain())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not drain.done()
        release.set()
        await drain
        writer.write_eof()
        assert await received == 16 << 20
        writer.close()
        await writer.wait_closed()


async def test_a_reader_limits_what_it_holds(loop: Loop) -> None:
    """More than twice the limit pauses the transport, and nothing is lost by it."""
    data = bytes(range(256)) * 8192

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(send, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, limit=1000)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not writer.transport.is_reading()  # type: ignore[attr-defined]
        pieces = []
        while piece := await reader.read(777):
            pieces.append(piece)
        assert b"".join(pieces) == data
        writer.close()
        await writer.wait_closed()


async def test_a_handler_that_fails_is_reported(
    loop: Loop, contexts: list[dict[str, object]]
) -> None:
    async def failing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        raise LookupError("handler failed")

    async with await asyncio.start_server(failing, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await until(lambda: contexts)
    # Since 3.12 the streams report it themselves; until 3.11 nobody had retrieved the exception.
    assert isinstance(contexts[0]["exception"], LookupError)


async def test_many_clients_are_served_at_once(loop: Loop) -> None:
    async with await asyncio.start_server(upper, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()

        async def client(n: int) -> bytes:
            reader, writer = await asyncio.open_connection(*address)
            for lap in range(5):
                writer.write(b"client %d lap %d\n" % (n, lap))
                line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

        answers = await asyncio.gather(*(client(n) for n in range(100)))
        assert answers == [b"CLIENT %d LAP 4\n" % n for n in range(100)]
        await alone()
