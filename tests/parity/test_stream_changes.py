"""What a program does to a stream's reader, or to what its reads wait for, while it is in use."""

from __future__ import annotations

import asyncio
import copy
import resource
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from .harness.streams import both_sides, served
from .harness.turns import until
from .harness.types import Loop


class Upper(asyncio.StreamReader):
    """A reader that shouts."""

    def feed_data(self, data: Any) -> None:
        """Feed it in capitals."""
        super().feed_data(data.upper())


async def waiting(loop: Loop, read: Any) -> Any:
    """A task of this read that waits, without a look at the reader."""
    task: Any = loop.create_task(read)
    await until(lambda: task._fut_waiter is not None)
    return task


@both_sides
async def test_a_reader_may_be_made_one_of_another_class(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        peer.sendall(b"ab\n")
        await until(lambda: len(reader._buffer) == 3)
        reader.__class__ = Upper
        assert await reader.readline() == b"ab\n"
        reader._eof = False
        reader.mine = 1
        names = list(vars(reader))
        assert None not in names
        assert {"_limit", "_loop", "_buffer", "_eof", "_waiter", "mine"} <= set(names)
        assert len(names) == len(vars(reader))
        task = await waiting(loop, reader.readline())
        peer.sendall(b"cd\n")
        assert await task == b"CD\n"
        assert type(reader) is Upper


@both_sides
async def test_a_reader_keeps_what_is_set_on_it(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, _):
        reader.mine = 1
        reader._eof = reader._eof
        names = list(vars(reader))
        assert None not in names
        assert "mine" in names
        assert len(names) == len(vars(reader))


@both_sides
@pytest.mark.parametrize("way", ["cancel", "close"])
async def test_a_wait_ends_although_its_reader_is_of_another_class(
    loop: Loop, side: str, way: str
) -> None:
    async with served(side) as (reader, _, peer):
        if way == "cancel":
            task = await waiting(loop, reader.readline())
            reader.__class__ = Upper
            assert reader._waiter is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            read = reader.readline()
            read.send(None)
            reader.__class__ = Upper
            assert reader._waiter is not None
            read.close()
        assert reader._waiter is None
        peer.sendall(b"x\n")
        assert await reader.readline() == b"X\n"


@both_sides
async def test_a_wait_goes_on_although_its_reader_is_of_another_class(
    loop: Loop, side: str
) -> None:
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader.readline())
        reader.__class__ = Upper
        peer.sendall(b"x\n")
        assert await task == b"X\n"
        assert reader._waiter is None


@both_sides
async def test_an_attribute_may_be_patched(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        with mock.patch.object(reader, "_limit", 5):
            assert reader._limit == 5
            peer.sendall(b"too much\n")
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
        assert reader._limit == 64 << 10
        peer.sendall(b"not too much\n")
        assert await reader.readline() == b"not too much\n"


@both_sides
async def test_an_attribute_may_be_deleted(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader.readline())
        del reader._exception
        text = "^'StreamReader' object has no attribute '_exception'$"
        with pytest.raises(AttributeError, match=text):
            reader._exception  # noqa: B018
        with pytest.raises(AttributeError, match=r"_exception'?$"):
            del reader._exception
        assert not hasattr(reader, "_exception")
        reader._exception = None
        assert reader.exception() is None
        peer.sendall(b"x\n")
        assert await task == b"x\n"
        peer.sendall(b"y\n")
        assert await reader.readline() == b"y\n"


@both_sides
async def test_a_copy_is_one_of_its_own(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        reader.mine = 1
        peer.sendall(b"ab\ncd")
        await until(lambda: len(reader._buffer) == 5)
        other = copy.copy(reader)
        assert isinstance(other, asyncio.StreamReader)
        assert other.mine == 1
        assert other._buffer is reader._buffer
        other.feed_eof()
        assert await other.readline() == b"ab\n"
        assert not reader._eof
        assert await other.readline() == b"cd"
        assert not reader.at_eof()
        peer.sendall(b"ef\n")
        assert await reader.readline() == b"ef\n"


@both_sides
@pytest.mark.parametrize("pieces", [[b"x", b"y"], [b"xy"]])
async def test_bytes_that_do_not_fit_in_memory_stay(
    loop: Loop, side: str, pieces: list[bytes]
) -> None:
    size = 64 << 20
    async with served(side, limit=1 << 30) as (reader, _, _):
        for piece in pieces:
            reader.feed_data(piece * size)
        if len(pieces) == 1:
            # Half of it, from the front and from the rest.
            count = size
        else:
            count = size + 1
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limits = resource.getrlimit(resource.RLIMIT_AS)
        read = reader.readexactly(count)
        used = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + size // 4, limits[1]))
        try:
            with pytest.raises(MemoryError):
                read.send(None)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
        whole = b"".join(piece * size for piece in pieces)
        assert await reader.readexactly(count) == whole[:count]
        assert await reader.readexactly(len(whole) - count) == whole[count:]
