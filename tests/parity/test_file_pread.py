"""`pread` as a coroutine: it is native, and whoever drives it must not be able to tell."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import os
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import skip_where_reads_wait
from .harness.types import Loop

CONTENT = bytes(range(256)) * 64


LARGE = bytes(range(256)) * (2 << 12)
"""So much is always left to a thread."""


class Thing:
    """Something that can be seen to go."""


def drive(read: Any, _held: object) -> Any:
    """Return the result of a read, with an object among the variables of the frame that gets it."""
    iterator = read.__await__()
    while True:
        try:
            next(iterator)
        except StopIteration as stopped:
            return stopped.value


def end(read: Any) -> StopIteration:
    """Return what ends a read that waits for others at most."""
    iterator = read.__await__()
    while True:
        try:
            next(iterator)
        except StopIteration as stopped:
            return stopped.with_traceback(None)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return the path of a file that is read under way."""
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with some content."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def cached(path: Path) -> Path:
    """Return the path of one that is read without a wait, so that it can be driven by hand."""
    skip_where_reads_wait(path)
    return path


async def test_it_is_a_coroutine(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        read: Any = file.pread(4, 1)
        assert (read.cr_await, read.cr_running) == (None, False)
        assert asyncio.iscoroutine(read)
        assert inspect.isawaitable(read)
        assert isinstance(read, collections.abc.Coroutine)
        assert await read == CONTENT[1:5]
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await read
        both = await asyncio.gather(file.pread(2, 0), file.pread(offset=2, size=2))
        assert list(both) == [CONTENT[:2], CONTENT[2:4]]
        assert await asyncio.wait_for(file.pread(3, 3), 60) == CONTENT[3:6]
        assert str(inspect.signature(type(file).pread)) == "(self, /, size, offset)"


async def test_what_it_has_not_of_a_coroutine_of_pythons(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        assert not inspect.iscoroutinefunction(file.pread)
        read: Any = file.pread(4, 0)
        assert (read.cr_frame, read.cr_code, read.cr_origin) == (None, None, None)
        assert await read == CONTENT[:4]


async def test_it_reads_when_it_is_awaited(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "r+b", 0) as file:
        early = file.pread(4, 0)
        await file.pwrite(b"late", 0)
        assert await early == b"late"
        unread = file.pread(4, 0)
    with pytest.raises(ValueError, match="I/O operation on closed file"):
        await unread


async def test_wrong_arguments(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        call: Any = file.pread
        for arguments in ((), (1,), (1, 2, 3)):
            with pytest.raises(TypeError, match="positional argument"):
                call(*arguments)
        with pytest.raises(TypeError, match="unexpected keyword argument 'position'"):
            call(1, position=2)
        with pytest.raises(TypeError, match="multiple values for argument 'size'"):
            call(1, size=2)


async def test_it_can_be_thrown_into_and_closed_before_it_has_begun(
    loop: Loop, cached: Path
) -> None:
    async with cloverleaf.open(cached, "rb", 0) as file:
        read = file.pread(4, 0)
        with pytest.raises(ZeroDivisionError, match="thrown"):
            read.throw(ZeroDivisionError("thrown"))
        with pytest.raises(RuntimeError, match="cannot reuse"):
            read.send(None)
        read = file.pread(4, 0)
        read.close()
        read.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await read
        read = file.pread(4, 0)
        with pytest.raises(TypeError, match="can't send non-None value to a just-started"):
            read.send(1)
        with pytest.raises(StopIteration) as stopped:
            read.send(None)
        assert stopped.value.value == CONTENT[:4]


async def test_one_that_nobody_awaits_warns(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        with pytest.warns(RuntimeWarning, match=r"coroutine 'File.pread' was never awaited"):
            file.pread(4, 0)  # type: ignore[unused-coroutine]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await file.pread(4, 0)
            gc.collect()


async def test_one_in_a_cycle_that_nobody_awaits_warns(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        cycle: list[Any] = [file.pread(4, 0)]
        cycle.append(cycle)
        del cycle
        with pytest.warns(RuntimeWarning, match=r"coroutine 'File.pread' was never awaited"):
            gc.collect()


async def python(size: int, offset: int) -> bytes:
    """Stand for a coroutine of Python's."""
    return CONTENT[offset : offset + size]


@pytest.mark.parametrize(
    "arguments",
    [
        (ValueError(1), "x"),
        ("x",),
        (None,),
        (int,),
        (ValueError, None, 5),
        (ValueError(1), None, "x"),
    ],
)
@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature:DeprecationWarning")
async def test_what_cannot_be_thrown_changes_nothing(
    loop: Loop, path: Path, arguments: tuple[Any, ...]
) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        said = []
        for make in (python, file.pread):
            read: Any = make(4, 0)
            with pytest.raises(TypeError) as raised:
                read.throw(*arguments)
            said.append(str(raised.value))
            assert await read == CONTENT[:4]
        assert said[0] == said[1]


@pytest.mark.parametrize(
    "arguments",
    [
        (ValueError,),
        (ValueError, 1),
        (ValueError, (1, 2)),
        (ValueError, ()),
        (Exception, ValueError(1)),
        (UnicodeDecodeError, 1),
    ],
)
@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature:DeprecationWarning")
async def test_what_is_thrown_is_made_as_any_coroutine_makes_it(
    loop: Loop, path: Path, arguments: tuple[Any, ...]
) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        said = []
        for make in (python, file.pread):
            read: Any = make(4, 0)
            with pytest.raises(Exception) as raised:  # noqa: PT011
                read.throw(*arguments)
            said.append(repr(raised.value))
            with pytest.raises(RuntimeError, match="cannot reuse"):
                await read
        assert said[0] == said[1]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="not deprecated yet")
async def test_more_than_one_argument_of_throw_is_deprecated(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        for make in (python, file.pread):
            read: Any = make(4, 0)
            with (
                pytest.warns(DeprecationWarning, match=r"the \(type, exc, tb\) signature of"),
                pytest.raises(ValueError, match="thrown"),
            ):
                read.throw(ValueError, "thrown")


async def test_an_end_that_somebody_keeps_stays_as_it_is(loop: Loop, cached: Path) -> None:
    async with cloverleaf.open(cached, "rb", 0) as file:
        ends = [end(file.pread(4, offset)) for offset in range(20)]
        for offset, stopped in enumerate(ends):
            assert stopped.value == CONTENT[offset : offset + 4]
        kept = ends.pop()
        kept.add_note("mine")
        del stopped, ends
        another = end(file.pread(4, 40))
        assert (kept.value, another.value) == (CONTENT[19:23], CONTENT[40:44])
        assert (another.__context__, another.__cause__, vars(another)) == (None, None, {})
        # One that was raised, caught and let go of carries nothing on to the next.
        del another
        kept.value = "changed"
        kept.args = (1, 2)
        kept.__suppress_context__ = True
        del kept
        another = end(file.pread(4, 8))
        assert (another.args, another.value) == ((CONTENT[8:12],), CONTENT[8:12])
        assert another.__suppress_context__ is False


async def test_its_end_is_that_of_any_coroutine(loop: Loop, cached: Path) -> None:
    async def plain() -> bytes:
        return CONTENT[:4]

    def end(coroutine: Any) -> tuple[Any, ...]:
        try:
            coroutine.__await__().__next__()
        except StopIteration as stop:
            return type(stop), stop.args, stop.value, repr(stop.__context__), stop.__cause__
        raise AssertionError("it did not end")

    async with cloverleaf.open(cached, "rb", 0) as file:
        assert end(file.pread(4, 0)) == end(plain())
        try:
            raise ZeroDivisionError("is being handled")
        except ZeroDivisionError:
            # Patch releases of Python 3.13 differ in whether that is the end's context.
            assert end(file.pread(4, 0)) == end(plain())
            assert end(file.pread(4, 0)) == end(plain())


async def test_whoever_drives_a_read_by_hand_is_not_kept(loop: Loop, cached: Path) -> None:
    async with cloverleaf.open(cached, "rb", 0) as file:
        thing = Thing()
        reference = weakref.ref(thing)
        assert drive(file.pread(4, 0), thing) == CONTENT[:4]
        del thing
        gc.collect()
        assert reference() is None


async def test_code_that_runs_when_an_end_goes_may_read_as_well(loop: Loop, cached: Path) -> None:
    class Reads:
        def __del__(self) -> None:
            seen.extend(drive(file.pread(4, 100), None) for _ in range(4))
            # What was freed is used for something else.
            spare.extend(KeyError(number) for number in range(50))

    seen: list[bytes] = []
    spare: list[KeyError] = []
    async with cloverleaf.open(cached, "rb", 0) as file:
        for _ in range(20):
            assert drive(file.pread(4, 0), Reads()) == CONTENT[:4]
            assert await file.pread(4, 8) == CONTENT[8:12]
        gc.collect()
        assert await file.pread(4, 8) == CONTENT[8:12]
    assert seen == [CONTENT[100:104]] * 80


async def test_one_that_is_given_up_while_others_run_leaves_the_file_usable(
    loop: Loop, path: Path
) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:

        async def read_many() -> None:
            while True:
                assert await file.pread(4, 16) == CONTENT[16:20]

        task = asyncio.ensure_future(read_many())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            assert await file.pread(4, 4) == CONTENT[4:8]


async def test_it_waits_for_a_disk_as_any_coroutine_waits(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "cold"
    path.write_bytes(CONTENT)
    async with cloverleaf.open(path, "rb", 0) as file:
        os.fsync(file.fileno())

        async def cold(offset: int) -> bytes:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return await file.pread(4096, offset)

        for _ in range(20):
            task = asyncio.ensure_future(cold(4096))
            await asyncio.sleep(0)
            task.cancel()
            [given_up] = await asyncio.gather(task, return_exceptions=True)
            assert given_up == CONTENT[4096:8192] or isinstance(given_up, asyncio.CancelledError)
            assert await cold(8192) == CONTENT[8192:12288]


def waiting(file: Any) -> Any:
    """Return a read that waits."""
    while True:
        read = file.pread(len(LARGE), 0)
        assert (read.cr_suspended, read.cr_await) == (False, None)
        try:
            awaited = read.send(None)
        except StopIteration:
            # The thread was faster.
            continue
        break
    assert asyncio.isfuture(awaited)
    assert (read.cr_suspended, read.cr_running) == (True, False)
    assert read.cr_await is not None
    return read


async def under_way(file: Any) -> tuple[asyncio.Task[bytes], Any]:
    """Return a task that waits for a read, and the read."""
    while True:
        task = asyncio.ensure_future(file.pread(len(LARGE), 0))
        await asyncio.sleep(0)
        if not task.done():
            read: Any = task.get_coro()
            assert read.cr_suspended
            return task, read


def assert_over(read: Any) -> None:
    """Check that a read cannot be used any more."""
    assert (read.cr_suspended, read.cr_running, read.cr_await) == (False, False, None)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        read.send(None)


async def test_a_read_that_waits_is_awaited_by_a_task(loop: Loop, large: Path) -> None:
    async with cloverleaf.open(large, "rb", 0) as file:
        task, read = await under_way(file)
        with pytest.raises(RuntimeError, match="being awaited already"):
            read.__await__()
        assert await task == LARGE
        assert_over(read)


async def test_a_read_that_waits_can_be_thrown_into(loop: Loop, large: Path) -> None:
    async with cloverleaf.open(large, "rb", 0) as file:
        read = waiting(file)
        with pytest.raises(TypeError, match="exceptions must be classes or instances"):
            read.throw("x")
        assert read.cr_suspended
        with pytest.raises(ZeroDivisionError, match="thrown"):
            read.throw(ZeroDivisionError("thrown"))
        assert_over(read)
        assert await file.pread(len(LARGE), 0) == LARGE


async def test_a_read_that_waits_can_be_closed(loop: Loop, large: Path) -> None:
    async with cloverleaf.open(large, "rb", 0) as file:
        read = waiting(file)
        read.close()
        read.close()
        assert_over(read)
        assert await file.pread(len(LARGE), 0) == LARGE


async def test_a_read_that_waits_can_be_cancelled(loop: Loop, large: Path) -> None:
    async with cloverleaf.open(large, "rb", 0) as file:
        task, read = await under_way(file)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_over(read)
        assert await file.pread(len(LARGE), 0) == LARGE


async def test_a_read_that_waits_outlives_the_closing_of_its_file(loop: Loop, large: Path) -> None:
    async with cloverleaf.open(large, "rb", 0) as file:
        task, _ = await under_way(file)
        await file.close()
        assert await task == LARGE


async def test_two_cannot_await_the_same_read(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        while True:
            read: Any = file.pread(1, 0)
            iterator = read.__await__()
            try:
                next(iterator)
            except StopIteration:
                continue
            break
        with pytest.raises(RuntimeError, match="being awaited already"):
            read.__await__()
        read.close()


async def test_files_of_several_loops_in_several_threads(loop: Loop, path: Path) -> None:
    failures: list[BaseException] = []

    async def read_many() -> None:
        async with cloverleaf.open(path, "rb", 0) as file:
            for number in range(2000):
                offset = number % 1000
                assert await file.pread(16, offset) == CONTENT[offset : offset + 16]

    def run() -> None:
        try:
            cloverleaf.run(read_many())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    await read_many()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert failures == []
