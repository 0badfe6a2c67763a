"""A quiet connection beside loud ones: nobody is served twice before everybody was served once."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

import cloverleaf

from .harness.types import Loop

LOUD = 64


class Listening(asyncio.Protocol):
    """Notes who hears what; the quiet one's words end the test."""

    def __init__(self, name: int, heard: list[int], over: asyncio.Future[None]) -> None:
        self.name, self.heard, self.over = name, heard, over

    def data_received(self, data: bytes) -> None:
        self.heard.append(self.name)
        if self.name == LOUD and not self.over.done():
            self.over.set_result(None)


async def test_a_quiet_connection_waits_for_each_loud_one_once(loop: Loop) -> None:
    heard: list[int] = []
    over = loop.create_future()
    pairs = [socket.socketpair() for _ in range(LOUD + 1)]
    transports = []
    for name, (ours, theirs) in enumerate(pairs):
        theirs.setblocking(False)
        protocol = Listening(name, heard, over)
        transport, _ = await loop.create_connection(lambda p=protocol: p, sock=ours)  # type: ignore[misc]
        transport.pause_reading()
        transports.append(transport)
    for _, theirs in pairs[:LOUD]:
        try:
            while theirs.send(b"loud" * 10_000):
                pass
        except BlockingIOError:
            pass
    pairs[LOUD][1].send(b"quiet")
    for transport in transports:
        transport.resume_reading()
    await over
    before = Counter(heard[: heard.index(LOUD)])
    # asyncio may find the quiet one's event only with the next look at the kernel.
    assert max(before.values(), default=0) <= 2
    for transport, (_, theirs) in zip(transports, pairs, strict=True):
        transport.abort()
        theirs.close()
    await asyncio.sleep(0)


class Answered(asyncio.Protocol):
    """A loud connection: it hears the next word as soon as it has heard one."""

    def __init__(
        self, peer: socket.socket, heard: list[int], quiet: socket.socket, at: int
    ) -> None:
        self.peer, self.heard, self.quiet, self.at = peer, heard, quiet, at

    def data_received(self, data: bytes) -> None:
        self.heard.append(LOUD + 1)
        if len(self.heard) == self.at:
            self.quiet.send(b"quiet")
        self.peer.send(b"loud")


@pytest.mark.parametrize("place", [1, LOUD // 2, LOUD])
async def test_a_quiet_connection_waits_for_the_rest_of_one_turn(loop: Loop, place: int) -> None:
    heard: list[int] = []
    over = loop.create_future()
    pairs = [socket.socketpair() for _ in range(LOUD + 1)]
    quiet = pairs[LOUD][1]
    # Where in a turn the quiet one speaks, after some in which the loud ones did.
    at = 4 * LOUD + place
    transports = []
    for ours, theirs in pairs[:LOUD]:
        protocol = Answered(theirs, heard, quiet, at)
        transport, _ = await loop.create_connection(lambda p=protocol: p, sock=ours)  # type: ignore[misc]
        transports.append(transport)
    transport, _ = await loop.create_connection(
        lambda: Listening(LOUD, heard, over), sock=pairs[LOUD][0]
    )
    transports.append(transport)
    for _, theirs in pairs[:LOUD]:
        theirs.send(b"loud")
    await over
    waited_for = heard.index(LOUD) - at
    # The kernel reports first what was ready before, so asyncio serves all of them once more.
    assert waited_for < (LOUD if isinstance(loop, cloverleaf.EventLoop) else 2 * LOUD)
    for transport, (_, theirs) in zip(transports, pairs, strict=True):
        transport.abort()
        theirs.close()
    await asyncio.sleep(0)
