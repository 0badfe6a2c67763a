"""Large writes that must wait: kept as they were, sent whole, let go."""

from __future__ import annotations

import array
import asyncio
import socket
import sys
from typing import Any

import pytest

from .harness.links import linked
from .harness.protocols import Recorder
from .harness.turns import until
from .harness.types import Loop

SIZE = 4 * 1024 * 1024


def take(peer: socket.socket) -> bytes:
    """Read what there is from a plain socket that does not block."""
    try:
        return peer.recv(1 << 20)
    except BlockingIOError:
        return b""


class Text(bytes):
    """Bytes with a class of their own."""


@pytest.mark.parametrize(
    "sort", [bytes, Text, bytearray, memoryview], ids=lambda sort: sort.__name__
)
@pytest.mark.parametrize("before", [b"", b"a little"])
async def test_a_large_write_is_sent_as_it_was(loop: Loop, sort: Any, before: bytes) -> None:
    content = bytes(range(256)) * (SIZE // 256)
    async with linked(loop, Recorder) as (protocol, peer):
        transport = protocol.transport
        transport.set_write_buffer_limits(high=2 * SIZE)
        peer.setblocking(False)
        transport.write(before)
        transport.write(sort(content))
        transport.write(b"behind")
        got = bytearray()
        while len(got) < len(before) + SIZE + 6:
            got += take(peer)
            await asyncio.sleep(0)
        assert bytes(got) == before + content + b"behind"
        assert transport.get_write_buffer_size() == 0


async def test_a_large_write_is_let_go_when_it_is_sent(loop: Loop) -> None:
    content = bytes(SIZE)
    references = sys.getrefcount(content)
    async with linked(loop, Recorder) as (protocol, peer):
        transport = protocol.transport
        peer.setblocking(False)
        transport.write(content)
        while transport.get_write_buffer_size():
            take(peer)
            await asyncio.sleep(0)
        assert sys.getrefcount(content) == references


async def test_a_large_write_is_let_go_when_the_connection_is_lost(loop: Loop) -> None:
    content = bytes(SIZE)
    references = sys.getrefcount(content)
    async with linked(loop, Recorder) as (protocol, peer):
        transport = protocol.transport
        transport.write(content)
        assert transport.get_write_buffer_size()
        peer.shutdown(socket.SHUT_RDWR)
        peer.close()
        await until(protocol.lost.done)
        assert sys.getrefcount(content) == references


@pytest.mark.only("cloverleaf")  # asyncio counts items where it has sent bytes, and loses most
async def test_items_larger_than_a_byte_are_sent_whole_and_counted_in_bytes(loop: Loop) -> None:
    content = array.array("i", range(SIZE // 4))
    async with linked(loop, Recorder) as (protocol, peer):
        peer.setblocking(False)
        protocol.transport.write(memoryview(content))
        got = bytearray(take(peer))
        # The kernel has a part of it.
        assert SIZE // 2 < protocol.transport.get_write_buffer_size() < SIZE
        while len(got) < SIZE:
            got += take(peer)
            await asyncio.sleep(0)
        assert bytes(got) == content.tobytes()
        assert protocol.transport.get_write_buffer_size() == 0
