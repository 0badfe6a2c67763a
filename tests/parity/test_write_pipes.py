"""``connect_write_pipe``: what is written and to what, flow control, and the reader's going."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import re
import socket
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from .harness.complaints import Complaints
from .harness.pipes import pipe, write_end
from .harness.protocols import Recorder
from .harness.turns import turns
from .harness.types import Context, Loop

BIG = os.urandom(1 << 20)
FULL = bytes(1 << 20)


def read_all(reading: FileIO) -> bytes:
    """Read a pipe to its end."""
    pieces = []
    while piece := reading.read(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


async def test_bytes_go_at_once_and_in_order(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        ours.transport.write(b"one ")
        ours.transport.write(bytearray(b"two "))
        ours.transport.write(memoryview(b"three"))
        ours.transport.write(b"")
        assert reading.read(100) == b"one two three"
        ours.transport.writelines([b"four ", bytearray(b"five"), b""])
        assert reading.read(100) == b"four five"
        assert ours.transport.get_write_buffer_size() == 0


async def test_what_the_pipe_does_not_take_follows_in_order(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        for start in range(0, len(BIG), 100_000):
            ours.transport.write(BIG[start : start + 100_000])
        assert ours.transport.get_write_buffer_size() > 0
        ours.transport.close()
        assert await loop.run_in_executor(None, read_all, reading) == BIG
        assert await ours.lost is None
        assert ours.calls == [
            "connection_made",
            "pause_writing",
            "resume_writing",
            "connection_lost",
        ]


async def test_a_buffer_changed_after_write_is_sent_as_it_was(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        ours.transport.write(FULL)
        late = bytearray(b"late")
        ours.transport.write(late)
        late[:] = b"LATE"
        ours.transport.close()
        assert (await loop.run_in_executor(None, read_all, reading))[-4:] == b"late"


@pytest.mark.only("cloverleaf")  # asyncio's pipes resume only when nothing waits any more
async def test_a_paused_protocol_resumes_at_low_water_as_a_sockets_does(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        room = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
        ours.transport.set_write_buffer_limits(50_000, 40_000)
        ours.transport.write(bytes(room + 60_000))
        assert ours.calls[-1] == "pause_writing"
        assert len(reading.read(room // 2) or b"") == room // 2
        while "resume_writing" not in ours.calls:
            await turns(1)
        assert 0 < ours.transport.get_write_buffer_size() <= 40_000
        ours.transport.abort()


async def test_it_is_a_write_transport_and_tells_its_pipe(loop: Loop) -> None:
    async with write_end(loop) as (ours, _):
        transport = ours.transport
        assert isinstance(transport, asyncio.WriteTransport)
        assert isinstance(transport, asyncio.Transport), "as on asyncio, although it cannot read"
        assert transport.get_protocol() is ours
        assert transport.can_write_eof()
        file = transport.get_extra_info("pipe")
        assert not os.get_blocking(file.fileno())
        transport.close()
        await ours.lost
        assert file.closed


async def test_limits_are_asyncios(loop: Loop) -> None:
    async with write_end(loop) as (ours, _):
        transport = ours.transport
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1024)
        assert transport.get_write_buffer_limits() == (256, 1024)
        with pytest.raises(ValueError, match="must be >="):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.write(FULL)
        assert ours.calls[-1] == "pause_writing"


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_closing_and_ending_are_one(loop: Loop, end: str) -> None:
    async with write_end(loop) as (ours, reading):
        ours.transport.write(b"last words")
        getattr(ours.transport, end)()
        getattr(ours.transport, end)()
        ours.transport.close()
        ours.transport.write_eof()
        assert ours.transport.is_closing()
        assert not ours.lost.done()
        assert await ours.lost is None
        assert read_all(reading) == b"last words"
        await turns(3)
        assert ours.calls == ["connection_made", "connection_lost"]


async def test_abort_forgets_what_waits(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        ours.transport.write(FULL)
        assert ours.transport.get_write_buffer_size() > 0
        ours.transport.abort()
        assert ours.transport.get_write_buffer_size() == 0
        assert await ours.lost is None
        assert 0 < len(read_all(reading)) < len(FULL)


async def test_the_readers_going_ends_the_connection(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        reading.close()
        assert await ours.lost is None


async def test_the_readers_going_loses_what_waits(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        ours.transport.write(FULL)
        reading.close()
        assert isinstance(await ours.lost, BrokenPipeError)


async def test_the_readers_going_shows_while_the_end_waits_for_room(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        ours.transport.write(FULL)
        ours.transport.close()
        await turns(2)
        assert not ours.lost.done()
        reading.close()
        assert isinstance(await ours.lost, BrokenPipeError)


async def test_a_write_to_nobody_is_a_broken_pipe(loop: Loop, contexts: list[Context]) -> None:
    async with write_end(loop) as (ours, reading):
        reading.close()
        ours.transport.write(b"anybody?")
        assert isinstance(await ours.lost, BrokenPipeError)
        assert contexts == []


async def test_writes_after_the_end_are_warned_of(loop: Loop, logged: Complaints) -> None:
    async with write_end(loop) as (ours, _):
        ours.transport.close()
        for _ in range(5):
            ours.transport.write(b"into the void")
        assert logged.take() == []
        ours.transport.write(b"into the void")
        said = "pipe closed by peer or os.write(pipe, data) raised exception."
        assert logged.take() == [said]


async def test_a_failed_write_counts_as_the_first(loop: Loop, logged: Complaints) -> None:
    async with write_end(loop) as (ours, reading):
        reading.close()
        for _ in range(5):
            ours.transport.write(b"into the void")
        assert logged.take() == []
        ours.transport.write(b"into the void")
        assert len(logged.take()) == 1
        await ours.lost


async def test_writes_after_close_are_not_sent(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        ours.transport.write(FULL)
        ours.transport.close()
        ours.transport.write(b"too late")
        assert await loop.run_in_executor(None, read_all, reading) == FULL


async def test_text_is_refused(loop: Loop) -> None:
    async with write_end(loop) as (ours, _):
        with pytest.raises((TypeError, AssertionError)):
            ours.transport.write("text")  # type: ignore[arg-type]


async def test_a_socket_can_be_written_and_its_peer_watched(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        protocol = Recorder(loop)
        transport, _ = await loop.connect_write_pipe(lambda: protocol, ours)
        transport.write(b"over a socket")
        assert theirs.recv(100) == b"over a socket"
        theirs.close()
        assert await protocol.lost is None
    assert ours.fileno() == -1


async def test_a_terminal_can_be_written(loop: Loop) -> None:
    master, slave = os.openpty()
    protocol = Recorder(loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, FileIO(slave, "wb"))
    transport.write(b"shown")
    assert os.read(master, 100) == b"shown"
    transport.close()
    assert await protocol.lost is None
    os.close(master)


async def test_the_null_device_can_be_written(loop: Loop) -> None:
    protocol = Recorder(loop)
    null = FileIO("/dev/null", "wb")
    transport, _ = await loop.connect_write_pipe(lambda: protocol, null)
    transport.write(FULL)
    assert transport.get_write_buffer_size() == 0
    transport.close()
    assert await protocol.lost is None
    assert null.closed


async def test_a_regular_file_is_refused_and_stays_open(loop: Loop, tmp_path: Path) -> None:
    with FileIO(tmp_path / "file", "wb") as file:
        text = "Pipe transport is only for pipes, sockets and character devices"
        with pytest.raises(ValueError, match=text):
            await loop.connect_write_pipe(asyncio.Protocol, file)
        file.write(b"still open")


async def test_a_named_pipe_can_be_written(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    with reading:
        protocol = Recorder(loop)
        writing = FileIO(os.open(path, os.O_WRONLY), "wb")
        transport, _ = await loop.connect_write_pipe(lambda: protocol, writing)
        transport.write(b"by name")
        assert reading.read(100) == b"by name"
    assert await protocol.lost is None
    assert transport.is_closing()


async def test_a_tiny_pipe_takes_everything_in_time(loop: Loop) -> None:
    async with write_end(loop) as (ours, reading):
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
        ours.transport.write(FULL[:300_000])
        ours.transport.close()
        assert len(await loop.run_in_executor(None, read_all, reading)) == 300_000


async def test_pausing_that_raises_is_reported(loop: Loop, contexts: list[Context]) -> None:
    class Fails(Recorder):
        def pause_writing(self) -> None:
            raise RuntimeError("will not pause")

    async with write_end(loop, Fails) as (ours, _):
        ours.transport.write(FULL)
        assert [context["message"] for context in contexts] == ["protocol.pause_writing() failed"]


def test_a_forgotten_transport_is_warned_of_and_closed(loop: Loop) -> None:
    reading, writing = pipe()
    with reading:
        loop.run_until_complete(loop.connect_write_pipe(asyncio.BaseProtocol, writing))
        with pytest.warns(ResourceWarning, match="unclosed transport <"):
            close_and_collect(loop)
        assert writing.closed


def close_and_collect(loop: Loop) -> None:
    """Close the loop, and let go of what only it has held."""
    loop.close()
    gc.collect()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "can only join an iterable"),
        (42, "can only join an iterable"),
        ([b"x", 1], "sequence item 1: expected a bytes-like object, int found"),
        (["x"], "sequence item 0: expected a bytes-like object, str found"),
        (
            [memoryview(b"abcd")[::2]],
            "sequence item 0: expected a bytes-like object, memoryview found",
        ),
    ],
)
async def test_writelines_of_what_is_not_bytes_is_refused(
    loop: Loop, wrong: Any, message: str
) -> None:
    async with write_end(loop) as (ours, reading):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            ours.transport.writelines(wrong)
        ours.transport.writelines(())
        ours.transport.write(b"only this")
        assert reading.read(20) == b"only this"


async def test_what_writelines_iterates_over_may_raise(loop: Loop) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"not this"
        raise LookupError("no more")

    async with write_end(loop) as (ours, reading):
        with pytest.raises(LookupError, match="no more"):
            ours.transport.writelines(pieces())
        ours.transport.write(b"only this")
        assert reading.read(20) == b"only this"


async def test_repr_tells_the_state(loop: Loop) -> None:
    async with write_end(loop) as (ours, _):
        fd = ours.transport.get_extra_info("pipe").fileno()
        assert f" fd={fd} idle bufsize=0>" in repr(ours.transport)
        ours.transport.write(FULL)
        assert f" fd={fd} polling bufsize=" in repr(ours.transport)
        ours.transport.close()
        assert " closing fd=" in repr(ours.transport)
        ours.transport.abort()
        await ours.lost
        name = type(ours.transport).__name__
        assert repr(ours.transport) == f"<{name} closed fd={fd} closed>"


async def test_debug_mode_tells_of_failures(
    loop: Loop, caplog: pytest.LogCaptureFixture, logged: Complaints
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 3600
    with caplog.at_level("DEBUG", logger="asyncio"):
        async with write_end(loop) as (ours, reading):
            reading.close()
            ours.transport.write(b"x")
            await ours.lost
    assert any("Fatal write error on pipe transport" in message for message in caplog.messages)
    assert logged.take() == []
