"""Files and loops: one after the other, closed, forked; files that a loop watches; pipes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.complaints import Complaints
from .harness.pipes import descriptors
from .harness.program import Program
from .harness.turns import turns
from .harness.types import Loop, NewLoop

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with some content."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


# -- loops -------------------------------------------------------------------------------------


def test_a_file_may_be_used_on_one_loop_after_the_other(new_loop: NewLoop, path: Path) -> None:
    first, second = new_loop(), new_loop()
    file = first.run_until_complete(cloverleaf.open(path, "r+b"))
    assert first.run_until_complete(file.read(4)) == CONTENT[:4]
    first.close()
    assert second.run_until_complete(file.read(4)) == CONTENT[4:8]
    second.run_until_complete(file.close())


def test_a_loop_may_close_with_operations_in_flight(new_loop: NewLoop, tmp_path: Path) -> None:
    path = tmp_path / "in flight"
    first, second = new_loop(), new_loop()

    async def begin() -> Any:
        file = await cloverleaf.open(path, "wb", 0)
        write = asyncio.ensure_future(file.write(b"x" * 1_000_000))
        await asyncio.sleep(0)
        return file, write

    file, write = first.run_until_complete(begin())
    write.cancel()
    first.run_until_complete(asyncio.wait([write]))
    first.close()

    async def go_on() -> None:
        with contextlib.suppress(RuntimeError):
            await file.write(b"more")
        await file.close()

    second.run_until_complete(go_on())
    assert file.closed
    assert set(path.read_bytes()) <= set(b"xmore")


@pytest.mark.parametrize("count", range(8))
def test_a_close_whose_loop_was_closed_goes_on_in_the_next(
    new_loop: NewLoop, tmp_path: Path, count: int, logged: Complaints
) -> None:
    path = tmp_path / "half closed"
    first, second = new_loop(), new_loop()
    threads = ThreadPoolExecutor(2)
    first.set_default_executor(threads)

    async def begin() -> tuple[Any, asyncio.Task[None]]:
        file = await cloverleaf.open(path, "wb")
        await file.write(b"kept")
        closing = asyncio.ensure_future(file.close())
        await turns(count)
        return file, closing

    file, closing = first.run_until_complete(begin())
    first.close()
    second.run_until_complete(asyncio.wait_for(file.close(), 60))
    assert file.closed
    assert path.read_bytes() == b"kept"
    threads.shutdown()  # nothing of the first loop's is held by them any more
    del file, closing
    logged.expect("destroyed but it is pending")
    gc.collect()
    assert all("destroyed but it is pending" in complaint for complaint in logged.take())


def test_a_close_says_that_the_end_of_a_write_was_not_heard_of(new_loop: NewLoop) -> None:
    first, second = new_loop(), new_loop()
    reading, writing = os.pipe()
    data = b"x" * 1_000_000  # more than a pipe holds

    async def begin() -> tuple[Any, asyncio.Task[int]]:
        file = await cloverleaf.open(writing, "wb", 0)
        write = asyncio.ensure_future(file.write(data))
        await asyncio.to_thread(os.read, reading, 1)  # it is under way
        return file, write

    with os.fdopen(reading, "rb") as pipe:
        file, write = first.run_until_complete(begin())
        write.cancel()
        first.run_until_complete(asyncio.wait([write]))
        first.close()

        async def close() -> None:
            closing = asyncio.ensure_future(file.close())
            rest = await asyncio.to_thread(pipe.read)  # up to the end, which is the close
            assert len(data) - 1 >= len(rest) > 0
            await closing

        with pytest.raises(RuntimeError, match="the event loop was closed while an operation on"):
            second.run_until_complete(asyncio.wait_for(close(), 60))
        assert file.closed
        second.run_until_complete(file.close())


@pytest.mark.parametrize("is_free", [True, False])
async def test_a_close_that_gets_no_task_can_be_tried_again(
    loop: Loop, path: Path, is_free: bool
) -> None:
    def refuse(_loop: Any, _coroutine: Any, **_settings: Any) -> Any:
        raise ValueError("no more tasks")

    file = await cloverleaf.open(path, "wb")
    await file.write(b"kept")
    syncing = None if is_free else asyncio.ensure_future(file.fsync())
    await turns(1)
    loop.set_task_factory(refuse)
    try:
        with pytest.raises(ValueError, match="no more tasks"):
            await file.close()
    finally:
        loop.set_task_factory(None)
    await asyncio.wait_for(file.close(), 60)
    assert file.closed
    assert path.read_bytes() == b"kept"
    if syncing is not None:
        await syncing


async def test_without_a_loop_there_is_no_file(loop: Loop, path: Path) -> None:
    opening = cloverleaf.open(path, "wb")

    def elsewhere() -> str:
        with pytest.raises(RuntimeError, match="no running event loop"):
            opening.send(None)
        return "refused"

    assert await asyncio.to_thread(elsewhere) == "refused"


def test_a_child_forked_amid_a_write_has_files(program: Program, path: Path) -> None:
    """The thread that writes holds something of Python's, and a lock for it as it lets go."""
    source = f"""
        import asyncio, cloverleaf, os, signal, warnings
        warnings.simplefilter("ignore")
        async def child():
            async with cloverleaf.open({str(path)!r} + "child", "wb") as file:
                await file.write(b"x" * 100_000)
        async def main():
            ended = set()
            for _ in range(60):
                async with cloverleaf.open({str(path)!r}, "wb") as file:
                    file._raw.writes_at_once = False
                    write = asyncio.ensure_future(file.write(b"a" * 500_000))
                    await asyncio.sleep(0)
                    forked = os.fork()
                    if forked == 0:
                        signal.alarm(60)
                        asyncio._set_running_loop(None)
                        new_event_loop().run_until_complete(child())
                        os._exit(0)
                    ended.add(os.waitpid(forked, 0)[1])
                    await write
            return ended
        loop = new_event_loop()
        print(loop.run_until_complete(main()))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        """
    assert program.output(source) == "{0}"


def test_a_child_may_use_its_parents_file(program: Program, path: Path) -> None:
    source = f"""
        import asyncio, cloverleaf, os, warnings
        path = {str(path)!r}
        loop = new_event_loop()
        file = loop.run_until_complete(cloverleaf.open(path, "r+b"))
        loop.run_until_complete(file.read(4))
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            own = new_event_loop()
            data = own.run_until_complete(file.read(4))
            own.run_until_complete(file.pwrite(b"child", 100))
            own.run_until_complete(file.close())
            os._exit(0 if data == bytes([4, 5, 6, 7]) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert loop.run_until_complete(file.read(4)) == bytes([4, 5, 6, 7])
        assert loop.run_until_complete(file.pread(5, 100)) == b"child"
        loop.run_until_complete(file.close())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        print("done")
        """
    assert program.output(source) == "done"


def test_a_child_does_not_wait_for_what_its_parent_has_begun(program: Program, path: Path) -> None:
    source = f"""
        import asyncio, cloverleaf, os, warnings
        warnings.simplefilter("ignore")
        loop = new_event_loop()
        file = loop.run_until_complete(cloverleaf.open({str(path)!r}, "r+b", 0))
        # The one is under way, the other waits for its turn.
        begun = [loop.create_task(file.fsync()), loop.create_task(file.read(4))]
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert file._turns.busy and not begun[1].done()
        child = os.fork()
        if child == 0:
            own = new_event_loop()
            data = own.run_until_complete(file.read(4))
            own.run_until_complete(file.fsync())
            own.run_until_complete(file.close())
            os._exit(0 if data == bytes([0, 1, 2, 3]) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert loop.run_until_complete(begun[1]) == bytes([0, 1, 2, 3])
        assert loop.run_until_complete(file.read(4)) == bytes([4, 5, 6, 7])
        loop.run_until_complete(file.close())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        print("done")
        """
    assert program.output(source) == "done"


def test_a_child_that_closes_what_its_parent_has_begun_keeps_its_own_turn(
    program: Program, path: Path
) -> None:
    source = f"""
        import asyncio, cloverleaf, os, warnings
        warnings.simplefilter("ignore")
        loop = new_event_loop()
        file = loop.run_until_complete(cloverleaf.open({str(path)!r}, "r+b", 0))
        # The one is under way, the other waits for its turn.
        begun = [loop.create_task(file.fsync()), loop.create_task(file.read(4))]
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert file._turns.busy and not begun[1].done()
        child = os.fork()
        if child == 0:
            async def use():
                # Where nothing is left to be written, it may be done at once.
                own = None
                while own is None or own.done():
                    own = asyncio.ensure_future(file.fsync())
                    await asyncio.sleep(0)
                assert file._turns.busy
                for task in begun:
                    task.get_coro().close()
                assert file._turns.busy
                await own
                assert not file._turns.busy
                return await file.read(4)
            try:
                print(new_event_loop().run_until_complete(use()), flush=True)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert loop.run_until_complete(begun[1]) == bytes([0, 1, 2, 3])
        loop.run_until_complete(file.close())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        """
    assert program.output(source) == str(CONTENT[:4])


@pytest.mark.parametrize("before", ["", "threading.Thread(target=int).start()"], ids=str)
def test_an_interpreter_that_ends_writes_what_was_buffered(
    program: Program, path: Path, before: str
) -> None:
    source = f"""
        import asyncio, cloverleaf, threading
        {before}
        loop = new_event_loop()
        file = loop.run_until_complete(cloverleaf.open({str(path)!r}, "w"))
        loop.run_until_complete(file.write("not flushed"))
        print("ends")
        """
    assert program.output(source) == "ends"
    assert path.read_text() == "not flushed"


@pytest.mark.only("cloverleaf")  # the threads of asyncio's executor have ended by then
def test_what_a_program_does_with_an_open_file_as_it_ends_comes_first(
    program: Program, path: Path
) -> None:
    source = f"""
        import atexit, cloverleaf
        loop = new_event_loop()
        def at_end():
            loop.run_until_complete(file.write(", and the end"))
            loop.run_until_complete(file.close())
            loop.close()
        atexit.register(at_end)
        file = loop.run_until_complete(cloverleaf.open({str(path)!r}, "w"))
        loop.run_until_complete(file.write("not flushed"))
        """
    ended = program(source)
    assert (ended.status, ended.err) == (0, "")
    assert path.read_text() == "not flushed, and the end"


def test_a_warning_that_is_an_error_keeps_nothing_from_being_written(
    program: Program, path: Path
) -> None:
    source = f"""
        import cloverleaf
        loop = new_event_loop()
        file = loop.run_until_complete(cloverleaf.open({str(path)!r}, "w"))
        loop.run_until_complete(file.write("not flushed"))
        del file
        loop.close()
        """
    ended = program(source, "-W", "error::ResourceWarning")
    assert "ResourceWarning: unclosed file <TextFile open" in ended.err
    assert path.read_text() == "not flushed"


# -- the files that a loop watches -------------------------------------------------------------


async def test_add_reader_refuses_a_regular_file(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb") as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, lambda: None)
        with pytest.raises(PermissionError):
            loop.add_writer(file.fileno(), lambda: None)
        assert not loop.remove_reader(file)
        assert await file.read(3) == CONTENT[:3]


async def test_connect_read_pipe_refuses_a_regular_file(loop: Loop, path: Path) -> None:
    with path.open("rb") as file:
        with pytest.raises(ValueError, match="Pipe transport is for pipes/sockets only"):
            await loop.connect_read_pipe(asyncio.Protocol, file)
        assert file.read(3) == CONTENT[:3]


# -- streams -----------------------------------------------------------------------------------


async def test_a_pipe_is_read_as_it_comes(loop: Loop) -> None:
    with descriptors() as (reading, writing):
        async with cloverleaf.open(reading, "rb", closefd=False) as file:
            assert not file.seekable()
            line = asyncio.ensure_future(file.readline())
            await turns(5)
            assert not line.done()
            os.write(writing, b"half a ")
            await turns(5)
            assert not line.done()
            os.write(writing, b"line\nand the next")
            assert await line == b"half a line\n"
            assert await file.read(7) == b"and the"
            os.close(writing)
            assert await file.read() == b" next"
            assert await file.read() == b""
            with pytest.raises(io.UnsupportedOperation):
                await file.seek(0)


@pytest.mark.parametrize("mode", ["rb", "r"])
async def test_a_cancelled_read_of_a_pipe_loses_nothing(loop: Loop, mode: str) -> None:
    content = b"".join(b"line %d\n" % n for n in range(300))
    with descriptors() as (reading, writing):
        async with cloverleaf.open(reading, mode, closefd=False) as file:
            seen = []
            for at in range(0, len(content), 7):
                task = asyncio.ensure_future(file.readline())
                await turns(at % 3)
                os.write(writing, content[at : at + 7])
                await turns(at % 4)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    seen.append(await task)
            os.close(writing)
            seen.append(await file.read())
    whole = b"".join(each if isinstance(each, bytes) else each.encode() for each in seen)
    assert whole == content


async def test_a_pipe_is_written_while_it_is_read(loop: Loop) -> None:
    content = os.urandom(1 << 20)
    with descriptors() as (reading, writing):
        reader = await cloverleaf.open(reading, "rb")
        writer = await cloverleaf.open(writing, "wb")
        received = asyncio.ensure_future(reader.read())
        await writer.write(content)
        await writer.close()
        assert await received == content
        await reader.close()
