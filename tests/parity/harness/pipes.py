"""Pipes to test with: one end under a transport, the other one a plain file."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from io import FileIO
from typing import TypeVar

from .protocols import Buffered, Recorder
from .types import Loop

P = TypeVar("P", Recorder, Buffered)


def pipe() -> tuple[FileIO, FileIO]:
    """Return the reading and the writing end of a new pipe."""
    reading, writing = os.pipe()
    return FileIO(reading, "rb"), FileIO(writing, "wb")


@contextmanager
def descriptors() -> Iterator[tuple[int, int]]:
    """Yield the descriptors of both ends of a pipe, and close what is left open of them."""
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        with suppress(OSError):
            os.close(fd)


def is_drained(reading: int) -> bool:
    """Tell whether all that was written into a pipe has been read."""
    found = fcntl.ioctl(reading, termios.FIONREAD, bytes(4))
    return struct.unpack("i", found) == (0,)


@asynccontextmanager
async def read_end(loop: Loop, factory: Callable[[Loop], P]) -> AsyncIterator[tuple[P, FileIO]]:
    """Give a protocol with a transport that reads a pipe, and the pipe's other end."""
    reading, writing = pipe()
    protocol = factory(loop)
    with writing:
        transport, made = await loop.connect_read_pipe(lambda: protocol, reading)
        assert made is protocol
        try:
            yield protocol, writing
        finally:
            transport.close()
            await asyncio.wait([protocol.lost])


@asynccontextmanager
async def write_end(
    loop: Loop, factory: Callable[[Loop], Recorder] = Recorder
) -> AsyncIterator[tuple[Recorder, FileIO]]:
    """Give a protocol with a transport that writes to a pipe, and the pipe's other end."""
    reading, writing = pipe()
    protocol = factory(loop)
    with reading:
        transport, made = await loop.connect_write_pipe(lambda: protocol, writing)
        assert made is protocol
        try:
            yield protocol, reading
        finally:
            reading.close()  # asyncio does not bear abort() after close()
            transport.close()
            await asyncio.wait([protocol.lost])
