"""What may wait for ever, for a pipe's other end, holds up no other file and no name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

import cloverleaf
from cloverleaf import files

from .harness.types import Loop

pytestmark = [
    pytest.mark.only("cloverleaf"),  # asyncio has no files, and one executor for all
    pytest.mark.deadline(60),
]

MANY = 40  # more than there are threads for files, or for names


async def use_files(folder: Path) -> None:
    """Do what a thread does for files."""
    await files.write_bytes(folder / "one", b"content")
    await files.rename(folder / "one", folder / "two")
    async with cloverleaf.open(folder / "three", "xb") as file:
        await file.write(bytes(1 << 20))
        await file.fsync()
    assert await files.read_bytes(folder / "two") == b"content"


async def use_names(loop: Loop) -> None:
    assert await loop.getaddrinfo("localhost", 80)


@asynccontextmanager
async def pending_opens(folder: Path) -> AsyncIterator[None]:
    """Have many tasks wait for somebody to write to a FIFO, and then let them come to their end."""
    paths = [folder / f"fifo-{number}" for number in range(MANY)]
    for path in paths:
        os.mkfifo(path)
    opening = [asyncio.ensure_future(files.read_bytes(path)) for path in paths]
    await asyncio.sleep(0)
    try:
        yield
        assert not any(task.done() for task in opening)
    finally:
        for path in paths:
            with path.open("wb") as writer:
                writer.write(b"at last")
    assert await asyncio.gather(*opening) == [b"at last"] * MANY


@asynccontextmanager
async def pending_reads(_folder: Path) -> AsyncIterator[None]:
    """Have many tasks wait for bytes of a pipe, and then let them come to their end."""
    pipes = [os.pipe() for _ in range(MANY)]
    readers = [await cloverleaf.open(reader, "rb", 0) for reader, _ in pipes]
    reading = [asyncio.ensure_future(reader.read(7)) for reader in readers]
    await asyncio.sleep(0)
    try:
        yield
        assert not any(task.done() for task in reading)
    finally:
        for _, writer in pipes:
            os.write(writer, b"at last")
            os.close(writer)
    assert await asyncio.gather(*reading) == [b"at last"] * MANY
    for reader in readers:
        await reader.close()


@pytest.mark.parametrize("pending", [pending_opens, pending_reads])
async def test_waits_for_a_pipes_other_end_hold_nothing_up(
    loop: Loop, tmp_path: Path, pending: Callable[[Path], AbstractAsyncContextManager[None]]
) -> None:
    async with pending(tmp_path):
        await use_files(tmp_path)
        await use_names(loop)


@pytest.mark.parametrize("buffering", [0, -1])
async def test_to_read_nothing_waits_for_nobody(loop: Loop, buffering: int) -> None:
    reading, writing = os.pipe()
    async with cloverleaf.open(reading, "rb", buffering) as file:
        assert await asyncio.wait_for(file.read(0), 30) == b""
        assert await asyncio.wait_for(file.readinto(bytearray()), 30) == 0
        os.write(writing, b"content")
        assert await file.read(0) == b""
        os.close(writing)
        assert await file.read(10) == b"content"


async def test_no_more_is_taken_of_a_pipe_than_open_would_take(loop: Loop) -> None:
    for size, buffering in ((20, 16), (5000, 4096), (3, 100)):
        left = []
        for is_ours in (False, True):
            reading, writing = os.pipe()
            os.write(writing, bytes(range(250)) * 60)
            os.close(writing)
            shared = os.dup(reading)
            if is_ours:
                async with cloverleaf.open(reading, "rb", buffering) as file:
                    await file.read(size)
                    await file.readline()
            else:
                with os.fdopen(reading, "rb", buffering) as theirs:
                    theirs.read(size)
                    theirs.readline()
            left.append(os.read(shared, 1 << 16))
            os.close(shared)
        assert left[1] == left[0]
