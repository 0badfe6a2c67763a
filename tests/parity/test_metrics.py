"""``loop.metrics()`` tells what the loop has done, exactly, from any thread and in any state."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import socket
import threading
from io import FileIO
from typing import Any

import pytest

from .harness.program import Program
from .harness.turns import until
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no such numbers


def metrics(loop: Loop) -> Any:
    """Return the numbers of a loop whose type does not tell that it has them."""
    return loop.metrics()  # type: ignore[attr-defined]


def test_a_new_loop_has_done_nothing(loop: Loop) -> None:
    numbers = dataclasses.asdict(metrics(loop))
    lag = numbers.pop("timer_lag")
    assert all(value == 0 for value in numbers.values()), numbers
    assert sum(lag["counts"]) == lag["sum"] == lag["max"] == 0
    assert metrics(loop).utilization() == 0.0


def test_it_is_frozen(loop: Loop) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        metrics(loop).turns = 1


@pytest.mark.parametrize("count", [1, 1000])
def test_jobs_and_turns_are_counted_exactly(loop: Loop, count: int) -> None:
    before = metrics(loop)
    for _ in range(count):
        loop.call_soon(int)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    after = metrics(loop)
    assert after.jobs - before.jobs == count + 2
    assert after.turns - before.turns == 2
    assert after.ready == 1
    assert after.most_ready == count + 1


def test_a_callback_sees_itself_counted(loop: Loop) -> None:
    seen = []
    loop.call_soon(int)
    loop.call_soon(lambda: seen.append(metrics(loop)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [(one.turns, one.jobs, one.ready) for one in seen] == [(1, 2, 3)]


def test_timers_are_counted_when_they_fire_and_as_long_as_they_wait(loop: Loop) -> None:
    handles = [loop.call_later(3600, int) for _ in range(5)]
    loop.call_at(loop.time() - 2.0, int)
    assert metrics(loop).timers_pending == 6
    handles.pop().cancel()
    assert metrics(loop).timers_pending == 5
    loop.call_later(0, loop.stop)
    loop.run_forever()
    after = metrics(loop)
    assert (after.timers_fired, after.timers_pending) == (2, 4)
    lag = after.timer_lag
    assert (lag.count, len(lag.counts)) == (2, len(lag.limits) + 1)
    assert 2.0 <= lag.max <= lag.sum
    # The one that was late by two seconds is not among the short ones.
    short = sum(n for limit, n in zip(lag.limits, lag.counts, strict=False) if limit < 2.0)
    assert short <= 1
    assert list(lag.limits) == sorted(lag.limits)


def test_time_is_busy_or_asleep(loop: Loop) -> None:
    before = metrics(loop)
    loop.run_until_complete(asyncio.sleep(0.05))
    after = metrics(loop)
    assert after.asleep_seconds - before.asleep_seconds >= 0.04
    assert after.sleeps > before.sleeps
    assert after.busy_seconds > before.busy_seconds
    assert 0.0 < after.utilization(before) < 1.0

    def busy() -> None:
        end = loop.time() + 0.05
        while loop.time() < end:
            pass

    loop.call_soon(busy)
    loop.call_soon(loop.stop)
    loop.run_forever()
    last = metrics(loop)
    assert last.busy_seconds - after.busy_seconds >= 0.05
    # Nobody ran it meanwhile, and it did not sleep.
    assert metrics(loop) == last
    assert last.asleep_seconds == after.asleep_seconds
    assert last.utilization(after) == 1.0


def test_a_loop_does_not_go_to_sleep_while_something_comes_each_time(program: Program) -> None:
    """In a program of its own, where no thread is left that might need Python."""
    out = program.output("""
        import asyncio, socket

        words = 0

        class Talking(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                global words
                words += 1
                loop.stop() if words == 2000 else self.transport.write(data)

        async def connect():
            for end in socket.socketpair():
                transport, _ = await loop.create_connection(Talking, sock=end)
            return transport

        loop = new_event_loop()
        transport = loop.run_until_complete(connect())
        transport.write(b"word")
        before = loop.metrics()
        loop.run_forever()
        after = loop.metrics()
        print(words, after.turns - before.turns >= 2000, after.sleeps - before.sleeps < 100)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        print(loop.metrics().sleeps > after.sleeps)
        """)
    assert out.split() == ["2000", "True", "True", "True"]


def test_other_threads_jobs_are_counted(loop: Loop) -> None:
    def bring() -> None:
        while metrics(loop).sleeps == 0:
            pass
        for _ in range(9):
            loop.call_soon_threadsafe(int)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=bring)
    thread.start()
    loop.run_forever()
    thread.join()
    after = metrics(loop)
    assert after.jobs_from_threads == 10
    assert after.jobs == 10
    assert 1 <= after.wakeups <= 10


def test_another_thread_reads_them_while_the_loop_is_in_a_callback(loop: Loop) -> None:
    """The callback waits for the reader, so a reader that waited for the loop would not return."""
    read: list[Any] = []

    def wait() -> None:
        thread = threading.Thread(target=lambda: read.append(metrics(loop)))
        thread.start()
        thread.join()
        loop.stop()

    loop.call_later(3600, int)
    loop.call_soon(int)
    loop.call_soon(wait)
    loop.run_forever()
    assert (read[0].turns, read[0].jobs, read[0].timers_pending) == (1, 2, 1)


def test_a_closed_loop_tells_what_it_did(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.call_later(3600, int)
    loop.run_forever()
    loop.close()
    after = metrics(loop)
    assert (after.turns, after.jobs, after.timers_pending, after.sources) == (1, 1, 0, 0)


class Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = bytearray(1 << 16)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # In pieces, of which all but the first are held.
        half = nbytes // 2
        self.transport.writelines([self.buffer[:half]])
        self.transport.write(bytes(self.buffer[half:nbytes]))


@pytest.mark.parametrize("protocol", [Echo, BufferedEcho])
@pytest.mark.parametrize("size", [1, 1000, 3_000_000])
def test_bytes_are_counted_exactly(loop: Loop, protocol: Any, size: int) -> None:
    async def main() -> None:
        server = await loop.create_server(protocol, "127.0.0.1", 0)
        assert metrics(loop).transports == 1
        address = server.sockets[0].getsockname()
        for _ in range(3):
            with socket.create_connection(address) as client:
                client.setblocking(False)
                sending = asyncio.ensure_future(loop.sock_sendall(client, b"x" * size))
                left = size
                while left:
                    left -= len(await loop.sock_recv(client, 1 << 20))
                await sending
        server.close()
        # Before Python 3.12 a server does not wait for its connections.
        await until(lambda: metrics(loop).transports == 0)

    loop.run_until_complete(main())
    after = metrics(loop)
    assert after.connections_accepted == 3
    assert (after.bytes_received, after.bytes_sent) == (3 * size, 3 * size)
    assert 3 <= after.receives <= 3 * size
    assert after.sends >= 3
    assert after.transports == 0
    assert after.events >= 6


def test_what_the_guard_sends_is_counted(loop: Loop) -> None:
    """A callback that waits for its own second write has it sent by another thread."""
    left, right = socket.socketpair()

    class Waiting(asyncio.Protocol):
        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(b"one")
            self.transport.write(b"two")
            received = b""
            while len(received) < 6:
                received += right.recv(6)
            self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            loop.stop()

    async def main() -> None:
        await loop.connect_accepted_socket(Waiting, left)
        right.send(b"go")

    with right:
        loop.run_until_complete(main())
        loop.run_forever()
    after = metrics(loop)
    assert (after.bytes_received, after.bytes_sent, after.sends) == (2, 6, 2)


def test_datagrams_are_counted(loop: Loop) -> None:
    class Mirror(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport
        left = 100

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data, addr)
            self.left -= 1
            if not self.left:
                loop.stop()

    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(Mirror, local_addr=("127.0.0.1", 0))
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for index in range(100):
            client.sendto(b"x" * (1 + index % 7), transport.get_extra_info("sockname"))
        loop.run_forever()
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    total = sum(1 + index % 7 for index in range(100))
    after = metrics(loop)
    assert (after.bytes_received, after.bytes_sent) == (total, total)
    assert 1 <= after.receives <= 100
    assert 1 <= after.sends <= 100


def test_pipes_and_sendfile_are_counted(loop: Loop, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"f" * 100_000)
    reading, writing = os.pipe()

    async def main() -> None:
        received = asyncio.StreamReader()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(received), os.fdopen(reading, "rb")
        )
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb"))
        transport.write(b"p" * 300_000)
        assert len(await received.readexactly(300_000)) == 300_000
        transport.close()
        await received.read()

        left, right = socket.socketpair()
        stream, _ = await loop.connect_accepted_socket(asyncio.Protocol, left)
        right.setblocking(False)
        with path.open("rb") as file, right:
            sending = asyncio.ensure_future(loop.sendfile(stream, file))
            count = 100_000
            while count:
                count -= len(await loop.sock_recv(right, count))
            await sending
            stream.close()
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    after = metrics(loop)
    assert (after.bytes_received, after.bytes_sent) == (300_000, 400_000)


class BufferedZeroes(asyncio.BufferedProtocol):
    transport: asyncio.ReadTransport
    count = 0

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(1000)

    def buffer_updated(self, nbytes: int) -> None:
        self.count += nbytes
        if self.count >= 1_000_000:
            self.transport.close()
            self.loop.stop()


def test_what_a_device_lends_to_a_buffered_protocol_is_counted(loop: Loop) -> None:
    """The kernel polls no such device: a thread reads it, a chunk at a time."""
    protocol = BufferedZeroes(loop)

    async def main() -> None:
        await loop.connect_read_pipe(lambda: protocol, FileIO("/dev/zero"))

    loop.run_until_complete(main())
    loop.run_forever()
    assert metrics(loop).bytes_received >= 1_000_000
    assert 0 <= metrics(loop).bytes_received - protocol.count < 1 << 20


def test_a_forked_child_may_ask(program: Program) -> None:
    out = program.output("""
        import os
        loop = new_event_loop()
        def fork():
            child = os.fork()
            if not child:
                print(loop.metrics().jobs, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            loop.stop()
        loop.call_soon(fork)
        loop.run_forever()
        loop.close()
    """)
    assert out == "1"


def test_the_numbers_of_a_busy_loop_never_go_back(loop: Loop) -> None:
    done = threading.Event()
    answers: list[Any] = []

    def read() -> None:
        while not done.is_set():
            answers.append(metrics(loop))

    thread = threading.Thread(target=read)
    thread.start()

    async def main() -> None:
        for _ in range(1000):
            await asyncio.sleep(0.0001)
            if len(answers) >= 200:
                break

    loop.run_until_complete(main())
    done.set()
    thread.join()
    for earlier, later in itertools.pairwise(answers):
        for name in ("turns", "jobs", "sleeps", "timers_fired", "busy_seconds", "asleep_seconds"):
            assert getattr(earlier, name) <= getattr(later, name), name
