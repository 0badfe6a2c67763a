"""A loop that runs within itself: what came at once, and is left of it, is told within."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import cloverleaf

from .harness.certificates import HOST, client_context, server_context
from .harness.nests import NEEDS_GIL, Talker, nest_with_backend
from .harness.turns import until
from .harness.types import Loop

pytestmark = NEEDS_GIL


@pytest.fixture(params=["epoll", "io_uring"], name="nest")
def _nest(request: pytest.FixtureRequest, guard: None) -> Iterator[cloverleaf.EventLoop]:
    yield from nest_with_backend(request.param)


@pytest.mark.parametrize("paused", [False, True])
def test_datagrams_that_came_together_are_told_in_inner_runs(nest: Loop, paused: bool) -> None:
    most, far = 5, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    told: list[bytes] = []

    class Each(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            told.append(data)
            if len(told) <= most and not data.startswith(b"early"):
                seen = len(told)
                nest.run_until_complete(asyncio.wait_for(until(lambda: len(told) > seen), 60))

    async def main() -> None:
        transport: Any
        transport, _ = await nest.create_datagram_endpoint(Each, local_addr=("127.0.0.1", 0))
        far.connect(transport.get_extra_info("sockname"))
        for _ in range(10):  # until the next ones are received together
            told.clear()
            for index in range(30):
                far.send(b"early %d" % index)
            await until(lambda: len(told) == 30)
        told.clear()
        if paused:
            transport.pause_reading()
        for index in range(30):
            far.send(b"%d" % index)
        if paused:
            transport.resume_reading()
        await until(lambda: len(told) == 30)
        transport.close()
        await asyncio.sleep(0)

    nest.run_until_complete(main())
    assert told == [b"%d" % index for index in range(30)]
    far.close()


def test_what_a_tls_protocols_buffer_had_no_room_for_comes_in_inner_runs(nest: Loop) -> None:
    class Small(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer, self.data = bytearray(10), bytearray()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]
            seen = len(self.data)
            if seen < 30:
                nest.run_until_complete(asyncio.wait_for(until(lambda: len(self.data) > seen), 60))

    async def main() -> bytes:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(range(30)))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server_context())
        host, port = server.sockets[0].getsockname()
        transport, small = await nest.create_connection(
            Small, host, port, ssl=client_context(), server_hostname=HOST
        )
        await until(lambda: len(small.data) == 30)
        transport.close()
        server.close()
        await server.wait_closed()
        return bytes(small.data)

    assert nest.run_until_complete(main()) == bytes(range(30))


def test_what_cannot_be_polled_is_read_in_inner_runs(nest: Loop) -> None:
    done: asyncio.Future[int] = nest.create_future()

    def first(self: Talker, data: bytes) -> None:
        nest.run_until_complete(asyncio.wait_for(self.received(1), 60))
        done.set_result(len(self.data))

    async def main() -> int:
        file = open("/dev/zero", "rb", buffering=0)  # noqa: ASYNC230, SIM115, PTH123
        transport, _ = await nest.connect_read_pipe(lambda: Talker(first), file)
        try:
            return await done
        finally:
            transport.close()
            await asyncio.sleep(0)

    assert nest.run_until_complete(main()) > 0
