"""A quiet connection beside loud ones: nobody is served twice before everybody was served once."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

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
