"""Connections whose protocols have the loop run within itself all the time lose no byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

import cloverleaf

from .harness.certificates import HOST, client_context, server_context
from .harness.nests import NEEDS_GIL, answer, nest_with_backend
from .harness.turns import until

pytestmark = NEEDS_GIL


@pytest.fixture(params=["epoll", "io_uring"], name="nest")
def _nest(request: pytest.FixtureRequest, guard: None) -> Iterator[cloverleaf.EventLoop]:
    yield from nest_with_backend(request.param)


class Nester(asyncio.Protocol):
    """Keeps what comes, sends it back if it is to, and often has the loop run in its callbacks."""

    def __init__(self, loop: cloverleaf.EventLoop, depths: list[int], *, echoes: bool) -> None:
        self.loop = loop
        self.depths = depths
        self.echoes = echoes
        self.random = random.Random(len(depths))
        self.data = bytearray()
        self.transport: Any = None
        self.lost = asyncio.Event()

    def nest(self) -> None:
        """Have the loop run, now and then, and not too deep."""
        if self.depths[-1] < 8 and self.random.random() < 0.3:
            self.depths.append(self.depths[-1] + 1)
            self.loop.run_until_complete(answer(rounds=self.random.randrange(3)))
            self.depths.pop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.nest()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.echoes:
            self.transport.write(data)
        self.nest()

    def pause_writing(self) -> None:
        self.nest()

    def resume_writing(self) -> None:
        self.nest()

    def connection_lost(self, exc: Exception | None) -> None:
        self.nest()
        self.lost.set()


@pytest.mark.parametrize("secure", [False, True])
def test_no_byte_is_lost_or_reordered_amid_runs_within_runs(
    nest: cloverleaf.EventLoop, secure: bool
) -> None:
    depths = [0]
    whole = random.Random(1).randbytes(300_000)
    clients: list[Nester] = []

    async def talk(address: tuple[str, int], size: int) -> bytes:
        client = Nester(nest, depths, echoes=False)
        clients.append(client)
        tls: dict[str, Any] = {"ssl": client_context(), "server_hostname": HOST} if secure else {}
        transport, _ = await nest.create_connection(lambda: client, *address, **tls)
        for start in range(0, len(whole), size):
            transport.write(whole[start : start + size])
            if start // size % 3 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(client.data) >= len(whole))
        transport.close()
        await client.lost.wait()
        return bytes(client.data)

    async def main() -> list[bytes]:
        server = await nest.create_server(
            lambda: Nester(nest, depths, echoes=True),
            "127.0.0.1",
            0,
            ssl=server_context() if secure else None,
        )
        address = server.sockets[0].getsockname()
        found = await asyncio.gather(*(talk(address, size) for size in (999, 4096, 70_000, 20)))
        server.close()
        await server.wait_closed()
        return found

    assert all(found == whole for found in nest.run_until_complete(main()))
    assert depths == [0]
