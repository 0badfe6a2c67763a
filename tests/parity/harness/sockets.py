"""Sockets that a test keeps for itself, with the loop's `sock_*` methods."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from .links import tcp_pair

Pair = tuple[socket.socket, socket.socket]
PAIRS: dict[str, Callable[[], Pair]] = {"tcp": tcp_pair, "unix": socket.socketpair}


@contextmanager
def nonblocking(pair: Callable[[], Pair] = socket.socketpair) -> Iterator[Pair]:
    """Give two connected sockets that never block."""
    ours, theirs = pair()
    with closing(ours), closing(theirs):
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def fill(sock: socket.socket) -> int:
    """Send until the kernel takes no more; return how much it took."""
    sent = 0
    while True:
        try:
            sent += sock.send(bytes(65536))
        except BlockingIOError:
            return sent


async def receive(loop: asyncio.AbstractEventLoop, sock: socket.socket, count: int) -> bytes:
    """Receive exactly so many bytes, or all until the peer is done."""
    received = bytearray()
    while len(received) < count:
        piece = await loop.sock_recv(sock, min(count - len(received), 1 << 20))
        if not piece:
            break
        received += piece
    return bytes(received)
