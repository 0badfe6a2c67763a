"""Pipes whose file is a terminal: what an interactive program has for its standard streams."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import tty
from collections.abc import Iterator
from io import FileIO

import pytest

from .harness.protocols import Recorder
from .harness.turns import turns
from .harness.types import Loop


@pytest.fixture
def terminal(guard: None) -> Iterator[tuple[FileIO, int]]:
    """Return a terminal whose keyboard and screen are ours, and its name's descriptor."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    ours = FileIO(master, "r+")
    yield ours, slave
    if not ours.closed:
        ours.close()


async def test_a_terminal_can_be_read(loop: Loop, terminal: tuple[FileIO, int]) -> None:
    ours, slave = terminal
    protocol = Recorder(loop)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, FileIO(slave, "rb"))
    ours.write(b"typed")
    assert await protocol.received(5) == b"typed"
    transport.pause_reading()
    ours.write(b"ahead")
    await turns(5)
    assert protocol.data == b""
    transport.resume_reading()
    assert await protocol.received(5) == b"ahead"
    transport.close()
    assert await protocol.lost is None


async def test_a_terminal_can_be_written_to(loop: Loop, terminal: tuple[FileIO, int]) -> None:
    ours, slave = terminal
    protocol = Recorder(loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, FileIO(slave, "wb"))
    transport.write(b"shown")
    transport.writelines([b" and", b" more"])
    os.set_blocking(ours.fileno(), True)
    said = b""
    while len(said) < 14:
        said += os.read(ours.fileno(), 100)
    assert said == b"shown and more"
    transport.close()
    assert await protocol.lost is None


async def test_a_terminal_that_hangs_up_ends_the_reading(
    loop: Loop, terminal: tuple[FileIO, int]
) -> None:
    ours, slave = terminal
    protocol = Recorder(loop)
    await loop.connect_read_pipe(lambda: protocol, FileIO(slave, "rb"))
    ours.close()
    error = await protocol.lost
    assert error is None or (isinstance(error, OSError) and error.errno == errno.EIO)


async def test_the_keyboard_of_a_terminal_can_be_read(
    loop: Loop, terminal: tuple[FileIO, int]
) -> None:
    """What pseudo-terminal programs do: the end that is not the terminal, in both directions."""
    ours, slave = terminal
    reader, writer = Recorder(loop), Recorder(loop)
    reading, _ = await loop.connect_read_pipe(lambda: reader, FileIO(os.dup(ours.fileno()), "rb"))
    writing, _ = await loop.connect_write_pipe(lambda: writer, FileIO(os.dup(ours.fileno()), "wb"))
    writing.write(b"typed")
    assert await loop.run_in_executor(None, os.read, slave, 100) == b"typed"
    os.write(slave, b"said")
    assert await reader.received(4) == b"said"
    os.close(slave)
    writing.abort()
    reading.close()
    await asyncio.wait([reader.lost, writer.lost])


async def test_what_waits_for_a_terminal_that_nobody_has_open_is_kept(
    loop: Loop, terminal: tuple[FileIO, int]
) -> None:
    ours, slave = terminal
    name = os.ttyname(slave)
    os.close(slave)
    protocol = Recorder(loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, ours)
    transport.write(b"typed ahead" * 30_000)
    await turns(10)
    assert not transport.is_closing()
    assert transport.get_write_buffer_size() > 0
    slave = os.open(name, os.O_RDWR | os.O_NOCTTY)
    length = 0
    while length < 330_000:
        length += len(await loop.run_in_executor(None, os.read, slave, 100_000))
    os.close(slave)
    assert length == 330_000
    transport.close()
    assert await protocol.lost is None


async def test_what_waits_for_a_terminal_that_hangs_up_fails_to_be_written(
    loop: Loop, terminal: tuple[FileIO, int]
) -> None:
    ours, slave = terminal
    protocol = Recorder(loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, FileIO(slave, "wb"))
    transport.write(b"shown" * 60_000)
    assert transport.get_write_buffer_size() > 0
    ours.close()
    error = await protocol.lost
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO
