"""Files past the page cache (`O_DIRECT`): they want aligned memory, and callers need not know."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.files import make_sparse
from .harness.program import Program
from .harness.types import Loop

CONTENT = bytes(range(256)) * 400

SKIP_PIECES = """
import mmap, os, sys
room = mmap.mmap(-1, 8192)
sys.exit(sum(bool(os.readv(int(sys.argv[1]), [room])) for _ in range(100)))
"""
"""Reads up to so many pieces, and tells how many."""


@pytest.fixture
def path() -> Iterator[Path]:
    """A file of 32 KiB that can be opened so; a test's own folder may lie in memory."""
    path = Path(f"/var/tmp/cloverleaf-direct-{os.getpid()}")
    path.write_bytes(CONTENT[:8192] * 4)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
        yield path
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        pytest.skip("the file system has no O_DIRECT")
    finally:
        path.unlink()


async def test_a_file_past_the_page_cache_needs_no_aligned_memory(loop: Loop, path: Path) -> None:
    def direct(name: Any, flags: int) -> int:
        return os.open(name, flags | os.O_DIRECT)

    async with cloverleaf.open(path, "r+b", 0, opener=direct) as file:
        found = await asyncio.gather(*(file.pread(4096, 4096 * n) for n in range(8)))
        assert b"".join(found) == CONTENT[:8192] * 4
        assert await file.pread(4096, 8192 * 4) == b""
        assert await file.pwrite(b"x" * 4096, 4096) == 4096
        assert await file.read(4096) == CONTENT[:4096]
        with pytest.raises(OSError, match="Invalid argument"):
            await file.pread(100, 7)
    assert path.read_bytes() == CONTENT[:4096] + b"x" * 4096 + CONTENT[:8192] * 3


async def test_a_file_may_be_made_one_past_the_page_cache_while_it_is_open(
    loop: Loop, path: Path
) -> None:
    async with cloverleaf.open(path, "r+b", 0) as file:
        fd = file.fileno()
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)
        found = await asyncio.gather(*(file.pread(4096, 4096 * n) for n in range(8)))
        assert b"".join(found) == CONTENT[:8192] * 4
        assert await file.pread(8192, 4096 * 7) == CONTENT[4096:8192]
        assert await file.pwrite(b"x" * 4096, 4096) == 4096
        with pytest.raises(OSError, match="Invalid argument"):
            await file.pread(100, 7)
    assert path.read_bytes() == CONTENT[:4096] + b"x" * 4096 + CONTENT[:8192] * 3


async def test_much_goes_past_the_page_cache_in_pieces(loop: Loop, path: Path) -> None:
    content = os.urandom(9 << 20)

    def direct(name: Any, flags: int) -> int:
        return os.open(name, flags | os.O_DIRECT)

    async with cloverleaf.open(path, "r+b", 0, opener=direct) as file:
        assert await file.pwrite(content, 4096) == len(content)
        assert await file.pread(len(content), 4096) == content
        # Past the end, it is read to the end.
        assert await file.pread(len(content), 8192) == content[4096:]
    assert path.read_bytes()[4096:] == content


def test_a_large_read_past_the_page_cache_needs_its_memory_once(
    program: Program, path: Path
) -> None:
    out = program.output(
        f"""
import asyncio, cloverleaf, os, resource

SIZE = 192 << 20

def direct(name, flags):
    return os.open(name, flags | os.O_DIRECT)

async def main():
    os.truncate({str(path)!r}, SIZE)
    async with cloverleaf.open({str(path)!r}, "rb", 0, opener=direct) as file:
        await file.pread(4096, 0)  # the threads are there
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (size + SIZE // 2 * 3, hard))
        print(len(await file.pread(SIZE, 0)) == SIZE)

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert out == "True"


@pytest.mark.parametrize("odd", [100, (4 << 20) + 100, (8 << 20) + 100])
async def test_a_length_that_the_kernel_refuses_is_refused_whatever_fits_before(
    loop: Loop, path: Path, odd: int
) -> None:
    def direct(name: Any, flags: int) -> int:
        return os.open(name, flags | os.O_DIRECT)

    path.write_bytes(bytes(12 << 20))
    async with cloverleaf.open(path, "r+b", 0, opener=direct) as file:
        with pytest.raises(OSError, match="Invalid argument"):
            await file.pread(odd, 0)
        with pytest.raises(OSError, match="Invalid argument"):
            await file.pwrite(bytes(odd), 0)
        with pytest.raises(OSError, match="Invalid argument"):
            await file.write(bytes(odd))
        assert await file.tell() == 0


async def test_a_file_past_the_page_cache_is_appended_to_from_any_memory(
    loop: Loop, path: Path
) -> None:
    def direct(name: Any, flags: int) -> int:
        return os.open(name, flags | os.O_DIRECT)

    before = path.read_bytes()
    async with cloverleaf.open(path, "ab", 0, opener=direct) as file:
        assert await file.write(CONTENT[:8192]) == 8192
        # Here it is a slice of a larger one, so wherever that is.
        assert await file.write(memoryview(CONTENT)[1:8193]) == 8192
    assert path.read_bytes() == before + CONTENT[:8192] + CONTENT[1:8193]


@pytest.mark.parametrize("buffering", [0, 8192])
async def test_a_read_past_the_page_cache_moves_a_descriptor_that_others_have(
    loop: Loop, path: Path, buffering: int
) -> None:
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        make_sparse(fd, 8 << 30)
        async with cloverleaf.open(os.dup(fd), "rb", buffering) as file:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", SKIP_PIECES, str(fd), pass_fds=[fd]
            )
            ended = asyncio.ensure_future(child.wait())
            pieces = 0
            while not ended.done():
                assert len(await file.read(8192)) == 8192
                pieces += 1
            pieces += await ended
            assert os.lseek(fd, 0, os.SEEK_CUR) == 8192 * pieces
    finally:
        os.close(fd)


@pytest.mark.parametrize("is_landed", [False, True])
@pytest.mark.parametrize("buffering", [0, 8192])
async def test_a_read_past_the_page_cache_goes_back_to_the_beginning_at_most(
    loop: Loop, path: Path, buffering: int, is_landed: bool
) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        async with cloverleaf.open(os.dup(fd), "rb", buffering) as file:
            reading = loop.create_task(file.read(4096))
            await asyncio.sleep(0)
            while not os.lseek(fd, 0, os.SEEK_CUR):
                os.sched_yield()  # a thread reads
            os.lseek(fd, 0, os.SEEK_SET)
            if is_landed:
                loop.call_soon(reading.cancel)
            else:
                reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
            assert await file.tell() == 0
            assert await file.read(4096) == CONTENT[:4096]
    finally:
        os.close(fd)


async def test_a_read_past_the_page_cache_behind_what_a_buffer_had_can_be_given_up(
    loop: Loop, path: Path
) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        async with cloverleaf.open(os.dup(fd), "rb", 8192) as file:
            assert await file.read(100) == CONTENT[:100]
            reading = loop.create_task(file.read(20_000))
            await asyncio.sleep(0)
            while os.lseek(fd, 0, os.SEEK_CUR) == 8192:
                os.sched_yield()
            os.lseek(fd, 0, os.SEEK_SET)
            reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
            # To where it began, if the loop has not yet heard that the thread has read.
            assert await file.tell() in (0, 100)
    finally:
        os.close(fd)


async def test_nothing_is_read_past_the_page_cache_wherever_it_stands(
    loop: Loop, path: Path
) -> None:
    def direct(name: Any, flags: int) -> int:
        return os.open(name, flags | os.O_DIRECT)

    async with cloverleaf.open(path, "rb", 0, opener=direct) as file:
        for place in (0, 100, 1 << 20):
            await file.seek(place)
            assert await file.read(0) == b""
            assert await file.readinto(bytearray()) == 0
            assert await file.tell() == place


def calls_that_write() -> int:
    """Count them, of this process's other threads."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != os.getpid():
            found = re.search(r"syscw: (\d+)", (task / "io").read_text())
            assert found is not None
            count += int(found[1])
    return count


async def test_what_is_appended_past_the_page_cache_goes_in_one_piece(
    loop: Loop, path: Path
) -> None:
    def direct(name: Any, flags: int) -> int:
        return os.open(name, flags | os.O_DIRECT | os.O_APPEND)

    content, before = os.urandom(32 << 20), path.read_bytes()
    async with cloverleaf.open(path, "r+b", 0, opener=direct) as file:
        await file.pread(4096, 0)  # the threads are there
        calls = calls_that_write()
        assert await file.pwrite(content, 0) == len(content)
        # One for the bytes, and one to wake the loop; the one that has woken it for the read may be
        # counted late. By eight pieces it would be more.
        assert calls_that_write() - calls <= 4
    assert path.read_bytes() == before + content


def test_an_odd_length_past_the_page_cache_without_memory_is_an_error(
    program: Program, path: Path
) -> None:
    out = program.output(
        f"""
import asyncio, cloverleaf, errno, os, resource

SIZE = 192 << 20

def direct(name, flags):
    return os.open(name, flags | os.O_DIRECT)

async def main():
    async with cloverleaf.open({str(path)!r}, "r+b", 0, opener=direct) as file:
        content = bytes(SIZE + 100)
        await file.pread(4096, 0)  # the threads are there
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + SIZE // 2, limits[1]))
        try:
            await file.pwrite(content, 0)
        except OSError as error:
            print(errno.errorcode[error.errno])
        resource.setrlimit(resource.RLIMIT_AS, limits)
        print(len(await file.pread(4096, 0)))

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert out == "ENOMEM\n4096"
