"""Descriptors closed and reused under load: no byte reaches a connection that it was not for."""

from __future__ import annotations

import asyncio
import random
import socket

from parity.harness.turns import turn
from parity.harness.types import Loop

CLIENTS = 30
LAPS = 30


class Tagged(asyncio.Protocol):
    """Takes a tag of four bytes first, then answers everything with the tag."""

    def __init__(self) -> None:
        self.tag = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Take the tag, or answer with it once per byte."""
        if not self.tag:
            self.tag, data = data[:4], data[4:]
        self.transport.write(self.tag * len(data))


async def converse(address: tuple[str, int], tag: bytes, chance: random.Random) -> int:
    """Ask a few times under one tag, end in a random way, and count the answers."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(tag)
    answers = 0
    for _ in range(chance.randrange(1, 4)):
        count = chance.randrange(1, 20)
        writer.write(b"?" * count)
        assert await reader.readexactly(4 * count) == tag * count
        answers += count
    end = chance.choice(("close", "abort", "leave data"))
    if end == "leave data":
        writer.write(b"?" * 1000)
        writer.transport.abort()
    elif end == "abort":
        writer.transport.abort()
    else:
        writer.close()
        await writer.wait_closed()
    return answers


async def test_identity_a_storm_of_cancelling_closing_and_reopening_mixes_nothing(
    loop: Loop,
) -> None:
    chance = random.Random(5)
    server = await loop.create_server(Tagged, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    serial = 0
    finished = 0

    async def client() -> None:
        nonlocal serial, finished
        for _ in range(LAPS):
            serial += 1
            task = loop.create_task(converse(address, serial.to_bytes(4, "big"), chance))
            if chance.random() < 0.3:
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                task.cancel()
            try:
                await task
                finished += 1
            except asyncio.CancelledError:
                continue  # this lap's connection is closed by the collector
            except ConnectionError as error:
                raise AssertionError("a server connection was lost") from error

    # A cancelled lap leaves its transport to be closed: keep watch that it is, with no warning.
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    assert finished > CLIENTS * LAPS / 2
    server.close()


def test_identity_watchers_of_reused_numbers_hear_their_own_events_only(loop: Loop) -> None:
    chance = random.Random(6)
    pairs: list[tuple[socket.socket, socket.socket, bytes]] = []
    wrong: list[tuple[bytes, bytes]] = []
    heard = 0

    def open_pair(serial: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        tag = serial.to_bytes(4, "big")

        def on_readable() -> None:
            nonlocal heard
            got = ours.recv(4)
            heard += 1
            if got != tag:
                wrong.append((tag, got))

        loop.add_reader(ours, on_readable)
        theirs.sendall(tag)
        pairs.append((ours, theirs, tag))

    def close_pair() -> None:
        ours, theirs, _ = pairs.pop(chance.randrange(len(pairs)))
        loop.remove_reader(ours)
        ours.close()
        theirs.close()

    for serial in range(3000):
        open_pair(serial)
        if len(pairs) > 50 or chance.random() < 0.3:
            close_pair()
        if chance.random() < 0.2:
            turn(loop)
    while pairs:
        close_pair()
    assert heard > 300
    assert wrong == []
