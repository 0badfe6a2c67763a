"""Endpoints for datagrams to test with: a protocol that notes what is called, and its peers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from .types import Loop


class Mailbox(asyncio.DatagramProtocol):
    """Keeps what comes, and lets a test wait for it."""

    def __init__(self, loop: Loop) -> None:
        self.calls: list[str] = []
        self.mail: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.made: asyncio.Future[Any] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self._more = asyncio.Event()

    @property
    def transport(self) -> Any:
        """Return the transport, which must have been made."""
        return self.made.result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.calls.append("connection_made")
        self.made.set_result(transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Keep the datagram."""
        assert type(data) is bytes
        self.mail.append((data, addr))
        self._more.set()

    def error_received(self, exc: Exception) -> None:
        """Keep the error."""
        self.errors.append(exc)
        self._more.set()

    def pause_writing(self) -> None:
        """Note it."""
        self.calls.append("pause_writing")

    def resume_writing(self) -> None:
        """Note it."""
        self.calls.append("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note the end; a second call would raise."""
        self.calls.append("connection_lost")
        self.lost.set_result(exc)
        self._more.set()

    @property
    def data(self) -> list[bytes]:
        """Return what came, without the senders."""
        return [data for data, _ in self.mail]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition that something received can make true."""
        while not condition():
            self._more.clear()
            await self._more.wait()

    async def received(self, count: int) -> list[bytes]:
        """Wait until so many datagrams came, and return what came."""
        await self.until(lambda: len(self.mail) >= count)
        return self.data

    async def failed(self) -> Exception:
        """Wait for an error of the network, and return the first."""
        await self.until(lambda: self.errors)
        return self.errors[0]


LOCALHOST = ("127.0.0.1", 0)


@asynccontextmanager
async def endpoint(
    loop: Loop,
    local_addr: Any = None,
    *,
    mailbox: Callable[[Loop], Mailbox] = Mailbox,
    **arguments: Any,
) -> AsyncIterator[Mailbox]:
    """Give the protocol of an endpoint, which is closed in the end."""
    box = mailbox(loop)
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: box, local_addr=local_addr, **arguments
    )
    assert protocol is box
    assert box.transport is transport
    try:
        yield box
    finally:
        transport.close()
        if not box.lost.done():
            transport.abort()
            await asyncio.wait([box.lost])


def plain_udp(host: str = "127.0.0.1") -> socket.socket:
    """Return a plain, blocking UDP socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(60)
    sock.bind((host, 0))
    return sock


def plain_unix(path: str | bytes) -> socket.socket:
    """Return a plain, blocking Unix socket for datagrams."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(60)
    sock.bind(path)
    return sock


def fill(box: Mailbox, path: str, data: bytes = b"x" * 1000) -> int:
    """Send to a Unix socket until a datagram has to wait; return how many went before it."""
    sent = 0
    while True:
        box.transport.sendto(data, path)
        if box.transport.get_write_buffer_size():
            return sent
        sent += 1
