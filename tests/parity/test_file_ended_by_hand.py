"""Reads that are closed, or into which an exception is thrown, have not moved the file either."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import chill
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files

ended = pytest.mark.parametrize("end", ["close", "throw"])


def end_by_hand(call: Coroutine[Any, Any, Any], end: str) -> None:
    """Begin a call, and end it where it waits."""
    call.send(None)
    end_where_it_waits(call, end)


def end_where_it_waits(call: Coroutine[Any, Any, Any], end: str) -> None:
    """End a call that has begun."""
    if end == "close":
        call.close()
    else:
        with pytest.raises(KeyError, match="foreign"):
            call.throw(KeyError("foreign"))


@ended
async def test_text_of_a_pipe_comes_again(loop: Loop, end: str) -> None:
    reading, writing = os.pipe()
    async with cloverleaf.open(reading, "r") as file:
        given_up = asyncio.ensure_future(file.readline())
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        os.write(writing, b"partial\n")
        await file._raw.land()  # the thread brings the line
        end_by_hand(file.read(300), end)
        os.write(writing, b"rest\n")
        os.close(writing)
        assert await file.read() == "partial\nrest\n"


@ended
async def test_a_long_text_is_read_from_where_it_was(loop: Loop, tmp_path: Path, end: str) -> None:
    path = tmp_path / "file"
    path.write_text("0123456789" * 300_000)
    async with cloverleaf.open(path) as file:
        assert await file.read(5) == "01234"
        end_by_hand(file.read(), end)
        assert await file.read(5) == "56789"


@ended
@pytest.mark.parametrize(
    "call", [lambda file: file.read(9000), lambda file: file.readlines()], ids=["read", "readlines"]
)
async def test_a_file_that_must_write_before_it_reads_stays(
    loop: Loop, tmp_path: Path, end: str, call: Callable[[Any], Coroutine[Any, Any, Any]]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 3000)
    async with cloverleaf.open(path, "r+b", 4096) as file:
        await file.read(10)
        await file.write(b"x" * 5)
        file._raw.writes_at_once = False  # some file systems would take it all
        end_by_hand(call(file), end)
        assert await file.tell() == 15
        assert await file.read(5) == b"56789"


@ended
@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_lines_come_again(loop: Loop, tmp_path: Path, end: str, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"line\n" * 300_000)
    async with cloverleaf.open(path, mode) as file:
        end_by_hand(file.readlines(), end)
        assert await file.tell() == 0
        assert len(await file.readlines()) == 300_000


@ended
@pytest.mark.parametrize("mode", ["r", "rb"])
@pytest.mark.parametrize("waits", range(1, 5))
async def test_lines_that_wait_for_a_disk_come_again_when_ended_by_hand(
    loop: Loop, tmp_path: Path, mode: str, waits: int, end: str
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"line\n" * 100_000)
    async with cloverleaf.open(path, mode) as file:
        assert len(await file.readline()) == 5
        chill(file)
        call = file.readlines()
        waiting: Any = call.send(None)
        for _ in range(waits):
            if waiting is not None:
                await asyncio.wait([waiting])
            waiting = call.send(None)
        end_where_it_waits(call, end)
        assert await file.tell() == 5
        assert len(await file.readlines()) == 99_999
