"""A peer that floods starves neither timers, nor other threads, nor other connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from parity.harness.protocols import Recorder
from parity.harness.turns import until
from parity.harness.types import Loop


class Swallow(asyncio.Protocol):
    """Counts what it receives."""

    def __init__(self) -> None:
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count, and answer what is short."""
        self.count += len(data)
        if len(data) < 10:
            self.transport.write(data)


@contextmanager
def flooding(address: tuple[str, int], connections: int) -> Iterator[None]:
    """Send as much as the connections take, from a thread each."""
    sockets = [socket.create_connection(address) for _ in range(connections)]
    block = bytes(1 << 20)

    def flood(sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(block)
        except OSError:
            return  # the test has shut the socket down

    threads = [threading.Thread(target=flood, args=(sock,)) for sock in sockets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for sock in sockets:
            sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for sock in sockets:
            sock.close()


async def test_a_flood_starves_nobody(loop: Loop) -> None:
    made: list[Swallow] = []

    def factory() -> Swallow:
        made.append(Swallow())
        return made[-1]

    async with await loop.create_server(factory, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        with flooding(address, 3):
            client = Recorder(loop)
            await loop.create_connection(lambda: client, *address)
            for _ in range(50):
                client.transport.write(b"ping")
                assert await client.received(4) == b"ping"
            for _ in range(20):
                await asyncio.sleep(0.001)
            for _ in range(5):
                assert await loop.run_in_executor(None, int) == 0
            # It was a flood, however long those who make it had to wait for a processor.
            await until(lambda: sum(each.count for each in made) > 1 << 20)
            client.transport.close()
            await client.lost
        for each in made:
            each.transport.abort()
        await asyncio.sleep(0)


async def test_jobs_that_reschedule_themselves_do_not_starve_io(loop: Loop) -> None:
    running = True

    def again() -> None:
        if running:
            loop.call_soon(again)

    again()
    ours, peer = socket.socketpair()
    protocol = Recorder(loop)
    await loop.create_connection(lambda: protocol, sock=ours)
    for _ in range(50):
        peer.send(b"x")
        assert await protocol.received(1) == b"x"
    await asyncio.sleep(0.001)
    running = False
    protocol.transport.close()
    await protocol.lost
    peer.close()
