"""A descriptor that others move: what is read and where all stand is as with `open`."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import answer
from .harness.files import NUMBERED, make_sparse
from .harness.turns import turns, until
from .harness.types import Loop, NewLoop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files

WRITE_LINES = """
import os, sys
for number in range(100):
    os.write(int(sys.argv[1]), b"child %05d\\n" % number * 50_000)
"""
"""Writes more at a time than is read meanwhile."""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[int]]:
    """Open two files of the same content: for `open` and for us."""
    opened = []
    for name in ("theirs", "ours"):
        path = tmp_path / name
        path.write_bytes(NUMBERED)
        opened.append(os.open(path, os.O_RDWR))
    yield opened
    for fd in opened:
        os.close(fd)


async def _compare(pair: list[int], mode: str, *calls: Callable[[Any, int], Any]) -> None:
    """Make the same calls on `open`'s file and ours; compare what they give and where all stand."""
    found: list[list[Any]] = []
    for fd in pair:
        os.lseek(fd, 0, os.SEEK_SET)
        if fd == pair[0]:
            file: Any = os.fdopen(os.dup(fd), mode)
        else:
            file = await cloverleaf.open(os.dup(fd), mode)
        steps = [(await answer(call(file, fd)), os.lseek(fd, 0, os.SEEK_CUR)) for call in calls]
        await answer(file.close())
        found.append([*steps, os.lseek(fd, 0, os.SEEK_CUR)])
    assert found[1] == found[0]


@pytest.mark.parametrize("hint", [1, 100, 9000])
async def test_a_seek_behind_readlines_leads_where_that_of_open_does(
    loop: Loop, pair: list[int], hint: int
) -> None:
    await _compare(
        pair,
        "rb",
        lambda _file, fd: os.lseek(fd, 4509, os.SEEK_SET),
        lambda file, _fd: file.readlines(hint),
        lambda _file, fd: os.lseek(fd, 1 << 20, os.SEEK_SET),
        lambda file, _fd: file.seek(-5, os.SEEK_CUR),
        lambda file, _fd: file.read(10),
    )


async def test_readlines_that_is_given_up_goes_back_where_others_have_moved_the_descriptor(
    loop: Loop, pair: list[int]
) -> None:
    fd = pair[1]
    async with cloverleaf.open(os.dup(fd), "rb") as file:
        assert await file.read(4) == NUMBERED[:4]
        ahead = os.lseek(fd, 0, os.SEEK_CUR) - 4
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        await _give_lines_up(loop, file)
        # By as much as was read, of which the buffer had so much.
        place = (1 << 20) - ahead
        assert os.lseek(fd, 0, os.SEEK_CUR) == place
        assert await file.readline() == NUMBERED[place : place // 16 * 16 + 16]


@pytest.mark.parametrize("moved", [0, 50])
@pytest.mark.parametrize("mode", ["rb", "r+b", "r"])
async def test_readlines_that_is_given_up_goes_back_to_the_beginning_at_most(
    loop: Loop, pair: list[int], mode: str, moved: int
) -> None:
    fd = pair[1]
    # With a larger buffer, as releases have it, the lines stay in there, and it goes nowhere.
    buffering = 8192 if "b" in mode else -1
    async with cloverleaf.open(os.dup(fd), mode, buffering) as file:
        await _give_lines_up(loop, file, lambda: os.lseek(fd, moved, os.SEEK_SET))
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        line: Any = await file.readline()
        assert line in (NUMBERED[:16], NUMBERED[:16].decode())


async def _give_lines_up(
    loop: Loop, file: Any, before: Callable[[], object] = lambda: None
) -> None:
    began_at = file._raw.position
    reading = loop.create_task(file.readlines())
    await until(lambda: file._raw.position > began_at)
    assert not reading.done()
    before()
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()


def _pieces(fd: int, size: int) -> Iterator[bytes]:
    """Read a sparse file up to there, without its holes."""
    for offset in range(0, size, 1 << 20):
        yield os.pread(fd, 1 << 20, offset).replace(b"\0", b"")


async def test_text_that_a_thread_reads_takes_back_nobody_who_writes_meanwhile(
    loop: Loop, pair: list[int]
) -> None:
    fd = pair[1]
    os.ftruncate(fd, 0)
    make_sparse(fd, 4 << 30)
    async with cloverleaf.open(os.dup(fd), "r", encoding="ascii") as file:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITE_LINES, str(fd), pass_fds=[fd]
        )
        ended = asyncio.ensure_future(child.wait())
        while not ended.done():
            await file.read(300_000)
        assert await ended == 0
    found, number = b"", 0
    for piece in _pieces(fd, os.lseek(fd, 0, os.SEEK_CUR)):
        found += piece
        while found.startswith(expected := b"child %05d\n" % number * 50_000):
            found, number = found[len(expected) :], number + 1
    assert (number, len(found)) == (100, 0)


async def test_text_is_read_by_a_thread_from_where_others_have_moved_the_descriptor(
    loop: Loop, pair: list[int]
) -> None:
    await _compare(
        pair,
        "r",
        lambda file, _fd: file.read(16),
        lambda _file, fd: os.lseek(fd, 1 << 20, os.SEEK_SET),
        lambda file, _fd: file.read(2 << 20),
        lambda _file, fd: os.lseek(fd, 64, os.SEEK_SET),
        lambda file, _fd: file.read(2 << 20),
    )


@pytest.mark.parametrize("method", ["read", "readlines"])
@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("ending", ["read", "closed", "forgotten", "asked for its number"])
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
async def test_text_that_is_given_up_leaves_the_descriptor_where_it_stood(
    loop: Loop, pair: list[int], ending: str, mode: str, method: str
) -> None:
    fd = pair[1]
    os.lseek(fd, 160, os.SEEK_SET)
    file: Any = await cloverleaf.open(os.dup(fd), mode)
    reading: Any = None
    for _ in range(100):
        reading = loop.create_task(getattr(file, method)())
        await until(lambda: file._raw.position > 160)
        if not reading.done():
            break
        await file.seek(160)  # all came while nobody looked
    assert not reading.done()
    await _give_up(fd, file, reading, ending)
    file = reading = None
    gc.collect()
    if ending != "read":
        assert os.lseek(fd, 0, os.SEEK_CUR) == 160


@pytest.mark.parametrize("ending", ["read", "closed", "forgotten", "asked for its number"])
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
async def test_text_that_is_given_up_and_then_fails_leaves_the_descriptor_where_it_stood(
    loop: Loop, pair: list[int], ending: str
) -> None:
    fd = pair[1]
    os.pwrite(fd, b"\xff", 3 << 20)
    os.lseek(fd, 160, os.SEEK_SET)
    file: Any = await cloverleaf.open(os.dup(fd), "r", encoding="ascii")
    reading: Any = loop.create_task(file.read(7 << 19))
    await turns(2)
    assert not reading.done()
    await _give_up(fd, file, reading, ending)
    file = reading = None
    gc.collect()
    if ending != "read":
        assert os.lseek(fd, 0, os.SEEK_CUR) == 160


async def _give_up(fd: int, file: Any, reading: asyncio.Task[Any], ending: str) -> None:
    """Cancel a read that began at 160; then end the file, or read on, or ask for its number."""
    reading.cancel()
    await asyncio.wait([reading])
    await until(lambda: file._raw._flight is None)
    assert reading.cancelled()
    assert os.lseek(fd, 0, os.SEEK_CUR) == 160
    if ending == "read":
        assert await file.read(16) == NUMBERED[160:176].decode()
    elif ending == "asked for its number":
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 160
    if ending != "forgotten":
        await file.close()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_text_that_a_thread_reads_for_a_closed_loop_leaves_the_descriptor_where_it_stood(
    new_loop: NewLoop, pair: list[int]
) -> None:
    fd = pair[1]
    os.lseek(fd, 160, os.SEEK_SET)

    async def begin(number: int) -> Any:
        file = await cloverleaf.open(number, "r")
        reading = asyncio.ensure_future(file.read())
        await turns(2)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        return file

    loop, number = new_loop(), os.dup(fd)
    kept = [loop.run_until_complete(begin(number))]
    loop.close()
    kept.clear()
    gc.collect()
    while _is_open(number):
        os.sched_yield()
    assert os.lseek(fd, 0, os.SEEK_CUR) == 160


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
