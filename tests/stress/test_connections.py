"""A thousand connections at once, and pausing, resuming and sizes at random."""

from __future__ import annotations

import asyncio
import random
import resource
from collections.abc import Iterator
from typing import cast

import pytest

from parity.harness.protocols import Echo, Recorder
from parity.harness.types import Loop

CONNECTIONS = 1000
DESCRIPTORS = 4096  # two for each of them, and one while it connects


@pytest.fixture
def enough_descriptors() -> Iterator[None]:
    """Let this process have the descriptors that a shell often does not give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        if hard < DESCRIPTORS:
            pytest.skip(f"no more than {hard} descriptors are to be had here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("enough_descriptors")
async def test_a_thousand_connections_are_all_served(loop: Loop) -> None:
    served: list[Echo] = []

    def factory() -> Echo:
        served.append(Echo(loop))
        return served[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=CONNECTIONS)
    address = server.sockets[0].getsockname()
    clients = [Recorder(loop) for _ in range(CONNECTIONS)]
    for start in range(0, CONNECTIONS, 100):
        await asyncio.gather(
            *(
                loop.create_connection(lambda client=client: client, *address)  # type: ignore[misc]
                for client in clients[start : start + 100]
            )
        )
    for lap in range(3):
        for n, client in enumerate(clients):
            client.transport.write(b"%04d/%d" % (n, lap))
        for n, client in enumerate(clients):
            assert await client.received(6) == b"%04d/%d" % (n, lap)
    for client in clients:
        client.transport.close()
    for each in [*clients, *served]:
        assert await each.lost is None
    server.close()


class Moody(asyncio.Protocol):
    """Echoes in pieces of random sizes, and pauses reading at random."""

    def __init__(self, loop: Loop, chance: random.Random) -> None:
        self.loop = loop
        self.chance = chance
        self.paused_writing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set limits that are soon reached."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=self.chance.choice((0, 1000, 100_000)))

    def data_received(self, data: bytes) -> None:
        """Send it back in one of several ways."""
        cut = self.chance.randrange(len(data) + 1)
        if self.chance.random() < 0.5:
            self.transport.writelines([data[:cut], data[cut:]])
        else:
            self.transport.write(data[:cut])
            self.transport.write(bytearray(data[cut:]))
        if self.chance.random() < 0.3:
            self.transport.pause_reading()
            self.loop.call_later(self.chance.random() / 500, self.resume)

    def resume(self) -> None:
        """Read again, unless writing is paused."""
        if not self.paused_writing:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Read no more while the peer does not read."""
        assert not self.paused_writing
        self.paused_writing = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        assert self.paused_writing
        self.paused_writing = False
        self.transport.resume_reading()

    def eof_received(self) -> bool:
        """Let the transport close when all is sent."""
        return False


async def test_random_pausing_and_sizes_lose_no_byte(loop: Loop) -> None:
    chance = random.Random(8)
    server = await loop.create_server(lambda: Moody(loop, chance), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def client(seed: int) -> None:
        own = random.Random(seed)
        data = own.randbytes(1_000_000)
        reader, writer = await asyncio.open_connection(*address, limit=own.choice((100, 1 << 16)))

        async def send() -> None:
            position = 0
            while position < len(data):
                size = own.choice((1, 100, 10_000, 100_000))
                writer.write(data[position : position + size])
                position += size
                if own.random() < 0.2:
                    await writer.drain()
            writer.write_eof()

        sending = loop.create_task(send())
        received = bytearray()
        while piece := await reader.read(own.choice((10, 1000, 100_000))):
            received += piece
        await sending
        assert received == data
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(seed) for seed in range(8)))
    server.close()
    await server.wait_closed()
