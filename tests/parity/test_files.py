"""Files that are awaited: opening, closing, reading, writing, and what may go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import mmap
import os
import random
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import Call, awaited_history, history, outcome
from .harness.turns import turns, until
from .harness.types import Loop

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with some content."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


# -- opening and closing -----------------------------------------------------------------------


async def test_open_can_be_awaited_and_entered(loop: Loop, path: Path) -> None:
    async with await cloverleaf.open(path, "rb") as file:
        assert await file.read() == CONTENT
    assert file.closed
    async with cloverleaf.open(path, "rb") as file:
        assert await file.read() == CONTENT
    assert file.closed
    file = await cloverleaf.open(path, "rb")
    await file.close()
    await file.close()
    assert file.closed


async def test_open_can_be_a_task(loop: Loop, path: Path) -> None:
    file = await asyncio.create_task(cloverleaf.open(path, "rb"))
    assert await asyncio.create_task(file.read(3)) == CONTENT[:3]
    assert await asyncio.create_task(file.pread(3, 1)) == CONTENT[1:4]
    await asyncio.wait_for(file.close(), 60)


async def test_an_exception_in_the_block_closes_the_file(loop: Loop, path: Path) -> None:
    async def fails() -> None:
        async with cloverleaf.open(path, "wb") as file:
            await file.write(b"written")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert path.read_bytes() == b"written"


async def test_a_closed_file_refuses_everything(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "r+b") as file:
        pass
    for call in (file.read, file.readline, file.flush, file.tell, file.fsync, file.truncate):
        with pytest.raises(ValueError, match="closed file"):
            await call()
    with pytest.raises(ValueError, match="closed file"):
        await file.write(b"")
    with pytest.raises(ValueError, match="closed file"):
        await file.pread(1, 0)
    with pytest.raises(ValueError, match="closed file"):
        await file.pwrite(b"x", 0)
    with pytest.raises(ValueError, match="closed file"):
        file.fileno()
    with pytest.raises(ValueError, match="closed file"):
        async with file:
            pass


async def test_a_forgotten_file_warns_and_loses_nothing(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "forgotten"
    file = await cloverleaf.open(path, "w")
    await file.write("buffered")
    fd = file.fileno()
    files = [file]
    del file
    with pytest.warns(ResourceWarning, match=r"^unclosed file <TextFile open name="):
        files.clear()
    gc.collect()
    assert path.read_text() == "buffered"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_a_forgotten_file_that_borrows_its_descriptor_does_not_warn(
    loop: Loop, path: Path
) -> None:
    fd = os.open(path, os.O_RDWR)
    files = [await cloverleaf.open(fd, "r+", closefd=False)]
    await files[0].write("buffered")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files.clear()
        gc.collect()
    assert os.pread(fd, 8, 0) == b"buffered"
    os.close(fd)


async def test_a_descriptor_is_taken_over(loop: Loop, path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    os.lseek(fd, 10, os.SEEK_SET)
    async with cloverleaf.open(fd, "r+b") as file:
        assert file.fileno() == file.name == fd
        assert await file.read(3) == CONTENT[10:13]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(fd)


async def test_a_descriptor_may_stay_open(loop: Loop, path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    async with cloverleaf.open(fd, "r+b", 0, closefd=False) as file:
        assert await file.read(3) == CONTENT[:3]
        assert file.fileno() == fd
        assert os.lseek(fd, 0, os.SEEK_CUR) == 3, "fileno() moves it to where the file is"
    os.close(fd)


async def test_an_opener_opens_in_a_thread(loop: Loop, path: Path) -> None:
    seen: list[Any] = []

    def opener(name: Path, flags: int) -> int:
        seen.append((name, flags, threading.get_ident()))
        return os.open(name, flags)

    async with cloverleaf.open(path, "rb", opener=opener) as file:
        assert await file.read(3) == CONTENT[:3]
    [(name, flags, thread)] = seen
    assert (name, flags) == (str(path), os.O_RDONLY | os.O_CLOEXEC)
    assert thread != threading.get_ident()


@pytest.mark.parametrize("size", [10, 70_000])
@pytest.mark.parametrize("is_opened_before", [True, False])
async def test_what_others_have_opened_to_append_to_appends(
    loop: Loop, tmp_path: Path, size: int, *, is_opened_before: bool
) -> None:
    def opener(name: Any, flags: int) -> int:
        return os.open(name, os.O_WRONLY | os.O_APPEND)

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (ours, theirs):
        path.write_bytes(b"o" * 100)

    def given(path: Path) -> Any:
        return opener(path, 0) if is_opened_before else path

    other = None if is_opened_before else opener
    with open(given(theirs), "wb", opener=other) as model:
        model.write(b"n" * size)
        model.flush()
        expected = (model.tell(), model.truncate())
    async with cloverleaf.open(given(ours), "wb", opener=other) as file:
        await file.write(b"n" * size)
        await file.flush()
        assert (await file.tell(), await file.truncate()) == expected
    assert ours.read_bytes() == theirs.read_bytes() == b"o" * 100 + b"n" * size


@pytest.mark.parametrize("encoding", ["iso2022_kr", "iso2022_jp", "utf-16"])
async def test_lines_of_an_encoding_whose_state_is_large_are_read(
    loop: Loop, tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "file"
    path.write_text("\ud55c\nabc\n" * 20 if encoding != "iso2022_jp" else "\u65e5\n" * 20, encoding)
    with path.open(encoding=encoding) as model:
        model.readline()
        expected = model.readlines()
    async with cloverleaf.open(path, encoding=encoding) as file:
        await file.readline()
        assert await file.readlines() == expected


async def test_what_a_given_up_opener_opens_is_closed(loop: Loop, path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()
    opened = []

    def opener(name: Any, flags: int) -> int:
        entered.set()
        assert go_on.wait(60)
        opened.append(os.open(name, flags))
        return opened[0]

    task = asyncio.ensure_future(cloverleaf.open(path, "rb", opener=opener))
    await until(entered.is_set)
    task.cancel()
    await asyncio.wait([task])
    go_on.set()
    await until(lambda: opened and not Path(f"/proc/self/fd/{opened[0]}").exists())


async def test_files_are_not_inherited(loop: Loop, path: Path) -> None:
    for mode in ("rb", "wb"):
        async with cloverleaf.open(path, mode) as file:
            assert not os.get_inheritable(file.fileno())


async def test_opening_that_is_cancelled_leaves_no_descriptor(loop: Loop, path: Path) -> None:
    for turn in range(20):
        task = asyncio.ensure_future(cloverleaf.open(path, "wb"))
        await turns(turn % 4)
        if not task.cancel():
            await (await task).close()
            continue
        with contextlib.suppress(asyncio.CancelledError):
            await (await task).close()


async def test_a_fifo_is_opened_when_its_other_end_is(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    opening = asyncio.ensure_future(cloverleaf.open(path, "rb"))
    await turns(10)
    assert not opening.done()
    async with cloverleaf.open(path, "wb", 0) as writer, await opening as reader:
        await writer.write(b"through the pipe\n")
        assert await reader.readline() == b"through the pipe\n"


# -- reading and writing -----------------------------------------------------------------------


async def test_iterating_gives_lines(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = [f"line {n}\n" for n in range(1000)]
    path.write_text("".join(lines))
    async with cloverleaf.open(path) as text:
        assert [line async for line in text] == lines
    async with cloverleaf.open(path, "rb") as binary:
        assert [line.decode() async for line in binary] == lines


async def test_pread_and_pwrite_leave_the_position_alone(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "r+b") as file:
        assert await file.read(5) == CONTENT[:5]
        assert await file.pread(7, 100) == CONTENT[100:107]
        assert await file.pwrite(b"written", 50) == 7
        assert await file.pread(7, 50) == b"written"
        assert await file.tell() == 5
        assert await file.pread(10, len(CONTENT) - 4) == CONTENT[-4:]
        assert await file.pread(10, len(CONTENT)) == b""
        assert await file.pread(0, 0) == b""
        assert await file.pread(1 << 40, 0) == await file.pread(len(CONTENT), 0)
        assert await file.pread(size=2, offset=3) == CONTENT[3:5]
        for wrong in ((-1, 0), (1, -1)):
            with pytest.raises(OSError, match="Invalid argument"):
                await file.pread(*wrong)
        with pytest.raises(OSError, match="Invalid argument"):
            await file.pwrite(b"x", -1)
        with pytest.raises(TypeError):
            await file.pread("many", 0)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await file.pwrite("text", 0)  # type: ignore[arg-type]
    async with cloverleaf.open(path, "wb") as file:
        with pytest.raises(OSError, match="Bad file descriptor"):
            await file.pread(1, 0)


async def test_pread_reads_what_is_not_in_memory(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "cold"
    path.write_bytes(CONTENT * 10)
    async with cloverleaf.open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        offsets = list(range(0, len(CONTENT) * 10, 4001))
        random.Random(1).shuffle(offsets)
        found = await asyncio.gather(*(file.pread(4096, offset) for offset in offsets))
        assert found == [(CONTENT * 10)[offset : offset + 4096] for offset in offsets]


async def test_pread_is_short_only_at_the_end_of_the_file(loop: Loop, tmp_path: Path) -> None:
    # Memory, read as a file: the half of a mapping that its file has lost cannot be read.
    half = 2 << 20
    with (tmp_path / "mapped").open("w+b") as mapped:
        mapped.truncate(2 * half)
        memory = mmap.mmap(mapped.fileno(), 2 * half)
        mapped.truncate(half)
    edge = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + half
    async with cloverleaf.open("/proc/self/mem", "rb", 0) as file:
        for size in (8192, 200_000, 2_000_000):
            assert await file.pread(size, edge - size) == bytes(size)
            with pytest.raises(OSError, match="Input/output error"):
                await file.pread(size, edge - size // 2)


async def test_reads_without_a_wait_let_others_run(loop: Loop, path: Path) -> None:
    async def busy(file: Any, method: str, *arguments: Any) -> None:
        for _ in range(1000):
            await file.seek(0)
            await getattr(file, method)(*arguments)

    async with cloverleaf.open(path, "rb") as file:
        for method, arguments in (("pread", (1, 0)), ("read", (1,)), ("readline", ())):
            task = asyncio.ensure_future(busy(file, method, *arguments))
            await turns(5)
            assert not task.done(), f"{method} kept everybody waiting"
            await task


async def test_files_opened_one_after_the_other_let_others_run(loop: Loop, path: Path) -> None:
    async def busy() -> None:
        for _ in range(1000):
            async with cloverleaf.open(path, "rb") as file:
                assert await file.read(1) == CONTENT[:1]

    task = asyncio.ensure_future(busy())
    await turns(5)
    assert not task.done(), "it kept everybody waiting"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_readinto_fills_any_buffer(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb") as file:
        for room in (bytearray(100), memoryview(bytearray(100)), (memoryview(bytearray(100)))):
            await file.seek(1)
            assert await file.readinto(room) == 100
            assert bytes(room) == CONTENT[1:101]
        with pytest.raises(TypeError):
            await file.readinto(b"never changes")
        assert await file.readinto(bytearray()) == 0


async def test_a_large_write_reaches_the_file_at_once(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "large"
    async with cloverleaf.open(path, "wb") as file:
        assert await file.write(b"x" * (5 << 20)) == 5 << 20
        assert path.stat().st_size == 5 << 20
        await file.write(b"small")
        assert path.stat().st_size == 5 << 20
        await file.flush()
        assert path.stat().st_size == (5 << 20) + 5
        await file.fsync()
        await file.fdatasync()


@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("buffering", [-1, 0])
async def test_a_large_file_is_read_in_one_call(
    loop: Loop, tmp_path: Path, mode: str, buffering: int
) -> None:
    path = tmp_path / "large"
    content = CONTENT * 50  # more than is read at once
    path.write_bytes(content)
    async with cloverleaf.open(path, mode, buffering) as file:
        assert await file.read() == content
        await file.seek(7)
        assert await file.read(len(content)) == content[7:]
        await file.seek(1)
        room = bytearray(len(content) + 10)
        assert await file.readinto(room) == len(content) - 1
        assert room[: len(content) - 1] == content[1:]


async def test_text_of_wide_letters_is_seen_to_before_it_is_read(
    loop: Loop, tmp_path: Path
) -> None:
    (tmp_path / "wide").write_text("\U0001f340" * 400_000)
    async with cloverleaf.open(tmp_path / "wide") as file:
        beyond = []
        known = file._raw._readinto_now

        def watched(buffer: Any) -> int:
            count = known(buffer)
            if threading.current_thread() is threading.main_thread():
                beyond.append(file._raw.position + count > file._seen_to)
            return count

        file._raw._readinto_now = watched  # type: ignore[method-assign]
        assert await file.read(200_000) == "\U0001f340" * 200_000
        assert await file.read(1000) == "\U0001f340" * 1000
    assert beyond
    assert not any(beyond)


async def test_what_is_written_may_be_changed_at_once(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "changed"
    data = bytearray(b"a" * 100_000)
    async with cloverleaf.open(path, "wb", 0) as file:
        task = asyncio.ensure_future(file.write(data))
        await asyncio.sleep(0)
        data[:] = b"b" * len(data)
        assert await task == 100_000
    assert path.read_bytes() == b"a" * 100_000


async def test_appending_leaves_others_bytes_alone(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "ab") as one, cloverleaf.open(path, "ab") as other:
        for n in range(10):
            await one.write(b"one %d\n" % n)
            await one.flush()
            await other.write(b"other %d\n" % n)
            await other.flush()
            assert await other.tell() == path.stat().st_size
    expected = b"".join(b"one %d\nother %d\n" % (n, n) for n in range(10))
    assert path.read_bytes() == CONTENT + expected


async def test_a_full_disk_is_reported_and_the_bytes_are_kept(loop: Loop) -> None:
    file = await cloverleaf.open("/dev/full", "wb")
    await file.write(b"buffered")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            await file.flush()
    with pytest.raises(OSError, match="No space left on device"):
        await file.close()
    assert file.closed
    await file.close()


async def test_a_truncation_that_fails_is_over(loop: Loop, path: Path) -> None:
    for size in (-1, 1 << 70, "text"):
        calls: list[Call] = [
            ("truncate", (size,)),
            ("read", (5,)),
            ("write", (b"x",)),
            ("flush", ()),
            ("tell", ()),
        ]
        expected = await history(path, {"mode": "r+b"}, calls)
        assert await awaited_history(path, {"mode": "r+b"}, calls) == expected


async def test_an_unbuffered_write_that_fails_is_over(loop: Loop) -> None:
    calls: list[Call] = [
        ("write", (b"x",)),
        ("tell", ()),
        ("writelines", ([b"x", b"y"],)),
        ("seek", (0,)),
    ]
    with Path("/dev/full").open("wb", 0) as plain:
        expected = [await outcome(plain, call) for call in calls]
    async with cloverleaf.open("/dev/full", "wb", 0) as file:
        assert [await outcome(file, call) for call in calls] == expected
        for count in range(4):
            task = asyncio.ensure_future(file.write(b"x"))
            await turns(count)
            task.cancel()
            await asyncio.wait([task])
            assert await file.seek(0) == 0
            assert file._raw.is_settled


async def test_what_failed_is_over_without_a_loop_too(loop: Loop) -> None:
    file = await cloverleaf.open("/dev/full", "wb")
    await file.write(b"x")
    with pytest.raises(OSError, match="No space left on device"):
        file.detach()
    assert file._raw.is_settled
    with pytest.raises(OSError, match="No space left on device"):
        await file.close()


async def test_seeks_within_a_file_ask_nobody_and_errors_stay(loop: Loop, tmp_path: Path) -> None:
    """The descriptor stands where `fileno` is asked for, and what `open` refuses is refused."""
    path = tmp_path / "positions"
    path.write_bytes(bytes(range(256)) * 256)
    with path.open("rb") as plain:  # what is compared
        async with cloverleaf.open(path, "rb") as file:
            for offset in (0, 5, 30_000, 65_536, 65_537, 1 << 40, 100, 60_000):
                assert await file.seek(offset) == plain.seek(offset) == offset
                assert await file.read(3) == plain.read(3)
                assert await file.tell() == plain.tell()
                fd = file.fileno()
                # Both have read ahead as much.
                assert os.lseek(fd, 0, os.SEEK_CUR) == os.lseek(plain.fileno(), 0, os.SEEK_CUR)
            for offset in (-1, 1 << 63):
                with pytest.raises((OSError, ValueError)) as theirs:
                    plain.seek(offset)
                with pytest.raises(type(theirs.value)) as ours:
                    await file.seek(offset)
                assert str(ours.value) == str(theirs.value)
            path.write_bytes(b"short")
            assert await file.seek(4) == plain.seek(4)
            assert await file.read() == plain.read() == b"t"
    with pytest.raises(ValueError, match="closed file"):
        await file.seek(0)
