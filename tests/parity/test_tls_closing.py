"""What has come for a TLS protocol already when its program closes the transport."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import termios
from typing import Any

import pytest

from .harness.certificates import client_context, server_context
from .harness.protocols import Buffered, Recorder
from .harness.tls import Peer, socket_pair, tls_linked
from .harness.turns import until
from .harness.types import Context, Loop

WORDS = b"0123456789" * 500


def left_in(fd: int) -> int:
    """Return how many bytes wait in a socket."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


async def arrived(ours: Any, peer: Peer, data: bytes = WORDS) -> None:
    """Have bytes come while the protocol does not read: the transport has them then."""
    transport = ours.made.result()
    transport.pause_reading()
    await peer.send(data)
    fd = transport.get_extra_info("socket").fileno()
    await until(lambda: not left_in(fd))


async def test_what_came_is_handed_on_as_the_transport_is_closed(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        await arrived(ours, peer)
        ours.transport.resume_reading()
        ours.transport.close()
        assert bytes(ours.data) == WORDS
        assert await peer.receive_end() is True
        await peer.say_goodbye()
        assert await ours.lost is None
        assert ours.calls == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]


async def test_what_came_with_the_peers_goodbye_is_handed_on_before_the_end(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.pause_reading()
        peer.tls.write(WORDS)
        await loop.sock_sendall(peer.sock, peer.outgoing.read() + peer.announce_end())
        fd = ours.transport.get_extra_info("socket").fileno()
        await until(lambda: not left_in(fd))
        ours.transport.resume_reading()
        ours.transport.close()
        assert bytes(ours.data) == WORDS
        assert await ours.lost is None
        assert ours.calls[-2:] == ["eof_received", "connection_lost"]


async def test_what_came_before_the_peer_went_is_handed_on_after_a_close(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        await arrived(ours, peer)
        peer.sock.shutdown(socket.SHUT_WR)
        # Its end comes by the next event, before the reading goes on.
        inner = asyncio.Event()
        loop.call_soon(lambda: loop.call_soon(inner.set))
        await inner.wait()
        ours.transport.resume_reading()
        ours.transport.close()
        assert await ours.lost is None
        assert bytes(ours.data) == WORDS


async def test_a_protocol_that_closes_as_it_is_made_has_what_came(loop: Loop) -> None:
    """The peer's last word of the handshake and its first data come in one piece."""

    class Hasty(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transport.close()
            self.calls.append("closed")

    ours, theirs = socket_pair()
    protocol = Hasty(loop)
    with theirs:
        peer = Peer(loop, theirs, client_context())
        accepting = loop.create_task(
            loop.connect_accepted_socket(lambda: protocol, ours, ssl=server_context())
        )
        with pytest.raises(Exception):  # noqa: B017, PT011
            peer.tls.do_handshake()
        await peer.flush()
        peer.incoming.write(await loop.sock_recv(theirs, 1 << 18))
        peer.tls.do_handshake()
        peer.tls.write(WORDS)
        await peer.flush()
        await accepting
        assert bytes(protocol.data) == WORDS
        assert protocol.calls == ["connection_made", "data_received", "closed"]
        assert await peer.receive_end() is True
        await peer.say_goodbye()
        assert await protocol.lost is None


async def test_an_answer_to_what_came_is_too_late(loop: Loop) -> None:
    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            assert self.transport.is_closing()
            self.transport.write(b"answer")
            self.transport.close()

    async with tls_linked(loop, Answering) as (ours, peer):
        await arrived(ours, peer)
        ours.transport.resume_reading()
        ours.transport.close()
        assert bytes(ours.data) == WORDS
        assert await peer.receive_end() is True
        await peer.say_goodbye()
        assert await ours.lost is None


async def test_a_protocol_that_fails_as_it_is_closed(loop: Loop, contexts: list[Context]) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise ValueError("no")

    async with tls_linked(loop, Failing) as (ours, peer):
        await arrived(ours, peer)
        ours.transport.resume_reading()
        ours.transport.close()
        assert isinstance(await ours.lost, ValueError)
        assert ours.calls == ["connection_made", "data_received", "connection_lost"]
    assert [context["message"] for context in contexts] == ["Fatal error on SSL protocol"]


@pytest.mark.parametrize(
    "raised", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit]
)
async def test_what_is_no_exception_is_raised_by_close_which_ends_in_order(
    loop: Loop, contexts: list[Context], raised: type[BaseException]
) -> None:
    class Interrupted(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise raised("here")

    async with tls_linked(loop, Interrupted) as (ours, peer):
        await arrived(ours, peer)
        ours.transport.resume_reading()
        with pytest.raises(raised, match="here"):
            ours.transport.close()
        assert ours.transport.is_closing()
        assert ours.calls == ["connection_made", "data_received"]
        await peer.say_goodbye()
        assert await ours.lost is None
        assert ours.calls[2:] == ["eof_received", "connection_lost"]
    assert contexts == []


@pytest.mark.only("cloverleaf")
async def test_a_small_buffer_has_all_that_came(loop: Loop) -> None:
    """asyncio fills it once, and then breaks the connection off for what is left."""
    async with tls_linked(loop, lambda loop: Buffered(loop, 1000)) as (ours, peer):
        transport = ours.made.result()
        transport.write(b"x" * 3_000_000)
        await arrived(ours, peer)
        transport.resume_reading()
        transport.close()
        assert bytes(ours.data) == WORDS
        assert await peer.receive(3_000_000) == b"x" * 3_000_000
        assert await peer.receive_end() is True
        await peer.say_goodbye()
        assert await ours.lost is None


@pytest.mark.only("cloverleaf")
async def test_what_a_paused_protocol_has_not_read_does_not_break_the_end(loop: Loop) -> None:
    """asyncio breaks the connection off: what was written and has not gone yet is lost."""
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.write(b"x" * 3_000_000)
        await arrived(ours, peer)
        ours.transport.close()
        assert await peer.receive(3_000_000) == b"x" * 3_000_000
        assert await peer.receive_end() is True
        await peer.say_goodbye()
        assert await ours.lost is None
        assert "data_received" not in ours.calls
