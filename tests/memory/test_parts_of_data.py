"""What is sent or received in parts, record by record or as there is room, leaves nothing behind.

A count of a few bytes that stays for each part is below what other tests see; here there are many.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from parity.harness.protocols import Recorder
from parity.harness.tls import tls_ends
from parity.harness.types import Loop

from .test_growth import assert_no_growth

# Of more than one record, and no multiple of one.
SIZE = 100_000
TIMES = 40


class Filled(asyncio.BufferedProtocol, Recorder):
    """Gives a small buffer, which takes several calls to receive one record."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.room = bytearray(3000)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Give the same buffer each time."""
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        """Keep the bytes."""
        self.data_received(bytes(memoryview(self.room)[:nbytes]))


@pytest.mark.parametrize("server", [Recorder, Filled])
def test_records_leave_nothing(loop: Loop, server: type[Recorder]) -> None:
    async def transfer() -> None:
        async with tls_ends(loop, server=server) as ends:
            for _ in range(TIMES):
                ends.client.transport.write(bytes(SIZE))
                await ends.server.received(SIZE)

    assert_no_growth(lambda: loop.run_until_complete(transfer()), TIMES)


class Slow(socket.socket):
    """Takes a part of what it is given, and then has no room once."""

    is_full = False

    def send(self, data: Any, flags: int = 0) -> int:
        """Send a thousand bytes."""
        self.is_full = not self.is_full
        if not self.is_full:
            raise BlockingIOError
        return super().send(memoryview(data)[:1000], flags)


def test_the_rest_of_what_a_socket_took_a_part_of_leaves_nothing(loop: Loop) -> None:
    ours, theirs = socket.socketpair()

    async def transfer(sock: socket.socket) -> None:
        await asyncio.gather(loop.sock_sendall(sock, bytes(SIZE)), receive(theirs))

    async def receive(sock: socket.socket) -> None:
        left = SIZE
        while left:
            left -= len(await loop.sock_recv(sock, SIZE))

    def work() -> None:
        loop.run_until_complete(transfer(slow))

    with theirs, Slow(fileno=ours.detach()) as slow:
        for sock in (slow, theirs):
            sock.setblocking(False)
        assert_no_growth(work, SIZE // 1000)
