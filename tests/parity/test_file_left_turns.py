"""A file whose loop was closed while somebody had its turn goes on in the next loop, as it was."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import random
import sys
import termios
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
from cloverleaf import files

from .harness.awaited import chill
from .harness.complaints import Complaints
from .harness.turns import turns, until
from .harness.types import NewLoop
from .test_file_failures import limited

pytestmark = [pytest.mark.only("cloverleaf"), pytest.mark.deadline(180)]  # asyncio has no files

CONTENT = b"".join(b"line %d\n" % number for number in range(20_000))


class Never(random.Random):
    """Has nothing be at hand, ever."""

    def random(self) -> float:
        """Return what is below all bounds."""
        return 0.0


Call = Callable[[Any], Coroutine[Any, Any, Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with some content."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(autouse=True)
def only_pending_tasks(logged: Complaints) -> Any:
    """Expect no complaint but those of tasks whose loop was closed."""
    yield
    logged.expect("destroyed but it is pending")
    gc.collect()
    assert all("destroyed but it is pending" in complaint for complaint in logged.take())


async def told(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call gives, or None if it tells that a loop was closed meanwhile."""
    try:
        return await call
    except RuntimeError as error:
        if "the event loop was closed while an operation" not in str(error):
            raise
        return None


def leave_pending(new_loop: NewLoop, begin: Call, file: Any, count: int) -> asyncio.Task[Any]:
    """Begin a call in a loop that is closed after so many turns."""
    first = new_loop()

    async def run() -> asyncio.Task[Any]:
        task = asyncio.ensure_future(begin(file))
        await turns(count)
        return task

    task = first.run_until_complete(run())
    first.close()
    return task


def opened(new_loop: NewLoop, path: Path, mode: str, **settings: Any) -> Any:
    return new_loop().run_until_complete(cloverleaf.open(path, mode, **settings))


async def lines_of(file: Any) -> AsyncIterator[Any]:
    async for line in file:
        yield line


async def iterate(file: Any) -> None:
    """Read by an asynchronous generator, which no task can be asked for."""
    async for _ in lines_of(file):
        await file.read(9000)


READS: dict[str, Call] = {
    "read": lambda file: file.read(100_000),
    "read all": lambda file: file.read(),
    "readline": lambda file: file.readline(),
    "readlines": lambda file: file.readlines(),
    "readinto": lambda file: file.readinto(bytearray(100_000)),
    "fsync": lambda file: file.fsync(),
    "splice": lambda file: files.splice(file, file, 0),
}


@pytest.mark.parametrize("call", READS.values(), ids=READS)
@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_read_that_was_left_has_not_moved(
    new_loop: NewLoop, path: Path, call: Call, buffering: int
) -> None:
    file = opened(new_loop, path, "r+b", buffering=buffering)
    chill(file)
    second = new_loop()
    for count in range(1, 6):
        task = leave_pending(new_loop, call, file, count)
        if task.done():
            second.run_until_complete(file.seek(0))
        at = second.run_until_complete(told(file.tell()))
        assert at in {0, None}
        assert second.run_until_complete(file.read(6)) == b"line 0"
        assert second.run_until_complete(file.seek(0)) == 0
    second.run_until_complete(file.close())
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("mode", ["wb", "ab", "r+b"])
def test_a_write_that_was_left_is_whole_or_not_there(
    new_loop: NewLoop, tmp_path: Path, mode: str, buffering: int, count: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    file = opened(new_loop, path, mode, buffering=buffering)
    file._raw.writes_at_once = False
    task = leave_pending(new_loop, lambda file: file.write(b"a" * 500_000), file, count)
    second = new_loop()
    while second.run_until_complete(told(file.write(b"b" * 300_000))) is None:
        pass
    second.run_until_complete(file.close())
    found = path.read_bytes()
    assert found.lstrip(b"a") == b"b" * 300_000
    assert found.count(b"a") in ({0, 500_000} if not task.done() else {500_000})


@pytest.mark.parametrize("count", range(1, 6))
def test_a_file_that_was_left_can_be_closed(new_loop: NewLoop, path: Path, count: int) -> None:
    for call in READS.values():
        file = opened(new_loop, path, "rb")
        chill(file)
        task = leave_pending(new_loop, call, file, count)
        new_loop().run_until_complete(told(file.close()))
        assert file.closed
        del task


@pytest.mark.parametrize("count", range(1, 8))
def test_lines_of_a_generator_that_was_left_come_again(
    new_loop: NewLoop, path: Path, count: int
) -> None:
    file = opened(new_loop, path, "rb", buffering=8192)  # from 3.14 on it has more otherwise
    chill(file)
    task = leave_pending(new_loop, iterate, file, count)
    second = new_loop()
    at = second.run_until_complete(told(file.tell()))
    if at is None:
        at = second.run_until_complete(file.tell())
    assert second.run_until_complete(file.read(20)) == CONTENT[at : at + 20]
    second.run_until_complete(file.close())
    assert not task.done()


@pytest.mark.parametrize("count", range(1, 6))
def test_text_that_was_left_to_a_thread_is_read_from_where_it_was(
    new_loop: NewLoop, tmp_path: Path, count: int
) -> None:
    path = tmp_path / "file"
    path.write_text("0123456789" * 300_000)
    file = opened(new_loop, path, "r")
    second = new_loop()
    assert second.run_until_complete(file.read(5)) == "01234"
    task = leave_pending(new_loop, lambda file: file.read(), file, count)
    if task.done():
        second.run_until_complete(file.seek(5))
    found = second.run_until_complete(told(file.read(5)))
    if found is None:
        found = second.run_until_complete(file.read(5))
    assert found == "56789"
    second.run_until_complete(file.close())


@pytest.mark.parametrize(("mode", "buffering"), [("r", -1), ("rb", -1), ("rb", 0)])
def test_what_a_thread_reads_of_a_pipe_for_a_closed_loop_comes_next(
    new_loop: NewLoop, mode: str, buffering: int
) -> None:
    reading, writing = os.pipe()
    file = opened(new_loop, reading, mode, buffering=buffering)  # type: ignore[arg-type]
    task = leave_pending(new_loop, lambda file: file.readline(), file, 2)
    second = new_loop()

    async def go_on() -> Any:
        asyncio.get_running_loop().call_soon(os.write, writing, b"first\nsecond\n")
        assert await told(file.readline()) is None
        return [await file.readline(), await file.readline()]

    # The thread has begun or has not; in both cases nothing is lost.
    found = second.run_until_complete(go_on())
    lines = ["first\n", "second\n"]
    assert found == (lines if mode == "r" else [line.encode() for line in lines])
    os.close(writing)
    second.run_until_complete(file.close())
    assert not task.done()


@pytest.mark.parametrize("buffering", [-1, 0])
def test_what_a_thread_has_read_of_a_pipe_for_a_closed_loop_is_not_lost(
    new_loop: NewLoop, buffering: int
) -> None:
    reading, writing = os.pipe()
    file = opened(new_loop, reading, "rb", buffering=buffering)  # type: ignore[arg-type]
    first = new_loop()
    task = first.create_task(file.readline())
    first.call_soon(first.stop)
    first.run_forever()
    os.write(writing, b"x")
    while any(fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4)):
        os.sched_yield()  # until the thread has it, which the loop does not hear
    first.close()
    os.write(writing, b"yz\n")
    second = new_loop()
    assert second.run_until_complete(told(file.readline())) is None
    assert second.run_until_complete(file.readline()) == b"xyz\n"
    os.close(writing)
    second.run_until_complete(file.close())
    assert not task.done()


def test_a_write_that_failed_answers_for_no_later_one(new_loop: NewLoop, path: Path) -> None:
    file = opened(new_loop, path, "a+b")
    chill(file, Never())
    second = new_loop()
    with limited(len(CONTENT) + 10), pytest.raises(OSError, match="File too large"):
        # The system takes the first bytes, and then no more.
        second.run_until_complete(file.write(b"x" * 300_000))
    assert second.run_until_complete(file.seek(0)) == 0
    first, read = new_loop(), file.read(100)
    first.call_soon(read.send, None)
    first.call_soon(first.stop)
    first.run_forever()  # one turn, in which nothing can end
    assert file._raw._flight is not None
    first.close()
    while second.run_until_complete(told(file.seek(0, os.SEEK_END))) is None:
        pass
    second.run_until_complete(file.write(b"kept"))
    second.run_until_complete(file.close())
    assert path.read_bytes() == CONTENT + b"x" * 10 + b"kept"


class Gone:
    """Something that is not there any more."""


def test_what_raises_when_it_is_looked_at_keeps_no_turn(new_loop: NewLoop, path: Path) -> None:
    proxies = [weakref.proxy(Gone())]
    file = opened(new_loop, path, "r+b")
    task = leave_pending(new_loop, lambda file: file.fsync(), file, 1)
    assert new_loop().run_until_complete(told(file.read(6))) in {b"line 0", None}
    new_loop().run_until_complete(file.close())
    del proxies, task


def test_a_file_keeps_nothing_of_what_was_written(new_loop: NewLoop, path: Path) -> None:
    file = opened(new_loop, path, "wb")
    file._raw.writes_at_once = False
    loop, data = new_loop(), bytes(500_000)
    before = sys.getrefcount(data)
    loop.run_until_complete(file.write(data))
    assert sys.getrefcount(data) == before
    loop.run_until_complete(file.close())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_append_that_no_thread_has_begun_is_written_when_the_file_is_left(
    new_loop: NewLoop, tmp_path: Path
) -> None:
    path, pipe = tmp_path / "file", tmp_path / "pipe"
    os.mkfifo(pipe)
    file = opened(new_loop, path, "ab")
    loop = new_loop()
    # Each keeps one of the loop's eight threads for files waiting for somebody who writes: by such
    # a path the kernel has nothing at hand, so it is not known for a pipe.
    folder = os.open(tmp_path, os.O_PATH)
    way = f"/proc/self/fd/{folder}/pipe"
    tasks = [loop.create_task(cloverleaf.open(way, "rb")) for _ in range(8)]
    tasks.append(loop.create_task(file.write(b"a" * 300_000)))
    loop.run_until_complete(turns(3))
    assert file._raw._flight is not None
    loop.close()
    os.close(os.open(pipe, os.O_RDWR))
    os.close(folder)
    # So that the file is in no cycle, whose parts would end in any order.
    write: Any = tasks[-1].get_coro()
    write.close()
    del file, write
    assert path.read_bytes() == b"a" * 300_000


@pytest.mark.parametrize("count", range(1, 4))
def test_small_writes_without_a_buffer_that_were_left_are_whole_or_not_there(
    new_loop: NewLoop, tmp_path: Path, count: int
) -> None:
    path = tmp_path / "file"
    for size in (5000, 20_000) * 10:
        path.write_bytes(b"")
        file = opened(new_loop, path, "wb", buffering=0)
        file._raw.writes_at_once = False
        leave_pending(new_loop, lambda file, size=size: file.write(b"a" * size), file, count)  # type: ignore[misc]
        second = new_loop()
        while second.run_until_complete(told(file.write(b"b" * 10))) is None:
            pass
        second.run_until_complete(file.close())
        assert path.read_bytes() in {b"b" * 10, b"a" * size + b"b" * 10}


def test_those_who_wait_come_in_their_order(new_loop: NewLoop, path: Path) -> None:
    file = opened(new_loop, path, "rb", buffering=0)
    chill(file)
    first, second, third = new_loop(), new_loop(), new_loop()
    holder = first.create_task(file.fsync())
    first.call_soon(first.stop)
    first.run_forever()
    order: list[str] = []

    async def use(name: str) -> None:
        await told(file.read(1))
        order.append(name)

    waiting = [second.create_task(use(name)) for name in ("one", "two")]
    second.call_soon(second.stop)
    second.run_forever()
    also = third.create_task(use("three"))
    third.call_soon(third.stop)
    third.run_forever()
    first.close()
    # Nobody tells them that the loop was closed.
    second.run_until_complete(asyncio.wait(waiting))
    third.run_until_complete(also)
    assert order == ["one", "two", "three"]
    second.run_until_complete(file.close())
    assert not holder.done()


def test_who_has_got_the_turn_of_a_closed_loop_does_not_keep_it(
    new_loop: NewLoop, path: Path
) -> None:
    file = opened(new_loop, path, "rb", buffering=0)
    first, second = new_loop(), new_loop()

    async def begin() -> tuple[Any, list[asyncio.Task[Any]]]:
        turn = await file._enter()
        waiting = [asyncio.ensure_future(file.read(1)) for _ in range(3)]
        await turns(2)
        return turn, waiting

    turn, waiting = first.run_until_complete(begin())
    file._turns.leave(turn)
    first.close()
    assert second.run_until_complete(file.read(6)) == b"line 0"
    second.run_until_complete(file.close())
    assert not any(task.done() for task in waiting)


def test_a_write_of_a_closed_loop_ends_before_the_next_begins(
    new_loop: NewLoop, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    file = opened(new_loop, writing, "wb", buffering=0)  # type: ignore[arg-type]
    first, second = new_loop(), new_loop()

    async def begin() -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(file.write(b"a" * 1_000_000))
        await until(lambda: file._raw._flight is not None)
        # Some of it is in the pipe, and the thread waits for room.
        first_byte = await asyncio.to_thread(os.read, reading, 1)
        assert first_byte == b"a"
        return task

    task = first.run_until_complete(begin())
    first.close()

    async def go_on() -> None:
        later = asyncio.ensure_future(told(file.write(b"b")))
        await turns(10)
        assert not later.done(), "written amid another"
        reader.start()
        assert await later is None
        assert await file.write(b"b") == 1
        await file.close()

    received: list[bytes] = []

    def drain() -> None:
        while data := os.read(reading, 1 << 20):
            received.append(data)

    reader = threading.Thread(target=drain)
    try:
        second.run_until_complete(go_on())
        reader.join()
    finally:
        with contextlib.suppress(OSError):
            os.close(reading)
    assert b"".join(received) == b"a" * 999_999 + b"b"
    assert not task.done()
