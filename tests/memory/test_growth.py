"""What is repeated many times leaves nothing behind: neither Python objects nor native memory."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

import cloverleaf
from parity.harness.crowds import COUNT, Member, clients
from parity.harness.extension import module
from parity.harness.turns import turn, until
from parity.harness.types import Loop, NewLoop

PAGE = 4096


def resident() -> int:
    """Return the bytes of memory that the process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


ROUNDS = 5


def growth(work: Callable[[], object]) -> tuple[int, int]:
    """Return by how many blocks and by how many bytes the last rounds grew, after warming up."""
    for _ in range(3):
        work()
    gc.collect()
    blocks, size = sys.getallocatedblocks(), resident()
    for _ in range(ROUNDS):
        work()
    gc.collect()
    return sys.getallocatedblocks() - blocks, resident() - size


def assert_no_growth(work: Callable[[], object], repeats: int) -> None:
    """Check that less than a block for ten repetitions, and less than 4 MiB in all, has stayed.

    A call of `work` makes so many repetitions, and ROUNDS calls are measured. Of many repetitions
    less may stay: 50 blocks in all, or a block for fifty. A thread that is started and a free list
    that fills grow now and then; a leak grows each time.
    """
    most_blocks = min(ROUNDS * repeats // 10, max(repeats // 10, 50))
    most_size = 4 << 20
    for _ in range(3):
        blocks, size = growth(work)
        if blocks < most_blocks and size < most_size:
            return
    assert blocks < most_blocks
    assert size < most_size


def test_callbacks_leave_nothing(loop: Loop) -> None:
    def work() -> None:
        for n in range(5000):
            loop.call_soon(int, n)
            loop.call_soon_threadsafe(int, n)
        turn(loop)

    assert_no_growth(work, 10_000)


def test_cancelled_callbacks_leave_nothing(loop: Loop) -> None:
    def work() -> None:
        for handle in [loop.call_soon(int, n) for n in range(5000)]:
            handle.cancel()
        turn(loop)

    assert_no_growth(work, 5000)


def test_timers_leave_nothing(loop: Loop) -> None:
    def work() -> None:
        for n in range(5000):
            loop.call_at(0, int, n)
        turn(loop)

    assert_no_growth(work, 5000)


def test_cancelled_far_timers_leave_nothing_though_no_turn_runs(loop: Loop) -> None:
    """A program that sets and cancels a timeout per request must not fill its memory with them."""

    def work() -> None:
        for n in range(5000):
            loop.call_later(3600, int, n).cancel()
        turn(loop)

    assert_no_growth(work, 5000)


def test_failing_callbacks_leave_nothing(loop: Loop) -> None:
    loop.set_exception_handler(lambda _loop, _context: None)

    def work() -> None:
        for _ in range(1000):
            loop.call_soon(divmod, 1, 0)
        turn(loop)

    assert_no_growth(work, 1000)


def test_tasks_leave_nothing(loop: Loop) -> None:
    async def tasks() -> None:
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(1000)))

    assert_no_growth(lambda: loop.run_until_complete(tasks()), 1000)


def test_watchers_leave_nothing(loop: Loop) -> None:
    def work() -> None:
        for _ in range(200):
            ours, theirs = socket.socketpair()
            loop.add_reader(ours, int)
            loop.add_writer(ours, int)
            turn(loop)
            loop.remove_reader(ours)
            loop.remove_writer(ours)
            ours.close()
            theirs.close()

    assert_no_growth(work, 200)


def test_loops_leave_nothing(new_loop: NewLoop, kind_factory: Callable[[], Loop]) -> None:
    def work() -> None:
        for _ in range(50):
            loop = kind_factory()
            turn(loop)
            loop.close()

    assert_no_growth(work, 50)


def test_connections_leave_nothing(loop: Loop) -> None:
    async def connections() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            for _ in range(50):
                ended = loop.create_future()
                await loop.create_connection(lambda ended=ended: Client(ended), *address)  # type: ignore[misc]
                await ended
        await asyncio.sleep(0)

    assert_no_growth(lambda: loop.run_until_complete(connections()), 50)


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)  # type: ignore[attr-defined]


class Client(asyncio.Protocol):
    """Sends a message and closes when it has come back."""

    def __init__(self, ended: asyncio.Future[None]) -> None:
        self.ended = ended
        self.left = 100_000

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send."""
        self.transport = transport
        transport.write(bytes(self.left))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Count."""
        self.left -= len(data)
        if not self.left:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the test."""
        self.ended.set_result(None)


def loop_with_a_ring() -> cloverleaf.EventLoop:
    """Return one, as soon as the kernel has taken apart those that used up what a user may lock."""
    for _ in range(6000):
        try:
            return cloverleaf.new_event_loop(backend="io_uring")
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            time.sleep(0.01)
    return cloverleaf.new_event_loop(backend="io_uring")


@pytest.mark.only("cloverleaf")  # asyncio has no ring
def test_loops_with_a_ring_leave_nothing() -> None:
    try:
        loop_with_a_ring().close()
    except OSError as refusal:
        pytest.skip(f"no ring is to be had here: {refusal}")

    def work() -> None:
        for _ in range(100):
            loop = loop_with_a_ring()
            assert loop.backend == "epoll+io_uring"
            loop.close()

    assert_no_growth(work, 100)


@pytest.mark.parametrize("size", [1024, 65536, 1 << 20])
def test_large_writes_that_waited_leave_nothing(loop: Loop, size: int) -> None:
    async def connect() -> tuple[asyncio.Transport, socket.socket]:
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        return transport, theirs

    transport, peer = loop.run_until_complete(connect())
    peer.setblocking(False)

    def work() -> None:
        for _ in range(min(512, (4 << 20) // size)):
            transport.write(bytes(size))
        while transport.get_write_buffer_size():
            read_all(peer)
            turn(loop)
        read_all(peer)

    with peer:
        assert_no_growth(work, 100)
        transport.close()
        turn(loop)


def read_all(peer: socket.socket) -> None:
    """Read what is there."""
    try:
        while peer.recv(1 << 20):
            pass
    except BlockingIOError:
        return


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_a_loop_that_sleeps_gives_the_memory_of_a_burst_back(loop: Loop, method: str) -> None:
    def burst(count: int) -> None:
        for _ in range(count):
            if method == "call_soon":
                loop.call_soon(int)
            else:
                loop.call_later(0, int)
        turn(loop)
        turn(loop)

    def sleep() -> None:
        loop.call_later(1e-4, loop.stop)
        loop.run_forever()

    # Each callback has two blocks: its handle and its context. Those of so many may be kept.
    burst(16 * 1024)
    most = sys.getallocatedblocks() + 1000
    burst(50_000)
    while sys.getallocatedblocks() > most:  # the test's deadline ends a vain wait
        sleep()


def test_connections_that_end_with_data_unread_leave_nothing(loop: Loop) -> None:
    async def serve() -> None:
        async with clients(loop) as many:
            first = many.members[0]

            def pause_all(_: Member) -> None:
                for member in many.members:
                    member.transport.pause_reading()

            first.answer = pause_all
            many.ask(question=bytes(1000))
            await until(lambda: first.data)
            for member in many.members[::2]:
                member.transport.resume_reading()
            await until(lambda: all(member.data for member in many.members[::2]))

    async def work() -> None:
        for _ in range(20):
            await serve()

    assert_no_growth(lambda: loop.run_until_complete(work()), 20 * COUNT)


def test_rust_futures_leave_nothing(loop: Loop) -> None:
    probe = module("probe")

    async def body() -> None:
        value = object()
        await asyncio.gather(*(probe.value(value) for _ in range(200)))
        await asyncio.gather(*(probe.awaits(probe.value(value)) for _ in range(200)))
        await asyncio.gather(*(probe.wakes_itself(2, int) for _ in range(200)))
        await asyncio.gather(*probe.burst(200, 2))
        await asyncio.gather(*(probe.pending() for _ in range(200)), return_exceptions=True)
        gate = probe.Gate()
        waiting = [gate.wait() for _ in range(200)]
        await asyncio.sleep(0)
        for awaitable in waiting:
            awaitable.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for _ in range(200):
            answer, _awaitable = probe.make_promise()
            answer.cancel()
        await asyncio.sleep(0)

    assert_no_growth(lambda: loop.run_until_complete(body()), 1400)


def test_rust_futures_keep_no_values(loop: Loop) -> None:
    class Value:
        pass

    probe = module("probe")

    async def body() -> list[weakref.ref[Value]]:
        values = [Value() for _ in range(6)]
        assert await probe.value(values[0]) is values[0]
        answer, awaitable = probe.make_promise()
        answer.complete(values[1])
        assert await awaitable is values[1]
        probe.value(values[2])  # nobody awaits it
        probe.value(values[3]).cancel()
        answer, awaitable = probe.make_promise()
        awaitable.cancel()
        answer.complete(values[4])
        await probe.awaits(probe.value(values[5]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [weakref.ref(value) for value in values]

    references = loop.run_until_complete(body())
    turn(loop)
    probe.Gate()  # PyO3 drops what was dropped where it could not be
    gc.collect()
    assert [reference() for reference in references] == [None] * 6
