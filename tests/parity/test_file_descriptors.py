"""A descriptor that others may have as well: where it stands, and who closes it."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import random
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import Call, answer, chill, outcome
from .harness.complaints import Complaints
from .harness.kinds import Kind
from .harness.turns import turns, turns_until, until
from .harness.types import Loop, NewLoop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files


class _Never(random.Random):
    """Has nothing at hand."""

    def random(self) -> float:
        return 0.0


LINES = b"".join(b"line %d\n" % number for number in range(3000))
CALLS = 30


@pytest.fixture
def descriptors(tmp_path: Path) -> Iterator[list[int]]:
    """Make two files of the same content, and end with them closed."""
    opened = []
    for name in ("theirs", "ours"):
        path = tmp_path / name
        path.write_bytes(LINES)
        opened.append(os.open(path, os.O_RDWR))
    yield opened
    for fd in opened:
        os.close(fd)


def _call(chance: random.Random, *, is_read: bool, is_text: bool) -> Call:
    calls: list[Call] = [("seek", (chance.randrange(9000),)), ("seek", (0, os.SEEK_END))]
    if is_read:
        size = chance.choice([1, 50, 5000])
        return chance.choice([*calls, ("read", (size,)), ("readline", ()), ("read", (size,))])
    data: Any = "text\n" * chance.choice([1, 100, 4000])
    if not is_text:
        data = data.encode()
    calls += [("tell", ()), ("flush", ()), ("truncate", (chance.randrange(9000),))]
    return chance.choice(
        [*calls, ("write", (data,)), ("write", (data,)), ("writelines", ([data],))]
    )


@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("buffering", [0, 16, -1])
@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r", "w", "a"])
async def test_a_descriptor_stands_where_opens_would_after_each_call(
    loop: Loop, descriptors: list[int], mode: str, buffering: int, is_cold: bool
) -> None:
    if not buffering and "b" not in mode:
        return
    chance = random.Random(f"{mode} {buffering}")
    theirs, ours = descriptors
    with open(theirs, mode, buffering, closefd=False) as expected:
        async with cloverleaf.open(ours, mode, buffering, closefd=False) as found:
            if is_cold:
                chill(found)
            for _ in range(CALLS):
                call = _call(chance, is_read="r" in mode, is_text="b" not in mode)
                assert await outcome(found, call) == await outcome(expected, call), call
                place = os.lseek(theirs, 0, os.SEEK_CUR)
                assert os.lseek(ours, 0, os.SEEK_CUR) == place, call
    assert os.lseek(ours, 0, os.SEEK_CUR) == os.lseek(theirs, 0, os.SEEK_CUR)


@pytest.mark.parametrize("ending", ["closed", "forgotten", "given up"])
@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
async def test_what_is_written_behind_a_file_does_not_replace_what_it_wrote(
    loop: Loop, tmp_path: Path, mode: str, ending: str
) -> None:
    path = tmp_path / "output"
    with path.open("wb", 0) as output:
        # As the standard output is, which a program writes without us as well.
        file: Any = await cloverleaf.open(os.dup(output.fileno()), mode)
        await file.write("from the file\n" if mode == "w" else b"from the file\n")
        if ending == "closed":
            await file.close()
        elif ending == "given up":
            closing: Any = loop.create_task(file.close())
            await cloverleaf.files.exists(path)
            closing.cancel()
            await file.close()
        file = closing = None
        gc.collect()
        output.write(b"from the program\n")
    assert path.read_bytes() == b"from the file\nfrom the program\n"


async def _only_closed(file: Any, _data: Any, write: Any) -> None:
    write(b"between\n")
    await answer(file.close())


async def _flushed_with_nothing(file: Any, _data: Any, write: Any) -> None:
    write(b"between\n")
    await answer(file.flush())
    write(b"again\n")
    await answer(file.close())


async def _written_behind_others(file: Any, data: Any, write: Any) -> None:
    for _ in range(3):
        write(b"between\n")
        await answer(file.write(data))
        await answer(file.flush())
    write(b"again\n")
    await answer(file.close())


async def _large_pieces(file: Any, data: Any, write: Any) -> None:
    for _ in range(3):
        await answer(file.write(data * 300_000))
        await answer(file.flush())
        write(b"between\n")
    await answer(file.close())


async def _truncated(file: Any, data: Any, write: Any) -> None:
    await answer(file.write(data))
    await answer(file.truncate(3))
    write(b"between\n")
    await answer(file.write(data))
    await answer(file.close())


async def _read_behind_others(file: Any, data: Any, write: Any) -> None:
    if file.readable():
        await answer(file.read(10))
        await answer(file.seek(0, os.SEEK_CUR))
    write(b"between\n")
    if file.readable():
        await answer(file.read(20))
    write(b"again\n")
    await answer(file.write(data * 300_000))
    await answer(file.close())


async def _asked_for_its_number(file: Any, data: Any, write: Any) -> None:
    write(b"between\n")
    file.fileno()
    write(b"again\n")
    await answer(file.write(data))
    await answer(file.close())


HISTORIES = [
    _only_closed,
    _flushed_with_nothing,
    _written_behind_others,
    _large_pieces,
    _truncated,
    _read_behind_others,
    _asked_for_its_number,
]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "w", "a", "r+"])
async def test_what_others_write_between_operations_is_as_with_open(
    loop: Loop, descriptors: list[int], mode: str, buffering: int, history: Any
) -> None:
    if not buffering and "b" not in mode:
        return
    contents = []
    for fd in descriptors:
        os.write(fd, b"before\n")
        if fd == descriptors[0]:
            file: Any = os.fdopen(os.dup(fd), mode, buffering)
        else:
            file = await cloverleaf.open(os.dup(fd), mode, buffering)
        data = b"of the file\n" if "b" in mode else "of the file\n"
        await history(file, data, functools.partial(os.write, fd))
        os.write(fd, b"after\n")
        contents.append(os.pread(fd, 1 << 25, 0))
    assert contents[1] == contents[0]


async def test_what_others_write_while_a_file_is_cut_stays(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "output"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    file = await cloverleaf.open(os.dup(fd), "r+b")
    cutting = loop.create_task(file.truncate(4000))
    await turns(1)
    os.write(fd, b"first\n")
    await cutting
    os.write(fd, b"second\n")
    await file.close()
    assert os.lseek(fd, 0, os.SEEK_CUR) == len(b"first\nsecond\n")
    os.close(fd)
    assert path.read_bytes().startswith(b"first\nsecond\n")


async def test_a_file_that_is_only_read_does_not_take_others_back(
    loop: Loop, tmp_path: Path
) -> None:
    path = tmp_path / "output"
    path.write_bytes(b"0123456789" * 4)
    fd = os.open(path, os.O_RDWR)
    async with cloverleaf.open(os.dup(fd), "rb", 16) as file:
        assert await file.read(10) == b"0123456789"
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, b"one\n")
        assert await file.read(20) == b"012345"
        os.write(fd, b"two\n")
    os.close(fd)
    assert path.read_bytes() == b"0123456789" * 4 + b"one\ntwo\n"


@pytest.mark.parametrize("is_given_up", [False, True], ids=["read", "given up"])
@pytest.mark.parametrize("is_given", [False, True], ids=["path", "descriptor"])
async def test_a_read_that_waited_leaves_nothing_for_the_next_but_its_buffer(
    loop: Loop, tmp_path: Path, is_given: bool, is_given_up: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before\n" * 2000)
    fd = os.open(path, os.O_RDWR)
    async with cloverleaf.open(os.dup(fd) if is_given else path, "rb", 16) as file:
        chill(file, _Never())
        reading = loop.create_task(file.read(10))
        if is_given_up:
            await turns(1)
            reading.cancel()
        await asyncio.wait([reading])
        if is_given_up:
            await until(lambda: file._raw._flight is None)
        assert reading.cancelled() is is_given_up
        os.pwrite(fd, b"behind\n" * 2000, 0)
        if is_given:
            os.lseek(fd, 7000, os.SEEK_SET)
        found = await file.read(70)
        ahead = b"" if is_given_up else b"ore\nbe"  # which the buffer has
        at = 7000 if is_given else 0 if is_given_up else 16
        assert found == (ahead + (b"behind\n" * 2000)[at:])[:70]
    os.close(fd)


async def test_lines_that_others_have_rewound_begin_with_what_was_read_ahead(
    loop: Loop, descriptors: list[int]
) -> None:
    for mode in ("rb", "r"):
        found = []
        for fd in descriptors:
            os.lseek(fd, 0, os.SEEK_SET)
            if fd == descriptors[0]:
                file: Any = os.fdopen(os.dup(fd), mode)
            else:
                file = await cloverleaf.open(os.dup(fd), mode)
            await answer(file.read(10))
            await answer(file.seek(5))
            os.lseek(fd, 0, os.SEEK_SET)
            found.append(await answer(file.readlines()))
            await answer(file.close())
        assert found[1] == found[0]


async def test_what_is_detached_moves_nobody_elses_descriptor(loop: Loop, tmp_path: Path) -> None:
    file = await cloverleaf.open(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT), "wb")
    await file.write(b"hello")
    below = file.detach()
    number = below.fileno()
    below.close()
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    if other != number:
        os.dup2(other, number)
        os.close(other)
    for call in (file.tell, file.flush, functools.partial(file.write, b"x")):
        with pytest.raises(ValueError, match="detached"):
            await call()
    assert os.lseek(number, 0, os.SEEK_CUR) == 0
    os.close(number)


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("mode", ["rb", "r+b", "wb"])
async def test_what_takes_seeks_and_has_no_position_is_read_and_written(
    loop: Loop, mode: str, buffering: int
) -> None:
    theirs, ours = os.eventfd(3), os.eventfd(3)
    try:
        os.lseek(theirs, 0, os.SEEK_CUR)
    except OSError:
        os.close(theirs)
        os.close(ours)
        pytest.skip("before Linux 6.0 it takes no seeks")
    async with cloverleaf.open(ours, mode, buffering) as file:
        with os.fdopen(theirs, mode, buffering) as expected:
            assert file.seekable() is expected.seekable() is True
            assert await file.tell() == expected.tell() == 0
            if file.readable():
                assert await file.read(8) == expected.read(8)
                assert await file.tell() == expected.tell()
            if file.writable():
                assert await file.write((1 << 56).to_bytes(8, sys.byteorder)) == 8
                await file.flush()
                assert os.eventfd_read(ours) >> 56 == 1


async def _open(fd: int) -> Any:
    return await cloverleaf.open(fd, "rb", 0)


async def test_what_has_no_position_says_itself_whether_nothing_can_be_read(loop: Loop) -> None:
    async with cloverleaf.open(os.eventfd(3), "rb", 0) as file:
        with os.fdopen(os.eventfd(3), "rb", 0) as expected:
            for call in (("read", (0,)), ("readinto", (bytearray(),)), ("readline", (0,))):
                assert await outcome(file, call) == await outcome(expected, call)
            assert await file.read(8) == expected.read(8)


@pytest.mark.parametrize("buffering", [0, -1])
async def test_a_read_of_what_has_no_position_loses_nothing_when_it_is_given_up(
    loop: Loop, buffering: int
) -> None:
    counter = os.eventfd(0)
    async with cloverleaf.open(counter, "rb", buffering) as file:
        read = asyncio.ensure_future(file.read(8))
        await turns(5)
        read.cancel()
        await asyncio.wait([read])
        assert read.cancelled()
        os.eventfd_write(counter, 7)
        assert int.from_bytes(await file.read(8), sys.byteorder) == 7


def test_a_read_of_nothing_loses_nothing_that_was_read_for_a_closed_loop(
    new_loop: NewLoop, logged: Complaints
) -> None:
    counter = os.eventfd(0)
    loop = new_loop()
    file: Any = loop.run_until_complete(_open(counter))
    _read = loop.create_task(file.read(8))
    turns_until(loop, lambda: file._raw._flight is not None)
    os.eventfd_write(counter, 7)
    while select.select([counter], [], [], 0)[0]:
        os.sched_yield()  # a thread takes it, and nobody hears of that
    loop.close()
    loop = new_loop()
    with pytest.raises(RuntimeError, match="the event loop was closed while"):
        loop.run_until_complete(file.read(0))
    nothing = loop.run_until_complete(file.read(0))
    os.eventfd_write(counter, 1)
    found = loop.run_until_complete(file.read(8))
    loop.run_until_complete(file.close())
    logged.expect("destroyed but it is pending")
    assert (nothing, found) == (b"", (7).to_bytes(8, sys.byteorder))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("backend", ["epoll", "auto", None], ids=["epoll", "auto", "asyncio"])
@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("mode", ["wb", "r+b"])
def test_what_takes_no_offset_is_written_where_it_stands(
    kind: Kind, backend: Any, mode: str, buffering: int
) -> None:
    # The process's name, as most files in /proc: `pwrite` fails.
    path = Path("/proc/self/comm")
    before = path.read_bytes()

    async def rename() -> None:
        async with cloverleaf.open(path, mode, buffering) as file:
            if "r" in mode:
                await file.read()
            assert await file.write(b"written") == 7
        assert path.read_bytes() == b"written\n"
        forgotten = await cloverleaf.open(path, mode)
        forgotten._begin_write(b"forgotten")
        del forgotten
        gc.collect()
        assert path.read_bytes() == b"forgotten\n"

    def new_loop() -> asyncio.AbstractEventLoop:
        return cloverleaf.EventLoop(backend=backend) if backend else asyncio.SelectorEventLoop()

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(rename())
    finally:
        path.write_bytes(before.rstrip())


@pytest.mark.parametrize("mode", ["r", "r+", "w+", "a+", "w"])
async def test_an_open_that_fails_behind_its_descriptor_moves_no_other(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(LINES)
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with pytest.raises(LookupError) as caught:
        await cloverleaf.open(path, mode, encoding="no such encoding")
    # One of them has its number, while the traceback has what was built on it.
    others = [os.open(path, os.O_RDWR) for _ in range(8)]
    for fd in others:
        os.lseek(fd, 5, os.SEEK_SET)
    del caught
    gc.collect()
    assert not told
    for fd in others:
        assert os.lseek(fd, 0, os.SEEK_CUR) == 5
        os.close(fd)


WRITE_LINES = """
import os, sys
for number in range(20_000):
    os.write(int(sys.argv[1]), b"child %05d\\n" % number)
"""


@pytest.mark.parametrize("buffering", [0, 16, -1])
async def test_reads_take_back_nobody_who_writes_meanwhile(
    loop: Loop, tmp_path: Path, buffering: int
) -> None:
    path = tmp_path / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        async with cloverleaf.open(os.dup(fd), "rb", buffering) as file:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", WRITE_LINES, str(fd), pass_fds=[fd]
            )
            ended = asyncio.ensure_future(child.wait())
            while not ended.done():
                await file.read(10)
                await asyncio.sleep(0)
            assert await ended == 0
    finally:
        os.close(fd)
    expected = b"".join(b"child %05d\n" % number for number in range(20_000))
    assert path.read_bytes() == expected
