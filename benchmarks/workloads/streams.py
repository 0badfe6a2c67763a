"""Echo through asyncio's streams: the cost of a coroutine per message on top of a protocol."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from benchmarks.suite.workload import Serve, ServerWorkload, Traffic

BACKLOG = 1024
SIZE = 1024

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def by_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each line with itself."""
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def by_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each message of `SIZE` bytes with itself."""
    try:
        while True:
            writer.write(await reader.readexactly(SIZE))
    except asyncio.IncompleteReadError:
        writer.close()


async def by_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers what there is, and waits until it may write again."""
    while chunk := await reader.read(64 * SIZE):
        writer.write(chunk)
        await writer.drain()
    writer.close()


def serving(handler: Handler) -> Serve:
    """Serves a stream handler."""

    async def serve(_: asyncio.AbstractEventLoop, listener: socket.socket) -> object:
        return await asyncio.start_server(handler, sock=listener, backlog=BACKLOG)

    return serve


WORKLOADS = (
    ServerWorkload(
        "streams-readline",
        "Streams, readline and write, 1 KiB, 64 conn.",
        "message",
        serving(by_lines),
        Traffic(connections=64, size=SIZE, lines=True),
    ),
    ServerWorkload(
        "streams-readexactly",
        "Streams, readexactly and write, 1 KiB, 64 conn.",
        "message",
        serving(by_length),
        Traffic(connections=64, size=SIZE),
    ),
    ServerWorkload(
        "streams-read-drain",
        "Streams, read, write and drain, 1 KiB, 64 conn.",
        "message",
        serving(by_chunks),
        Traffic(connections=64, size=SIZE),
    ),
)
