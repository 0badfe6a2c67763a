"""Several writes in one turn: complete, in order, and at the peer when they must be.

A connection that has answered in pieces before is expected to do so again. Here it often does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from .harness.complaints import Complaints
from .harness.links import accepted, everything
from .harness.protocols import Recorder
from .harness.turns import turn, turns, until
from .harness.types import Loop

Deed = Callable[[asyncio.Transport], object]


def arrived(peer: socket.socket) -> bytes:
    """Return what has come by now."""
    timeout = peer.gettimeout()
    # With a time-out, Python would wait for more.
    peer.setblocking(False)
    try:
        return peer.recv(1 << 16)
    except BlockingIOError:
        return b""
    finally:
        peer.settimeout(timeout)


async def answer(protocol: Recorder, peer: socket.socket, *pieces: bytes) -> None:
    """Write these in one turn; all have come at its end."""
    await turns(1)
    for piece in pieces:
        protocol.transport.write(piece)
    await turns(1)
    assert arrived(peer) == b"".join(pieces)


@asynccontextmanager
async def accustomed(loop: Loop) -> AsyncIterator[tuple[Recorder, socket.socket]]:
    """Give a connection that has answered in three pieces again and again."""
    async with accepted(loop, Recorder) as (protocol, peer):
        for _ in range(3):
            await answer(protocol, peer, b"a", b"b", b"c")
        await turns(1)
        yield protocol, peer


@pytest.mark.only("cloverleaf")  # asyncio sends each by itself
async def test_small_pieces_of_an_answer_go_together_once_that_is_expected(loop: Loop) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        seen: list[bytes] = []
        for _ in range(3):
            await turns(1)
            protocol.transport.write(b"a")
            seen.append(arrived(peer))
            protocol.transport.write(b"b")
            seen.append(arrived(peer))
        assert seen == [b"a", b"b", b"a", b"b", b"", b"ab"]


async def test_the_last_expected_piece_takes_the_others_along(loop: Loop) -> None:
    async with accustomed(loop) as (protocol, peer):
        for piece in (b"1", b"2", b"3"):
            protocol.transport.write(piece)
        assert arrived(peer) == b"123"


async def test_an_answer_in_fewer_pieces_has_come_in_the_next_turn(loop: Loop) -> None:
    async with accustomed(loop) as (protocol, peer):
        for count in (2, 1, 3, 1, 2, 2, 1):
            await answer(protocol, peer, *[b"%d" % number for number in range(count)])


async def test_a_callback_that_blocks_after_fewer_pieces_is_answered(loop: Loop) -> None:
    async with accustomed(loop) as (protocol, peer):
        protocol.transport.write(b"blocking")
        # Not awaiting, so the loop does nothing meanwhile.
        assert peer.recv(100) == b"blocking"


@pytest.mark.parametrize("size", [1, 5000, 300_000])
async def test_pieces_of_any_size_stay_in_order(loop: Loop, size: int) -> None:
    async with accustomed(loop) as (protocol, peer):
        body = random.Random(size).randbytes(size)
        protocol.transport.write(b"head")
        protocol.transport.write(body)
        protocol.transport.writelines([b"tail", body])
        received = loop.run_in_executor(None, everything, peer)
        await turns(1)
        protocol.transport.write(b"more")
        protocol.transport.close()
        assert await received == b"head" + body + b"tail" + body + b"more"


DEEDS: dict[str, Deed] = {
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "write_eof": lambda transport: transport.write_eof(),
    "descriptor": lambda transport: os.write(
        transport.get_extra_info("socket").fileno(), b"behind"
    ),
    "duplicate": lambda transport: transport.get_extra_info("socket").dup().close(),
    "option": lambda transport: transport.get_extra_info("socket").setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    ),
    "size": lambda transport: transport.get_write_buffer_size(),
    "limits": lambda transport: transport.set_write_buffer_limits(),
}


@pytest.mark.parametrize("deed", list(DEEDS))
async def test_whoever_could_tell_finds_the_first_piece_sent(loop: Loop, deed: str) -> None:
    async with accustomed(loop) as (protocol, peer):
        protocol.transport.write(b"alone")
        DEEDS[deed](protocol.transport)
        expected = b"alone" + b"behind" * (deed == "descriptor")
        assert arrived(peer) == expected


async def test_an_option_of_the_programs_own_stays(loop: Loop) -> None:
    async with accustomed(loop) as (protocol, peer):
        sock = protocol.transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        await answer(protocol, peer, b"alone")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 0


@pytest.mark.parametrize("by", ["stream", "datagram", "end of file"])
async def test_what_others_write_later_is_not_seen_before_it(loop: Loop, by: str) -> None:
    async with accustomed(loop) as (protocol, peer), accepted(loop, Recorder) as (other, its_peer):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as notified:
            notified.bind(("127.0.0.1", 0))
            notified.settimeout(60)
            notifier, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=notified.getsockname()
            )
            protocol.transport.write(b"earlier")
            match by:
                case "stream":
                    other.transport.write(b"later")
                    assert its_peer.recv(100) == b"later"
                case "datagram":
                    notifier.sendto(b"later")
                    assert notified.recv(100) == b"later"
                case _:
                    other.transport.write_eof()
                    assert its_peer.recv(100) == b""
            assert arrived(peer) == b"earlier"
            notifier.close()


def test_what_is_written_in_the_last_turn_has_gone(loop: Loop) -> None:
    connection = accustomed(loop)
    protocol, peer = loop.run_until_complete(connection.__aenter__())
    loop.call_soon(protocol.transport.write, b"stopped")
    turn(loop)
    assert arrived(peer) == b"stopped"
    # No loop runs that could send it later.
    protocol.transport.write(b"outside")
    assert arrived(peer) == b"outside"
    loop.run_until_complete(connection.__aexit__(None, None, None))


async def test_a_reset_connection_is_told_of_once(loop: Loop, logged: Complaints) -> None:
    async with accustomed(loop) as (protocol, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        protocol.transport.write(b"a")
        protocol.transport.write(b"b")
        await until(protocol.lost.done)
    assert logged.records == []


async def test_many_connections_answer_in_pieces_as_they_like(loop: Loop) -> None:
    chance = random.Random(7)
    sent: dict[Recorder, bytearray] = {}
    peers: dict[Recorder, socket.socket] = {}

    def protocol() -> Recorder:
        made = Recorder(loop)
        sent[made] = bytearray()
        return made

    async with await loop.create_server(protocol, "127.0.0.1", 0) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                before = set(sent)
                address = server.sockets[0].getsockname()
                peer = stack.enter_context(socket.create_connection(address))
                await until(lambda before=before: set(sent) - before)  # type: ignore[misc]
                [new] = set(sent) - before
                await new.made
                peers[new] = peer
            received = {each: bytearray() for each in peers}
            for _ in range(200):
                await turns(1)
                for each in chance.choices(list(peers), k=12):
                    piece = chance.randbytes(chance.choice([1, 10, 100, 5000]))
                    sent[each] += piece
                    each.transport.write(piece)
                await turns(1)
                for each, peer in peers.items():
                    received[each] += arrived(peer)
                    assert received[each] == sent[each]
            for each in peers:
                each.transport.close()
                await each.lost
