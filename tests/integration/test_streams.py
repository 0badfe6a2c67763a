"""asyncio's streams over TCP and Unix sockets: order, limits, flow control and endings."""

import asyncio
import hashlib
import socket
import sys
from collections.abc import Awaitable, Callable

import pytest

from .conftest import Run

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MIB = 1024 * 1024


class Listening:
    """A stream server on TCP or on a Unix socket, how to reach it, and all its clients' tasks.

    Python 3.11 has a `wait_closed` that does not wait for connections, so this waits for the tasks.
    """

    def __init__(self, family: str, serve: Serve, path: str) -> None:
        self._family, self._serve, self._path = family, serve, path
        self._accepted = asyncio.Semaphore(0)
        self._tasks: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server

    async def __aenter__(self) -> "Listening":
        if self._family == "unix":
            self.server = await asyncio.start_unix_server(self._serve_one, self._path)
        else:
            self.server = await asyncio.start_server(self._serve_one, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.server.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._accepted.release()
        await self._serve(reader, writer)

    async def open(self) -> Opened:
        """A new connection to it, already accepted."""
        if self._family == "unix":
            opened = await asyncio.open_unix_connection(self._path)
        else:
            host, port = self.server.sockets[0].getsockname()
            opened = await asyncio.open_connection(host, port)
        await self._accepted.acquire()
        return opened


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what comes until the peer has no more to say."""
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


families = pytest.mark.parametrize("family", ["tcp", "unix"])


@families
def test_lines_come_back_in_order(run: Run, family: str, socket_path: str) -> None:
    async def main() -> None:
        async with Listening(family, echo, socket_path) as listening:
            reader, writer = await listening.open()
            lines = [b"line %d\n" % number for number in range(1000)]
            writer.writelines(lines)
            writer.write_eof()
            assert [line async for line in reader] == lines
            writer.close()
            await writer.wait_closed()

    run(main())


@families
def test_sixteen_mebibytes_survive_backpressure(run: Run, family: str, socket_path: str) -> None:
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send(writer: asyncio.StreamWriter) -> None:
        for number in range(64):
            block = number.to_bytes(4, "big") * (64 * 1024)
            sent.update(block)
            writer.write(block)
            await writer.drain()
        writer.write_eof()

    async def main() -> int:
        async with Listening(family, echo, socket_path) as listening:
            reader, writer = await listening.open()
            sending = asyncio.create_task(send(writer))
            total = 0
            while data := await reader.read(MIB):
                received.update(data)
                total += len(data)
            await sending
            writer.close()
            await writer.wait_closed()
            return total

    assert run(main()) == 16 * MIB
    assert received.digest() == sent.digest()


@families
def test_drain_waits_for_a_reader_that_is_slow(run: Run, family: str, socket_path: str) -> None:
    async def main() -> None:
        may_read, total = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def count_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await may_read.wait()
            total.set_result(len(await reader.read(-1)))
            writer.close()

        async with Listening(family, count_late, socket_path) as listening:
            _, writer = await listening.open()
            writer.write(bytes(16 * MIB))
            draining = asyncio.create_task(writer.drain())
            done, _ = await asyncio.wait([draining], timeout=0.05)
            assert not done, "drain returned while 16 MiB had nowhere to go"
            assert writer.transport.get_write_buffer_size() > 0
            may_read.set()
            await draining
            writer.write_eof()
            assert await total == 16 * MIB
            writer.close()
            await writer.wait_closed()

    run(main())


@families
def test_a_hundred_clients_each_get_their_own(run: Run, family: str, socket_path: str) -> None:
    async def main() -> None:
        async with Listening(family, echo, socket_path) as listening:

            async def talk(number: int) -> None:
                reader, writer = await listening.open()
                for turn in range(10):
                    message = f"client {number} turn {turn}\n".encode() * (number % 7 + 1)
                    writer.write(message)
                    assert await reader.readexactly(len(message)) == message
                writer.close()
                await writer.wait_closed()

            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(talk(number))

    run(main())


@families
def test_read_limits_raise_what_asyncio_raises(run: Run, family: str, socket_path: str) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first;second" + b"x" * 200_000)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with Listening(family, speak, socket_path) as listening:
            reader, writer = await listening.open()
            assert await reader.readuntil(b";") == b"first;"
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil(b"\n")
            rest = await reader.read(-1)
            assert len(rest) == 6 + 200_000
            with pytest.raises(asyncio.IncompleteReadError):
                await reader.readexactly(1)
            writer.close()
            await writer.wait_closed()

    run(main())


@families
def test_a_cancelled_read_loses_nothing(run: Run, family: str, socket_path: str) -> None:
    async def main() -> None:
        async with Listening(family, echo, socket_path) as listening:
            reader, writer = await listening.open()
            for number in range(50):
                reading = asyncio.create_task(reader.readexactly(8))
                await asyncio.sleep(0)
                writer.write(number.to_bytes(8, "big"))
                if number % 2:
                    await asyncio.sleep(0)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                assert int.from_bytes(await reader.readexactly(8), "big") == number
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_reset_reaches_the_reader(run: Run) -> None:
    async def main() -> None:
        refused: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

        async def read_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readexactly(1_000_000)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                refused.set_result(error)
            writer.close()

        async with Listening("tcp", read_on, "") as listening:
            _, writer = await listening.open()
            writer.write(b"half a message")
            await writer.drain()
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
            assert isinstance(await refused, ConnectionResetError)
            with pytest.raises(ConnectionError):
                await writer.drain()

    run(main())


def test_a_refused_connection_says_so(run: Run) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # Bound but not listening: a connection is refused.

        async def main() -> None:
            await asyncio.open_connection(*unheard.getsockname())

        with pytest.raises(ConnectionRefusedError):
            run(main())


def test_a_missing_unix_socket_says_so(run: Run, socket_path: str) -> None:
    async def main() -> None:
        await asyncio.open_unix_connection(socket_path)

    with pytest.raises(FileNotFoundError):
        run(main())


def test_addresses_are_known_on_both_sides(run: Run) -> None:
    async def main() -> None:
        seen: asyncio.Future[tuple[object, object]] = asyncio.get_running_loop().create_future()

        async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result((writer.get_extra_info("sockname"), writer.get_extra_info("peername")))
            writer.close()
            await writer.wait_closed()

        async with Listening("tcp", look, "") as listening:
            _, writer = await listening.open()
            ours = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
            assert await seen == (ours[1], ours[0])
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_closed_server_frees_its_port_and_its_path(run: Run, socket_path: str) -> None:
    async def main() -> None:
        async with Listening("tcp", echo, "") as first:
            address = first.server.sockets[0].getsockname()
        again = await asyncio.start_server(echo, *address)
        again.close()
        await again.wait_closed()
        for _ in range(2):
            async with Listening("unix", echo, socket_path) as second:
                _, writer = await second.open()
                writer.close()
                await writer.wait_closed()

    run(main())


# The streams, which are asyncio's on any loop, tell it since then (gh-110894).
@pytest.mark.skipif(sys.version_info < (3, 11, 7), reason="not told before Python 3.11.7")
@pytest.mark.skipif(sys.version_info[:3] == (3, 12, 0), reason="not told before Python 3.12.1")
def test_an_exception_in_a_client_handler_reaches_the_exception_handler(run: Run) -> None:
    async def main() -> None:
        heard: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: heard.set_result(context["exception"])
        )

        async def fail(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise ZeroDivisionError("on purpose")

        async with Listening("tcp", fail, "") as listening:
            reader, writer = await listening.open()
            assert isinstance(await heard, ZeroDivisionError)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(main())
