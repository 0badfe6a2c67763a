"""The collector runs at nearly every allocation, and nothing in use is taken away."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import threading
from collections.abc import Iterator

import pytest

from parity.harness.links import both_ends
from parity.harness.protocols import Buffered, Echo
from parity.harness.turns import turn
from parity.harness.types import Context, Loop


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """Collect the youngest objects after every few allocations, and the older ones often."""
    before = gc.get_threshold()
    gc.set_threshold(3, 3, 3)
    yield
    gc.set_threshold(*before)


def test_callbacks_and_timers(loop: Loop) -> None:
    seen: list[int] = []
    for n in range(300):
        loop.call_soon(lambda n=n: seen.append(n))  # type: ignore[misc]
        loop.call_later(0, lambda n=n: seen.append(n))  # type: ignore[misc]
        loop.call_soon_threadsafe(lambda n=n: seen.append(n))  # type: ignore[misc]
        loop.call_soon(seen.append, -1, context=contextvars.copy_context()).cancel()
    turn(loop)
    turn(loop)
    assert sorted(seen) == sorted(list(range(300)) * 3)


def test_injected_callbacks(loop: Loop) -> None:
    seen: list[int] = []

    def inject() -> None:
        for n in range(300):
            loop.call_soon_threadsafe(lambda n=n: seen.append(n))  # type: ignore[misc]
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=inject)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == list(range(300))


async def test_connections(loop: Loop) -> None:
    data = bytes(range(256)) * 4000
    async with both_ends(loop, server=Echo) as ends:
        for start in range(0, len(data), 100_000):
            ends.client.transport.write(bytearray(data[start : start + 100_000]))
        ends.client.transport.write_eof()
        assert await ends.client.received(len(data)) == data
        assert await ends.client.lost is None


async def test_buffered_protocols(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    protocol = Buffered(loop, 100)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    with peer:
        for _ in range(50):
            peer.send(bytes(150))
            assert len(await protocol.received(150)) == 150
        transport.close()
        await protocol.lost


def test_exceptions(loop: Loop, contexts: list[Context]) -> None:
    def fail(n: int) -> None:
        raise LookupError(n)

    for n in range(100):
        loop.call_soon(fail, n)
    turn(loop)
    assert [context["exception"].args for context in contexts] == [(n,) for n in range(100)]


def test_watchers(loop: Loop) -> None:
    for _ in range(30):
        ours, theirs = socket.socketpair()
        seen: list[bytes] = []
        loop.add_reader(ours, lambda ours=ours, seen=seen: seen.append(ours.recv(1)))  # type: ignore[misc]
        theirs.send(b"x")
        while not seen:
            turn(loop)
        loop.remove_reader(ours)
        ours.close()
        theirs.close()


async def test_tasks_servers_and_lookups(loop: Loop) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for _ in range(10):
            reader, writer = await asyncio.open_connection("localhost", port)
            writer.write(b"line\n")
            assert await reader.read() == b"line\n"
            writer.close()
            await writer.wait_closed()
    assert await loop.run_in_executor(None, int) == 0
