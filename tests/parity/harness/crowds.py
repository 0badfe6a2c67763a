"""Many connections that are told of data in one turn, and the plain sockets of their peers."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .links import end, linked, tcp_pair
from .protocols import Recorder
from .turns import until
from .types import Loop

COUNT = 8
Answer = Callable[["Member"], object]


class Member(Recorder):
    """One of many; does what the test wants when it is told of data."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.answer: Answer = repr
        self.peer: socket.socket | None = None

    def data_received(self, data: bytes) -> None:
        """Note it, and answer."""
        super().data_received(data)
        self.answer(self)


@dataclass(frozen=True)
class Crowd:
    """Many connections, and the plain sockets of their peers."""

    members: list[Member]
    peers: list[socket.socket]

    def ask(self, answer: Answer | None = None, question: bytes = b"?") -> None:
        """Make all of them ready in one turn; the first is the first to be told."""
        for member, peer in zip(self.members, self.peers, strict=True):
            if answer is not None:
                member.answer = answer
            peer.sendall(question)

    async def asked(self) -> None:
        """Wait until all have been told."""
        await until(lambda: all("data_received" in member.calls for member in self.members))


@asynccontextmanager
async def crowd(
    loop: Loop, pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair
) -> AsyncIterator[Crowd]:
    """Give many connections."""
    members = [Member(loop) for _ in range(COUNT)]
    peers: list[socket.socket] = []
    async with AsyncExitStack() as stack:
        for member in members:

            def this(_loop: Loop, member: Member = member) -> Recorder:
                return member

            _, peer = await stack.enter_async_context(linked(loop, this, pair))
            member.peer = peer
            peers.append(peer)
        yield Crowd(members, peers)


@asynccontextmanager
async def clients(loop: Loop, family: int = socket.AF_INET) -> AsyncIterator[Crowd]:
    """Give many connections to a server: nobody but the loop knows the sockets at this end."""
    members: list[Member] = []
    peers: list[socket.socket] = []

    def accepted() -> Member:
        members.append(Member(loop))
        return members[-1]

    with tempfile.TemporaryDirectory() as folder:
        server: asyncio.Server
        if family == socket.AF_UNIX:
            server = await loop.create_unix_server(accepted, Path(folder) / "s")
        else:
            server = await loop.create_server(accepted, "127.0.0.1", 0)
        try:
            for number in range(COUNT):
                peer = socket.socket(family)
                peers.append(peer)
                peer.settimeout(60)
                peer.connect(server.sockets[0].getsockname())
                await until(lambda: len(members) > number)  # noqa: B023 - called in this lap only
                await members[-1].made
                members[-1].peer = peer
            # All of them read, now.
            await asyncio.sleep(0)
            yield Crowd(members, peers)
        finally:
            server.close()
            for member in members:
                end(member.transport, member)
            await asyncio.gather(*(member.lost for member in members))
            for peer in peers:
                peer.close()


def in_full(peer: socket.socket, count: int) -> bytes:
    """Read so many bytes, for 60 s at most each time; other threads may run Python meanwhile."""
    received = b""
    while len(received) < count:
        more = peer.recv(count - len(received))
        assert more, f"only {received!r} came"
        received += more
    return received


def exactly(peer: socket.socket, count: int) -> bytes:
    """Read so many bytes, which must be all that is there."""
    received = in_full(peer, count)
    assert waiting(peer) == b""
    return received


def waiting(peer: socket.socket) -> bytes:
    """Return what has arrived, and leave it there."""
    timeout = peer.gettimeout()
    peer.setblocking(False)
    try:
        return peer.recv(1 << 16, socket.MSG_PEEK)
    except BlockingIOError:
        return b""
    finally:
        peer.settimeout(timeout)
