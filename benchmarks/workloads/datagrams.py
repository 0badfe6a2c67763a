"""UDP: one datagram at a time, and bursts. Both ends on the loop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Prepare, Run

BURST = 64
MESSAGE = b"x" * 64


class Answering(asyncio.DatagramProtocol):
    """Sends each datagram back."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.transport.sendto(data, addr)


class Asking(asyncio.DatagramProtocol):
    """Sends so many datagrams, and as many again when all have come back."""

    transport: asyncio.DatagramTransport

    def __init__(self, burst: int) -> None:
        self.burst = burst
        self.missing = self.left = 0
        self.done: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def ask(self, times: int, done: asyncio.Future[None]) -> None:
        self.left, self.done = times, done
        self.send()

    def send(self) -> None:
        self.missing = self.burst
        for _ in range(self.burst):
            self.transport.sendto(MESSAGE)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.missing -= 1
        if self.missing:
            return
        self.left -= self.burst
        if self.left > 0:
            self.send()
        else:
            self.done.set_result(None)


def conversation(burst: int) -> Prepare:
    """Datagrams there and back, so many at a time."""

    def prepare(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
        asking = Asking(burst)

        async def connect() -> None:
            answering, _ = await loop.create_datagram_endpoint(
                Answering, local_addr=("127.0.0.1", 0)
            )
            address = answering.get_extra_info("sockname")
            await loop.create_datagram_endpoint(lambda: asking, remote_addr=address)

        async def ask(times: int) -> None:
            done = loop.create_future()
            asking.ask(times, done)
            await done

        loop.run_until_complete(connect())
        return lambda times: loop.run_until_complete(ask(times))

    return prepare


WORKLOADS = (
    LoopWorkload(
        "udp-ping-pong",
        "UDP ping-pong, 64 B, both ends",
        "datagram",
        conversation(1),
        floor=("datagrams", "--burst", "1", "--size", str(len(MESSAGE))),
    ),
    LoopWorkload(
        "udp-burst",
        "UDP bursts of 64, 64 B, both ends",
        "datagram",
        conversation(BURST),
        batch=BURST,
        floor=("datagrams", "--burst", str(BURST), "--size", str(len(MESSAGE))),
    ),
)
