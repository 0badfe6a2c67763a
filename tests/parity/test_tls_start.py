"""``start_tls``: TLS on connections that have begun without, and TLS within TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from typing import Any

import pytest

from .harness.certificates import HOST, client_context, server_context
from .harness.kinds import spares_asyncio
from .harness.links import both_ends
from .harness.protocols import Buffered, Recorder
from .harness.tls import Peer, socket_pair, tls_ends
from .harness.turns import turns
from .harness.types import Context, Loop


async def upgrade(loop: Loop, client: Recorder, server: Recorder) -> None:
    """Start TLS at both ends, and let the protocols know their new transports."""
    ours, theirs = await asyncio.gather(
        loop.start_tls(client.transport, client, client_context(), server_hostname=HOST),
        loop.start_tls(server.transport, server, server_context(), server_side=True),
    )
    assert ours is not None
    assert theirs is not None
    for recorder, transport in ((client, ours), (server, theirs)):
        recorder.made = loop.create_future()
        recorder.made.set_result(transport)


async def test_start_tls_at_both_ends(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        ends.client.transport.write(b"STARTTLS")
        assert await ends.server.received(8) == b"STARTTLS"
        plain = ends.client.transport
        await upgrade(loop, ends.client, ends.server)
        assert ends.client.transport is not plain
        assert ends.client.transport.get_extra_info("ssl_object").version()
        assert ends.client.transport.get_extra_info("peername") == plain.get_extra_info("peername")
        ends.client.transport.write(b"secret")
        assert await ends.server.received(6) == b"secret"
        ends.server.transport.write(b"answer")
        assert await ends.client.received(6) == b"answer"
        ends.client.transport.close()
        assert await ends.client.lost is None
        assert await ends.server.lost is None
        assert ends.client.calls.count("connection_made") == 1
        assert ends.server.calls.count("connection_made") == 1


async def test_tls_in_tls(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        outer = ends.client.transport.get_extra_info("ssl_object")
        await upgrade(loop, ends.client, ends.server)
        inner = ends.client.transport.get_extra_info("ssl_object")
        assert inner is not outer
        data = bytes(range(256)) * 4096
        ends.client.transport.write(data)
        assert await ends.server.received(len(data)) == data
        ends.server.transport.write(data)
        assert await ends.client.received(len(data)) == data
        ends.server.transport.close()
        assert await ends.server.lost is None
        assert await ends.client.lost is None
        assert ends.client.calls.count("connection_lost") == 1


class Answering(Recorder):
    """Answers each piece of data with pieces around the sizes at which TLS cuts them."""

    SIZES = (1, 16384, 16385, 3, 40_000, 131_072, 70_000, 5, 300_000, 32_768, 1)
    BYTES = bytes(range(251)) * 2000

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        for start, size in enumerate(self.SIZES):
            self.transport.write(self.BYTES[start : start + size])
        self.transport.writelines([self.BYTES[:20_000], b"", self.BYTES[7:50_000]])

    @classmethod
    def answer(cls) -> bytes:
        pieces = [cls.BYTES[start : start + size] for start, size in enumerate(cls.SIZES)]
        return b"".join(pieces) + cls.BYTES[:20_000] + cls.BYTES[7:50_000]


@pytest.mark.parametrize("depth", [1, 2])
async def test_answers_of_any_size_keep_their_order(loop: Loop, depth: int) -> None:
    async with tls_ends(loop, server=Answering) as ends:
        for _ in range(1, depth):
            await upgrade(loop, ends.client, ends.server)
        for _ in range(3):
            ends.client.transport.write(b"?")
            assert await ends.client.received(len(Answering.answer())) == Answering.answer()


async def test_a_write_in_the_place_of_that_below_is_called_whatever_it_is(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        below = ends.client.transport
        await upgrade(loop, ends.client, ends.server)
        for size in (100, 16_384, 100_000):
            written: list[bytes] = []
            below.write = written.append  # type: ignore[method-assign, assignment]
            ends.client.transport.write(bytes(size))
            del below.write
            assert sum(map(len, written)) > size
            for records in written:
                below.write(records)
            assert await ends.server.received(size) == bytes(size)


async def test_tls_in_tls_in_tls_can_be_aborted(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        await upgrade(loop, ends.client, ends.server)
        await upgrade(loop, ends.client, ends.server)
        ends.client.transport.write(b"deep")
        assert await ends.server.received(4) == b"deep"
        ends.client.transport.abort()
        assert await ends.client.lost is None
        await ends.server.lost


async def test_stream_writers_start_tls(loop: Loop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(server_context())
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context(), server_hostname=HOST)
    writer.write(b"secret\n")
    assert await reader.read() == b"SECRET\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


# asyncio left it with the reader until 3.13.13 and 3.14.4 (gh-142352), and the handshake hung.
LEAVES_IT = sys.version_info < (3, 13, 13) or (3, 14) <= sys.version_info < (3, 14, 4)


@spares_asyncio(LEAVES_IT)
async def test_start_tls_hands_on_what_a_stream_reader_holds(loop: Loop) -> None:
    """A proxy's header and the client's first record may come in one piece; the record is TLS's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"PROXY TCP4\n"
        await writer.start_tls(server_context())
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, server.sockets[0].getsockname())
        peer = Peer(loop, sock, client_context())
        peer.outgoing.write(b"PROXY TCP4\n")
        await peer.handshake()
        await peer.send(b"secret\n")
        assert await peer.receive(7) == b"SECRET\n"
        assert await peer.receive_end()
    server.close()
    await server.wait_closed()


async def test_a_client_keeps_what_came_before_tls(loop: Loop) -> None:
    """Only a server's peer speaks first in TLS, so what a client has read was no record."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"go\nnot read yet\n")
        await writer.start_tls(server_context())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context(), server_hostname=HOST)
    assert await reader.readline() == b"not read yet\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_start_tls_checks_its_arguments(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"sslcontext is expected to be an instance of ssl\.SSL"):
        await loop.start_tls(None, None, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"transport None is not supported by start_tls\(\)"):
        await loop.start_tls(None, None, client_context())  # type: ignore[arg-type]


@pytest.mark.parametrize(("yes", "no"), [(1, 0), (1, False)])
async def test_which_side_it_is_may_be_told_by_a_number(loop: Loop, yes: Any, no: Any) -> None:
    async with both_ends(loop) as ends:
        client, server = ends.client, ends.server
        ours, theirs = await asyncio.gather(
            loop.start_tls(
                client.transport,
                client,
                client_context(),
                server_side=no,
                server_hostname=HOST,
            ),
            loop.start_tls(server.transport, server, server_context(), server_side=yes),
        )
        assert ours is not None
        assert theirs is not None
        assert not ours.get_extra_info("ssl_object").server_side
        assert theirs.get_extra_info("ssl_object").server_side


async def test_start_tls_fails_with_the_handshake(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with theirs:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        await loop.sock_sendall(theirs, b"no TLS here, sorry\r\n")
        await protocol.received(20)
        upgrading = loop.create_task(
            loop.start_tls(transport, protocol, client_context(), server_hostname=HOST)
        )
        await loop.sock_recv(theirs, 1 << 16)
        await loop.sock_sendall(theirs, b"really not\r\n")
        with pytest.raises(ssl.SSLError):
            await upgrading
        assert isinstance(await protocol.lost, ssl.SSLError)
        assert transport.is_closing()


async def test_a_cancelled_start_tls_closes_the_transport(
    loop: Loop, contexts: list[Context]
) -> None:
    ours, theirs = socket_pair()
    with theirs:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        upgrading = loop.create_task(
            loop.start_tls(transport, protocol, client_context(), server_hostname=HOST)
        )
        assert await loop.sock_recv(theirs, 1 << 16)
        upgrading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upgrading
        assert transport.is_closing()
        assert await loop.sock_recv(theirs, 1) == b""
    await turns(3)
    assert contexts == []


async def test_start_tls_to_a_buffered_protocol(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with theirs:
        first, second = Recorder(loop), Buffered(loop)
        transport, _ = await loop.create_connection(lambda: first, sock=ours)
        peer = Peer(loop, theirs, server_context())
        upgraded, _ = await asyncio.gather(
            loop.start_tls(transport, second, client_context(), server_hostname=HOST),
            peer.handshake(),
        )
        assert upgraded is not None
        assert upgraded.get_protocol() is second
        assert transport.get_protocol() is not first
        await peer.send(b"to the second")
        assert await second.received(13) == b"to the second"
        assert second.calls[0] != "connection_made"
        upgraded.abort()
        assert await second.lost is None
        assert not first.lost.done()


async def test_the_peer_that_speaks_first_is_heard(loop: Loop) -> None:
    """What the peer has sent before ``start_tls`` is called is part of the handshake."""
    ours, theirs = socket_pair()
    with theirs:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        transport.pause_reading()
        peer = Peer(loop, theirs, client_context())
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        await peer.flush()
        upgraded, _ = await asyncio.gather(
            loop.start_tls(transport, protocol, server_context(), server_side=True),
            peer.handshake(),
        )
        await peer.send(b"hello")
        assert await protocol.received(5) == b"hello"
        assert upgraded is not None
        upgraded.abort()
        await protocol.lost


async def test_start_tls_may_time_out(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with theirs:
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        with pytest.raises(ConnectionAbortedError, match=r"taking longer than 0\.01 seconds"):
            await loop.start_tls(
                transport,
                protocol,
                client_context(),
                server_hostname=HOST,
                ssl_handshake_timeout=0.01,
            )


async def test_start_tls_with_a_peer_that_has_ended_fails_at_once(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        theirs.shutdown(socket.SHUT_WR)
        assert await reader.read() == b""
        with pytest.raises(ConnectionResetError):
            await writer.start_tls(client_context(), server_hostname=HOST)


async def test_two_tls_sockets_families(loop: Loop) -> None:
    """``start_tls`` works on Unix streams too."""
    ours, theirs = socket.socketpair()
    client, server = Recorder(loop), Recorder(loop)
    await loop.create_connection(lambda: client, sock=ours)
    await loop.create_connection(lambda: server, sock=theirs)
    await upgrade(loop, client, server)
    server.transport.write(b"unix")
    assert await client.received(4) == b"unix"
    client.transport.close()
    assert await client.lost is None
    assert await server.lost is None


async def test_start_tls_on_a_transport_that_was_just_closed_returns_none(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.create_connection(lambda: Recorder(loop), sock=ours)
        transport.close()
        protocol = Recorder(loop)
        # Without wait_for(), which takes a turn on Python 3.11: the transport would be lost then.
        upgraded = await loop.start_tls(transport, protocol, client_context(), server_hostname=HOST)
        assert upgraded is None
        assert protocol.calls == ["connection_lost"]
