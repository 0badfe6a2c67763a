"""Reads of files of which memory has a part only: as much is read as `open` reads."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.turns import turns
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files

CONTENT = bytes(range(256)) * 400


class Beginning:
    """Stands before a file's native half and has so much at hand each time it was asked twice."""

    def __init__(self, native: Any, at_hand: int) -> None:
        self._native = native
        self._at_hand = at_hand
        self._is_next = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def _try_readinto(self, buffer: Any, offset: int) -> Any:
        is_there, self._is_next = self._is_next, not self._is_next
        if not is_there:
            return None
        with memoryview(buffer) as room:
            return self._native._try_readinto(room[: self._at_hand], offset)

    def _try_read(self, size: int, offset: int) -> Any:
        """Give all or nothing, as it promises: fewer bytes are the end of the file."""
        is_all = size <= self._at_hand or offset + size > len(CONTENT) >= offset + self._at_hand
        return self._native._try_read(size, offset) if is_all and self._is_next else None


@pytest.mark.parametrize("buffering", [-1, 0, 5000])
@pytest.mark.parametrize("at_hand", [1, 4096, 10_000])
@pytest.mark.parametrize("size", [9_000, 40_000, len(CONTENT) + 1])
async def test_what_is_at_hand_in_part_is_read_whole(
    loop: Loop, tmp_path: Path, buffering: int, at_hand: int, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb", buffering) as theirs:
        async with cloverleaf.open(path, "rb", buffering) as ours:
            file: Any = ours
            plain: Any = theirs
            file._raw.native = Beginning(file._raw.native, at_hand)
            for _ in range(3):
                room, expected = bytearray(size), bytearray(size)
                assert await file.readinto(room) == plain.readinto(expected)
                assert room == expected
                assert await file.tell() == theirs.tell()
            for place in (0, 1, 10_000):
                await file.seek(place)
                theirs.seek(place)
                assert await file.read(size) == theirs.read(size)
                assert await file.tell() == theirs.tell()


@pytest.mark.parametrize("size", [-1, 1, 10])
async def test_read1_and_peek_wait_for_the_first_bytes(loop: Loop, size: int) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as pipe:
        async with cloverleaf.open(reading, "rb") as file:
            for method in (file.read1, file.peek):
                waiting = asyncio.ensure_future(method(size))
                await turns(5)
                assert not waiting.done()
                pipe.write(b"some")
                first = await waiting
                assert first == (b"some" if method == file.peek or size < 0 else b"some"[:size])
                rest = b"" if first == b"some" and method == file.read1 else await file.read1()
                assert (first + rest if method == file.read1 else rest) == b"some"
            pipe.close()
            assert await file.read1(size) == b""
            assert await file.peek(size) == b""


async def test_read1_of_a_cold_file_is_that_of_open(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as theirs:
        async with cloverleaf.open(path, "rb") as ours:
            file: Any = ours
            file._raw.native = Beginning(file._raw.native, 1 << 20)
            for size in (10, 100_000, 0, 1):
                assert await file.read1(size) == theirs.read1(size)
            while data := theirs.read1():
                assert await file.read1() == data
            assert await file.read1() == b""


@pytest.mark.parametrize("is_full", [True, False])
async def test_an_unbuffered_write_that_would_block_says_so_as_open_does(
    loop: Loop, is_full: bool
) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    try:
        async with cloverleaf.open(writing, "wb", 0) as file:
            if is_full:
                assert await file.write(bytes(4096)) == 4096
                assert await file.write(b"more") is None
            else:
                assert await file.write(bytes(10_000)) == 4096
            assert len(os.read(reading, 10_000)) == 4096
    finally:
        os.close(reading)
