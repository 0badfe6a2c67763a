"""What a TLS protocol has written, and its goodbye, for a peer that has ended and still reads."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from cloverleaf._releases import TLS_SHUTDOWNS_STAY_LIMITED

from .harness.protocols import Recorder
from .harness.tls import Peer, tls_linked
from .harness.turns import until
from .harness.types import Loop

# More than the kernel and the transport below take at once.
BIG = bytes(range(256)) * 8192  # 2 MiB
TIMEOUT = 0.01


async def say_goodbye(loop: Loop, peer: Peer) -> None:
    await loop.sock_sendall(peer.sock, peer.announce_end())


async def end_without_a_word(_: Loop, peer: Peer) -> None:
    peer.sock.shutdown(socket.SHUT_WR)


async def say_goodbye_and_end(loop: Loop, peer: Peer) -> None:
    await say_goodbye(loop, peer)
    await end_without_a_word(loop, peer)


ENDS = [say_goodbye, end_without_a_word, say_goodbye_and_end]


def told(ours: Recorder) -> list[str]:
    """Return what the protocol was told, but for when to pause, which does not matter here."""
    return [call for call in ours.calls if call not in ("pause_writing", "resume_writing")]


async def read_to_the_end(loop: Loop, peer: Peer) -> int:
    """Return how many bytes of records come until the transport is gone."""
    count = 0
    while records := await loop.sock_recv(peer.sock, 1 << 18):
        count += len(records)
    return count


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("closes", [False, True])
async def test_a_peer_that_has_ended_may_take_its_time_to_read_unless_that_stays_limited(
    loop: Loop, end: Any, closes: bool
) -> None:
    async with tls_linked(loop, Recorder, ssl_shutdown_timeout=TIMEOUT) as (ours, peer):
        ours.transport.write(BIG)
        await end(loop, peer)
        if closes:
            ours.transport.close()
        await until(lambda: "eof_received" in ours.calls or ours.lost.done())
        ours.transport.pause_reading()  # too late to hold anything up
        # A timer for the shutdown would be due before this one.
        await asyncio.sleep(TIMEOUT * 2)
        if TLS_SHUTDOWNS_STAY_LIMITED:
            assert repr(await ours.lost) == "TimeoutError('SSL shutdown timed out')"
        else:
            assert not ours.lost.done()
            assert await read_to_the_end(loop, peer) > len(BIG)
            assert await ours.lost is None
        assert told(ours) == ["connection_made", "eof_received", "connection_lost"]


async def test_a_peer_that_reads_nothing_after_its_goodbye_is_waited_for_as_asyncio_does(
    loop: Loop,
) -> None:
    async with tls_linked(loop, Recorder, ssl_shutdown_timeout=TIMEOUT) as (ours, peer):
        # What the kernel has no room for waits below, and nothing before it becomes records.
        while not ours.transport.get_write_buffer_size():
            ours.transport.write(bytes(4096))
        await say_goodbye(loop, peer)
        await until(lambda: "eof_received" in ours.calls)
        await asyncio.sleep(TIMEOUT * 2)
        if TLS_SHUTDOWNS_STAY_LIMITED:
            assert repr(await ours.lost) == "TimeoutError('SSL shutdown timed out')"
        else:
            assert not ours.lost.done()
            await read_to_the_end(loop, peer)
            assert await ours.lost is None


@pytest.mark.parametrize("end", ENDS)
async def test_a_peer_that_ends_after_a_close_may_take_its_time_to_read(
    loop: Loop, end: Any
) -> None:
    async with tls_linked(loop, Recorder, ssl_shutdown_timeout=60) as (ours, peer):
        ours.transport.write(BIG)
        ours.transport.close()
        await end(loop, peer)
        await until(lambda: "eof_received" in ours.calls or ours.lost.done())
        assert not ours.lost.done()
        assert await read_to_the_end(loop, peer) > len(BIG)
        assert await ours.lost is None
        assert told(ours) == ["connection_made", "eof_received", "connection_lost"]


async def is_told_the_end(peer: Peer) -> bool:
    """Wait for the end, and return whether it was announced."""
    try:
        return await peer.receive_end()
    except ssl.SSLZeroReturnError:
        return True  # as who has said goodbye before is told


async def end_after_the_goodbye(loop: Loop, ours: Recorder, peer: Peer) -> None:
    await say_goodbye(loop, peer)
    await until(lambda: "eof_received" in ours.calls)


async def close_first(_loop: Loop, ours: Recorder, _peer: Peer) -> None:
    ours.transport.close()


@pytest.mark.parametrize("begin", [end_after_the_goodbye, close_first])
async def test_a_shutdown_that_has_begun_says_goodbye_after_an_end_of_file(
    loop: Loop, begin: Any
) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.write(BIG)
        await begin(loop, ours, peer)
        await end_without_a_word(loop, peer)
        assert await peer.receive(len(BIG)) == BIG
        assert await is_told_the_end(peer)
        assert await ours.lost is None
