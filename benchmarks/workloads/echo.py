"""Echo through protocols: the cost of receiving a message and of sending one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Literal, cast

from benchmarks.suite.workload import Serve, ServerWorkload, Traffic

KIB = 1024
BACKLOG = 1024


class Echo(asyncio.Protocol):
    """Writes back what it receives, one `write` per `data_received`."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """The same through a buffer of its own, which it may reuse as soon as it has written."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(256 * KIB))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


def serving(protocol: Callable[[], asyncio.BaseProtocol]) -> Serve:
    """Serves a protocol on whichever kind of socket it is given."""

    async def serve(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> object:
        if listener.family == socket.AF_UNIX:
            return await loop.create_unix_server(protocol, sock=listener, backlog=BACKLOG)
        return await loop.create_server(protocol, sock=listener, backlog=BACKLOG)

    return serve


def echo(name: str, title: str, traffic: Traffic, *, unix: bool = False) -> ServerWorkload:
    """An echo workload with the plain protocol."""
    transport: Literal["tcp", "unix"] = "unix" if unix else "tcp"
    return ServerWorkload(name, title, "message", serving(Echo), traffic, transport)


def buffered(name: str, title: str, traffic: Traffic) -> ServerWorkload:
    """An echo workload with the buffered protocol."""
    return ServerWorkload(name, title, "message", serving(BufferedEcho), traffic)


CONNECTIONS = (1, 8, 64, 512)

WORKLOADS = (
    *(
        echo(f"echo-tcp-1k-{n}", f"Protocol echo, TCP, 1 KiB, {n} conn.", Traffic(connections=n))
        for n in CONNECTIONS
    ),
    *(
        echo(
            f"echo-unix-1k-{n}",
            f"Protocol echo, Unix, 1 KiB, {n} conn.",
            Traffic(connections=n),
            unix=True,
        )
        for n in CONNECTIONS
    ),
    echo(
        "echo-tcp-64b-pipelined",
        "Protocol echo, TCP, 64 B, 64 conn., 8 deep",
        Traffic(connections=64, depth=8, size=64),
    ),
    echo(
        "echo-tcp-16k-64",
        "Protocol echo, TCP, 16 KiB, 64 conn.",
        Traffic(connections=64, size=16 * KIB),
    ),
    echo(
        "echo-tcp-128k-8",
        "Protocol echo, TCP, 128 KiB, 8 conn.",
        Traffic(connections=8, size=128 * KIB),
    ),
    buffered(
        "buffered-tcp-1k-64",
        "BufferedProtocol echo, TCP, 1 KiB, 64 conn.",
        Traffic(connections=64),
    ),
    buffered(
        "buffered-tcp-128k-8",
        "BufferedProtocol echo, TCP, 128 KiB, 8 conn.",
        Traffic(connections=8, size=128 * KIB),
    ),
)
