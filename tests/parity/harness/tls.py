"""TLS connections to test with: a transport whose peer does what it is told, or two transports."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from .certificates import HOST, client_context, server_context
from .links import Ends, end
from .protocols import Buffered, Recorder
from .types import Loop

P = TypeVar("P", Recorder, Buffered)
T = TypeVar("T")


class Peer:
    """The other end of a TLS connection, record by record, on a plain socket."""

    def __init__(self, loop: Loop, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.loop = loop
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if context is not None:
            is_server = context.protocol == ssl.PROTOCOL_TLS_SERVER
            self.tls = context.wrap_bio(
                self.incoming,
                self.outgoing,
                server_side=is_server,
                server_hostname=None if is_server else HOST,
            )

    async def flush(self) -> None:
        """Send the records that there are."""
        if records := self.outgoing.read():
            await self.loop.sock_sendall(self.sock, records)

    async def _drive(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self.flush()
                if data := await self.loop.sock_recv(self.sock, 1 << 18):
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            else:
                await self.flush()
                return result

    async def handshake(self) -> None:
        """Come to terms."""
        await self._drive(self.tls.do_handshake)

    async def send(self, data: bytes) -> None:
        """Encrypt and send."""
        self.tls.write(data)
        await self.flush()

    async def receive(self, count: int) -> bytes:
        """Wait for so many bytes."""
        data = bytearray()
        while len(data) < count:
            piece = await self._drive(functools.partial(self.tls.read, count - len(data)))
            assert piece, f"the end after {len(data)} of {count} bytes"
            data += piece
        return bytes(data)

    async def receive_end(self) -> bool:
        """Wait for the end; True if it was announced, False if the connection just broke off."""
        try:
            piece = await self._drive(lambda: self.tls.read(1))
        except ssl.SSLEOFError:
            return False
        assert piece == b""
        return True

    async def say_goodbye(self) -> None:
        """Exchange the last records."""
        await self._drive(self.tls.unwrap)

    def announce_end(self) -> bytes:
        """Make the last record, which somebody is yet to send."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that do not block."""
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(False)
    return pair


@asynccontextmanager
async def tls_linked(
    loop: Loop,
    factory: Callable[[Loop], P],
    context: ssl.SSLContext | None = None,
    peer_context: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[tuple[P, Peer]]:
    """Give a protocol with a client's TLS transport, and the peer, after the handshake."""
    ours, theirs = socket_pair()
    with theirs:
        protocol = factory(loop)
        peer = Peer(loop, theirs, peer_context or server_context())
        connecting = loop.create_connection(
            lambda: protocol,
            sock=ours,
            ssl=context or client_context(),
            server_hostname=HOST,
            **options,
        )
        (transport, _), _ = await asyncio.gather(connecting, peer.handshake())
        try:
            yield protocol, peer
        finally:
            end(transport, protocol)
            await asyncio.wait([protocol.lost])


@asynccontextmanager
async def tls_ends(
    loop: Loop,
    client: Callable[[Loop], Recorder] = Recorder,
    server: Callable[[Loop], Recorder] = Recorder,
    client_ssl: ssl.SSLContext | None = None,
    server_ssl: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[Ends]:
    """Give the protocols of a TLS connection of which both ends are transports of the loop."""
    theirs = server(loop)
    listening = await loop.create_server(
        lambda: theirs, "127.0.0.1", 0, ssl=server_ssl or server_context()
    )
    host, port = listening.sockets[0].getsockname()
    ours = client(loop)
    await loop.create_connection(
        lambda: ours,
        host,
        port,
        ssl=client_ssl or client_context(),
        server_hostname=HOST,
        **options,
    )
    await theirs.made
    listening.close()
    try:
        yield Ends(ours, theirs)
    finally:
        for each in (ours, theirs):
            end(each.transport, each)
        await asyncio.wait([ours.lost, theirs.lost])
        await listening.wait_closed()
