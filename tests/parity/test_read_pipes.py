"""``connect_read_pipe``: what is read and from what, pausing, ends, and who closes the file."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import os
import re
import socket
from io import FileIO
from pathlib import Path

import pytest

from .harness.complaints import Complaints
from .harness.leaks import descriptors
from .harness.pipes import pipe, read_end
from .harness.protocols import Recorder
from .harness.turns import turns, until
from .harness.types import Context, Loop

BIG = os.urandom(1 << 20)


async def test_bytes_come_in_order_and_the_end_last(loop: Loop) -> None:
    async with read_end(loop, Recorder) as (ours, writing):
        writing.write(b"one ")
        assert await ours.received(4) == b"one "
        writing.write(b"two")
        assert await ours.received(3) == b"two"
        writing.close()
        assert await ours.lost is None
        assert ours.calls == [
            "connection_made",
            "data_received",
            "data_received",
            "eof_received",
            "connection_lost",
        ]


async def test_what_eof_received_answers_does_not_keep_a_pipe_open(loop: Loop) -> None:
    async with read_end(loop, Recorder) as (ours, writing):
        ours.keep_open = True
        writing.close()
        assert await ours.lost is None


async def test_a_megabyte_comes_whole(loop: Loop) -> None:
    async with read_end(loop, Recorder) as (ours, writing):
        written = loop.run_in_executor(None, writing.write, BIG)
        assert await ours.received(len(BIG)) == BIG
        assert await written == len(BIG)


async def test_it_is_a_read_transport_and_tells_its_pipe(loop: Loop) -> None:
    reading, writing = pipe()
    with writing:
        ours = Recorder(loop)
        transport, _ = await loop.connect_read_pipe(lambda: ours, reading)
        assert isinstance(transport, asyncio.ReadTransport)
        assert not isinstance(transport, asyncio.WriteTransport)
        assert not hasattr(transport, "abort")
        assert transport.get_protocol() is ours
        assert transport.get_extra_info("pipe") is reading
        assert transport.get_extra_info("socket", "none") == "none"
        assert transport.get_extra_info("peername") is None
        assert not os.get_blocking(reading.fileno())
        transport.close()
        await ours.lost
        assert reading.closed
        assert transport.get_protocol() is None
        assert transport.get_extra_info("pipe") is reading


async def test_close_comes_before_what_is_still_unread(loop: Loop) -> None:
    async with read_end(loop, Recorder) as (ours, writing):
        writing.write(b"unread")
        ours.transport.close()
        assert ours.transport.is_closing()
        assert not ours.transport.is_reading()
        ours.transport.close()
        assert not ours.lost.done()
        assert await ours.lost is None
        await turns(3)
        assert ours.calls == ["connection_made", "connection_lost"]


async def test_nothing_comes_while_reading_is_paused(loop: Loop) -> None:
    async with read_end(loop, Recorder) as (ours, writing):
        transport = ours.transport
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        writing.write(b"kept")
        writing.close()
        await turns(5)
        assert ours.calls == ["connection_made"]
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert await ours.received(4) == b"kept"
        assert await ours.lost is None


async def test_reading_can_be_paused_before_it_begins(loop: Loop) -> None:
    class Shy(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async with read_end(loop, Shy) as (ours, writing):
        writing.write(b"later")
        await turns(5)
        assert not ours.data
        ours.transport.resume_reading()
        assert await ours.received(5) == b"later"


async def test_a_protocol_can_be_replaced(loop: Loop) -> None:
    async with read_end(loop, Recorder) as (first, writing):
        second = Recorder(loop)
        first.transport.set_protocol(second)
        assert first.transport.get_protocol() is second
        writing.write(b"for the second")
        assert await second.received(14) == b"for the second"
        writing.close()
        assert await second.lost is None
        first.lost.set_result(None)


async def test_a_protocol_that_raises_keeps_its_pipe(loop: Loop, contexts: list[Context]) -> None:
    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise RuntimeError("on purpose")

    async with read_end(loop, Fails) as (ours, writing):
        writing.write(b"bad")
        assert await ours.received(3) == b"bad"
        await turns(2)
        assert [str(context["exception"]) for context in contexts] == ["on purpose"]
        assert set(contexts[0]) == {"message", "exception", "handle"}
        assert re.match(r"Exception in callback \w+\._read_ready\(", contexts[0]["message"])
        writing.write(b"good")
        assert await ours.received(4) == b"good"


async def test_what_connection_lost_raises_is_reported(loop: Loop, contexts: list[Context]) -> None:
    class Fails(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise RuntimeError("on purpose")

    async with read_end(loop, Fails) as (ours, writing):
        writing.close()
        await ours.lost
        (context,) = contexts
        assert set(context) == {"message", "exception", "handle"}
        assert re.match(r"Exception in callback \w+\._call_connection_lost\(", context["message"])


async def test_data_comes_in_the_context_of_connecting(loop: Loop) -> None:
    name = contextvars.ContextVar("name", default="nobody")
    seen: list[str] = []

    class Looks(Recorder):
        def data_received(self, data: bytes) -> None:
            seen.append(name.get())
            super().data_received(data)

    async def connected() -> None:
        name.set("connector")
        async with read_end(loop, Looks) as (ours, writing):
            writing.write(b"x")
            await ours.received(1)

    await asyncio.create_task(connected())
    assert seen == ["connector"]


async def test_a_socket_can_be_read(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        protocol = Recorder(loop)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, ours)
        theirs.sendall(b"over a socket")
        assert await protocol.received(13) == b"over a socket"
        assert transport.get_extra_info("socket") is None
        theirs.close()
        assert await protocol.lost is None
    assert ours.fileno() == -1


async def test_a_terminal_can_be_read_and_its_end_is_no_error(
    loop: Loop, contexts: list[Context]
) -> None:
    master, slave = os.openpty()
    protocol = Recorder(loop)
    await loop.connect_read_pipe(lambda: protocol, FileIO(master, "rb"))
    os.write(slave, b"typed\n")
    assert b"typed" in await protocol.received(6)
    os.close(slave)
    error = await protocol.lost  # EIO is how a terminal ends
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO
    assert contexts == []


async def test_one_terminal_can_be_read_and_written(loop: Loop) -> None:
    master, slave = os.openpty()
    reader, writer = Recorder(loop), Recorder(loop)
    reading, _ = await loop.connect_read_pipe(lambda: reader, FileIO(master, "rb"))
    writing, _ = await loop.connect_write_pipe(lambda: writer, FileIO(master, "wb", closefd=False))
    writing.write(b"to the slave\n")
    assert await loop.run_in_executor(None, os.read, slave, 100) == b"to the slave\n"
    os.write(slave, b"from it\n")
    await until(lambda: b"from it" in reader.data)
    reading.close()
    await reader.lost
    writing.close()
    await writer.lost
    os.close(slave)


@pytest.mark.only("cloverleaf")  # on asyncio the writer takes the reader's registration with it
async def test_of_two_transports_on_a_terminal_either_can_go_first(loop: Loop) -> None:
    master, slave = os.openpty()
    reader, writer = Recorder(loop), Recorder(loop)
    reading, _ = await loop.connect_read_pipe(lambda: reader, FileIO(master, "rb"))
    writing, _ = await loop.connect_write_pipe(lambda: writer, FileIO(master, "wb", closefd=False))
    writing.close()
    await writer.lost
    os.write(slave, b"still read\n")
    await until(lambda: b"still read" in reader.data)
    reading.close()
    await reader.lost
    os.close(slave)


async def test_a_program_may_watch_a_terminal_beside_its_transport(loop: Loop) -> None:
    master, slave = os.openpty()
    writer = Recorder(loop)
    writing, _ = await loop.connect_write_pipe(lambda: writer, FileIO(master, "wb"))
    heard = asyncio.Event()
    loop.add_reader(master, heard.set)
    os.write(slave, b"typed\n")
    await heard.wait()
    assert loop.remove_reader(master)
    writing.close()
    await writer.lost
    os.close(slave)


@pytest.mark.only("cloverleaf")  # asyncio reads and writes whatever has the number by then
async def test_a_number_that_changed_hands_is_left_alone(loop: Loop) -> None:
    reading, writing = pipe()
    reader, writer = Recorder(loop), Recorder(loop)
    source, _ = await loop.connect_read_pipe(lambda: reader, reading)
    target, _ = await loop.connect_write_pipe(lambda: writer, writing)
    numbers = reading.fileno(), writing.fileno()
    reading.close()
    writing.close()
    others = pipe()
    assert (others[0].fileno(), others[1].fileno()) == numbers, "the kernel takes the lowest"
    with others[0], others[1]:
        others[1].write(b"for somebody else")
        target.write(b"from nobody")
        await turns(3)
        assert not reader.data
        source.close()
        target.close()
        await reader.lost
        await writer.lost
        assert others[0].read(100) == b"for somebody else"


async def test_a_failing_read_reaches_handler_and_protocol(
    loop: Loop, contexts: list[Context]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    protocol = Recorder(loop)
    await loop.connect_read_pipe(lambda: protocol, ours)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    error = await protocol.lost
    assert isinstance(error, ConnectionResetError)
    assert [context["message"] for context in contexts] == ["Fatal read error on pipe transport"]
    assert contexts[0]["exception"] is error
    assert contexts[0]["protocol"] is protocol


async def test_a_file_of_another_sort_is_refused_and_stays_open(loop: Loop) -> None:
    descriptor = os.open("/", os.O_RDONLY)

    class Folder:
        def fileno(self) -> int:
            return descriptor

    with pytest.raises(ValueError, match=r"Pipe transport is for pipes/sockets only\."):
        await loop.connect_read_pipe(asyncio.Protocol, Folder())
    os.close(descriptor)  # fails if somebody else has closed it


async def test_a_closed_file_is_an_error(loop: Loop, logged: Complaints) -> None:
    reading, writing = pipe()
    reading.close()
    writing.close()
    with pytest.raises(ValueError, match="closed file"):
        await loop.connect_read_pipe(asyncio.Protocol, reading)
    gc.collect()
    logged.take_unraisable()  # asyncio trips over its own half-made transport


async def test_a_factory_that_raises_leaves_the_file_alone(loop: Loop) -> None:
    reading, writing = pipe()
    with reading, writing:
        before = descriptors()

        def factory() -> asyncio.Protocol:
            raise RuntimeError("no protocol today")

        with pytest.raises(RuntimeError, match="no protocol today"):
            await loop.connect_read_pipe(factory, reading)
        assert descriptors() == before
        assert not reading.closed


async def test_a_cancelled_connect_closes_the_file_once(loop: Loop) -> None:
    reading, writing = pipe()
    with writing:
        protocol = Recorder(loop)
        connecting = asyncio.ensure_future(loop.connect_read_pipe(lambda: protocol, reading))
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await protocol.lost
        assert reading.closed


def test_a_forgotten_transport_is_warned_of_and_closed(loop: Loop) -> None:
    reading, writing = pipe()
    with writing:
        loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, reading))
        with pytest.warns(ResourceWarning, match="unclosed transport <"):
            close_and_collect(loop)
        assert reading.closed


def close_and_collect(loop: Loop) -> None:
    """Close the loop, and let go of what only it has held."""
    loop.close()
    gc.collect()


async def test_repr_tells_the_state(loop: Loop) -> None:
    async with read_end(loop, Recorder) as (ours, _):
        fd = ours.transport.get_extra_info("pipe").fileno()
        assert f" fd={fd} polling>" in repr(ours.transport)
        ours.transport.pause_reading()
        assert f" fd={fd} idle>" in repr(ours.transport)
        ours.transport.close()
        assert " closing fd=" in repr(ours.transport)
        await ours.lost
        name = type(ours.transport).__name__
        assert repr(ours.transport) == f"<{name} closed fd={fd} closed>"


async def test_debug_mode_tells_of_pipes(
    loop: Loop, caplog: pytest.LogCaptureFixture, logged: Complaints
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 3600
    with caplog.at_level("DEBUG", logger="asyncio"):
        async with read_end(loop, Recorder) as (ours, writing):
            ours.transport.pause_reading()
            ours.transport.resume_reading()
            writing.close()
            await ours.lost
    told = " ".join(caplog.messages)
    for words in ("Read pipe", "pauses reading", "resumes reading", "was closed by peer"):
        assert words in told
    assert logged.take() == []


async def test_one_pipe_does_not_starve_the_loop(loop: Loop, tmp_path: Path) -> None:
    async with read_end(loop, Recorder) as (ours, writing):
        writing.write(b"x" * 65536)
        turns_until_data = 0
        while not ours.data:
            await asyncio.sleep(0)
            turns_until_data += 1
        assert turns_until_data <= 3
