"""Files of Cloverleaf's own where asyncio expects those of Python: watched, and as transports."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import cloverleaf

from .harness.turns import turns
from .harness.types import Loop

SECONDS = 60


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield both ends of a pipe; who uses one must close it."""
    reading, writing = os.pipe()
    before = {os.fstat(reading).st_ino}
    yield reading, writing
    for fd in (reading, writing):
        try:
            is_ours = os.fstat(fd).st_ino in before
        except OSError:
            continue
        assert not is_ours, "an end of the pipe was left open"


class Receiver(asyncio.Protocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the test."""
        self.lost.set_result(exc)


async def test_a_pipe_is_watched_and_then_read(loop: Loop, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    async with cloverleaf.open(reading, "rb", 0) as file:
        readable = loop.create_future()

        def tell() -> None:
            if not readable.done():
                readable.set_result(None)

        loop.add_reader(file, tell)
        await turns(3)
        assert not readable.done()
        os.write(writing, b"there")
        await asyncio.wait_for(readable, SECONDS)
        assert loop.remove_reader(file)
        assert await file.read(5) == b"there"
    os.close(writing)


async def test_a_file_that_is_closed_while_it_is_watched_is_not_heard_of(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    heard: list[str] = []
    file = await cloverleaf.open(reading, "rb", 0)
    loop.add_reader(file, heard.append, "readable")
    await file.close()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"nobody reads this")
    await turns(5)
    assert heard == []
    with pytest.raises(ValueError, match="Invalid file object"):
        loop.add_reader(file, heard.append, "again")
    loop.remove_reader(reading)
    os.close(writing)


@pytest.mark.only("cloverleaf")  # asyncio takes it, and leaves its `close` without an await
@pytest.mark.parametrize("is_pipe", [True, False])
async def test_a_transport_refuses_what_it_cannot_close(
    loop: Loop, pipe: tuple[int, int], tmp_path: Path, is_pipe: bool
) -> None:
    reading, writing = pipe
    path = tmp_path / "file"
    path.write_bytes(b"content")
    made: list[Receiver] = []

    def factory() -> Receiver:
        made.append(Receiver())
        return made[-1]

    async with (
        cloverleaf.open(reading if is_pipe else path, "rb", 0) as file,
        cloverleaf.open(writing, "wb", 0) as end,
    ):
        with pytest.raises(TypeError, match=r"closed by an await; hand over what its detach\(\)"):
            await loop.connect_read_pipe(factory, file)
        with pytest.raises(TypeError, match=r"closed by an await; hand over what its detach\(\)"):
            await loop.connect_write_pipe(factory, end)
        assert made == []
        await end.write(b"content")
        assert await file.read(7) == b"content"
    if not is_pipe:
        os.close(reading)


async def test_what_a_file_detaches_is_a_transports(loop: Loop, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    file = await cloverleaf.open(reading, "rb", 0)
    end = await cloverleaf.open(writing, "wb", 0)
    transport, received = await loop.connect_read_pipe(Receiver, file.detach())
    other, sent = await loop.connect_write_pipe(Receiver, end.detach())
    other.write(b"by a transport")
    other.close()
    assert await asyncio.wait_for(sent.lost, SECONDS) is None
    assert await asyncio.wait_for(received.lost, SECONDS) is None
    assert received.received == b"by a transport"
    assert transport.is_closing()


async def test_a_buffer_is_its_owners_again_when_its_read_is_cancelled(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    async with cloverleaf.open(reading, "rb", 0) as file:
        room = bytearray(b"untouched")
        task = asyncio.ensure_future(file.readinto(room))
        await turns(5)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        room.clear()  # would be refused while anybody could write there
        kept = bytearray(b"untouched")
        os.write(writing, b"too late!")
        assert await asyncio.wait_for(file.read(9), SECONDS) == b"too late!"
        assert not room
        assert kept == b"untouched"
    os.close(writing)
