"""Connections to test with: a transport whose peer is a plain socket, or two transports."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from .protocols import Buffered, Recorder
from .types import Loop

P = TypeVar("P", Recorder, Buffered)
R = TypeVar("R", bound=Recorder)
T = TypeVar("T")


@dataclass(frozen=True)
class Ends:
    """Two connected transports' protocols: who connected and who accepted."""

    client: Recorder
    server: Recorder


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs


async def at_a_free_port(use: Callable[[int], Awaitable[T]]) -> T:
    """Use a port of 127.0.0.1 that was free a moment ago, or another if somebody has taken it."""
    for attempt in range(10):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        try:
            return await use(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == 9:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def wait_for_a_client(listener: socket.socket) -> None:
    """Wait until a connection waits to be accepted, which is a moment after its client has it."""
    # Of a listener, what is "unacknowledged" in its TCP_INFO waits to be accepted.
    while not listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)[24]:
        os.sched_yield()


def small_buffers(*sockets: socket.socket) -> None:
    """Make the kernel hold little, so that writing soon has to wait."""
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def narrow_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets between which the kernel holds little."""
    ours, theirs = socket.socketpair()
    small_buffers(ours, theirs)
    return ours, theirs


def everything(peer: socket.socket) -> bytes:
    """Read to the end of file."""
    received = bytearray()
    while more := peer.recv(1 << 16):
        received += more
    return bytes(received)


def end(transport: asyncio.Transport, protocol: Recorder | Buffered) -> None:
    """Abort, unless the connection is lost; asyncio's abort may fail after that."""
    if not protocol.lost.done():
        transport.abort()


@asynccontextmanager
async def linked(
    loop: Loop,
    factory: Callable[[Loop], P],
    pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair,
) -> AsyncIterator[tuple[P, socket.socket]]:
    """Give a protocol with a transport, and the plain blocking socket at the other end."""
    ours, theirs = pair()
    theirs.settimeout(60)
    with theirs:
        protocol = factory(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        try:
            yield protocol, theirs
        finally:
            end(transport, protocol)
            await asyncio.wait([protocol.lost])


@asynccontextmanager
async def accepted(
    loop: Loop, factory: Callable[[Loop], R]
) -> AsyncIterator[tuple[R, socket.socket]]:
    """Give a protocol whose connection's socket nobody has seen, and the socket of its peer."""
    protocol = factory(loop)
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        peer.settimeout(60)
        await protocol.made
        server.close()
        try:
            yield protocol, peer
        finally:
            end(protocol.transport, protocol)
            await asyncio.wait([protocol.lost])
    await server.wait_closed()


@asynccontextmanager
async def both_ends(
    loop: Loop,
    client: Callable[[Loop], Recorder] = Recorder,
    server: Callable[[Loop], Recorder] = Recorder,
) -> AsyncIterator[Ends]:
    """Give the protocols of a TCP connection of which both ends are transports of the loop."""
    theirs = server(loop)
    listening = await loop.create_server(lambda: theirs, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    ours = client(loop)
    await loop.create_connection(lambda: ours, host, port)
    await theirs.made
    listening.close()
    try:
        yield Ends(ours, theirs)
    finally:
        for each in (ours, theirs):
            end(each.transport, each)
        await asyncio.wait([ours.lost, theirs.lost])
        await listening.wait_closed()


def drain(peer: socket.socket) -> bytes:
    """Read the plain socket to its end."""
    pieces = []
    while piece := peer.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)
