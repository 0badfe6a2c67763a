"""Short connections: accept, one exchange, close; seen from the server, and from both ends."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from typing import cast

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Run, ServerWorkload, Traffic
from benchmarks.workloads.echo import Echo, serving

MESSAGE = b"x" * 64


class Caller(asyncio.Protocol):
    """Sends one message, closes when it has come back, and tells when the connection is over."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.over: asyncio.Future[int] = loop.create_future()
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.received == len(MESSAGE):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(self.received)


def turns(addresses: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Each address a thousand times in a row.

    A connection leaves a port that cannot meet the same address for a second. There are 14,000 that
    the kernel likes, and the fastest loop of a run would use them up; then a connection takes ten
    times as long, as the kernel looks at all of them.
    """
    for address in itertools.cycle(addresses):
        yield from itertools.repeat(address, 1000)


def both_ends(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """A server and its clients on one loop, one connection at a time."""
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(16)]
    addresses = turns([listener.getsockname() for listener in listeners])
    for listener in listeners:
        loop.run_until_complete(loop.create_server(Echo, sock=listener))

    async def call(times: int) -> None:
        for host, port in itertools.islice(addresses, times):
            _, caller = await loop.create_connection(lambda: Caller(loop), host, port)
            if await caller.over != len(MESSAGE):
                raise RuntimeError("a connection ended before its message came back")

    return lambda times: loop.run_until_complete(call(times))


WORKLOADS = (
    ServerWorkload(
        "accept-exchange-close",
        "Accept, echo 64 B, close; 16 clients at a time",
        "connection",
        serving(Echo),
        # Bounded, because every connection leaves a port in TIME_WAIT: what two rounds take in a
        # second is less than the 14,000 of which `turns` tells.
        Traffic(mode="churn", connections=16, size=64, most=6000),
    ),
    LoopWorkload(
        "connect-exchange-close",
        "Connect, echo 64 B, close; both ends on the loop",
        "connection",
        both_ends,
        floor=("calls", "--size", str(len(MESSAGE))),
    ),
)
