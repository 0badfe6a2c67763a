"""What threads do for a file whose loop was closed, or whose process was forked, meanwhile."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import sys
import termios
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.complaints import Complaints
from .harness.program import Program
from .harness.turns import turns, turns_until, until
from .harness.types import Loop, NewLoop

pytestmark = pytest.mark.deadline(180)

MODES = [("r", -1), ("rb", -1), ("rb", 0)]


@pytest.fixture(autouse=True)
def only_pending_tasks(logged: Complaints) -> Any:
    """Expect no complaint but those of tasks whose loop was closed."""
    yield
    logged.expect("destroyed but it is pending")
    gc.collect()
    assert all("destroyed but it is pending" in complaint for complaint in logged.take())


def opened(loop: Loop, reading: int, mode: str, buffering: int) -> Any:
    async def open_it() -> Any:
        return await cloverleaf.open(reading, mode, buffering)

    return loop.run_until_complete(open_it())


def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        os.sched_yield()


def is_empty(pipe: int) -> bool:
    return not has_bytes(pipe, 1)


def begin_line(loop: Loop, file: Any) -> asyncio.Task[Any]:
    """Have a thread read a line, and run no turn in which its end could be heard of."""
    task = loop.create_task(file.readline())
    turns_until(loop, lambda: file._raw._flight is not None)
    return task


async def after_the_closed_loop(file: Any, count: int) -> list[Any]:
    """Hear once that the loop was closed, and read so many lines."""
    with pytest.raises(RuntimeError, match="the event loop was closed while an operation"):
        await file.readline()
    return [await file.readline() for _ in range(count)]


@pytest.mark.parametrize(("mode", "buffering"), MODES)
def test_nothing_is_lost_that_a_thread_has_read_of_a_pipe_for_a_closed_loop(
    new_loop: NewLoop, mode: str, buffering: int
) -> None:
    reading, writing = os.pipe()
    first, second, third = new_loop(), new_loop(), new_loop()
    file = opened(first, reading, mode, buffering)
    task = begin_line(first, file)
    first.close()
    # A thread that had not begun by then has given the call up, and reads nothing.
    os.write(writing, b"one\ntwo\n")
    lines = second.run_until_complete(after_the_closed_loop(file, 2))
    task = begin_line(second, file)
    os.write(writing, b"t")  # without a buffer, it takes no more at a time
    wait_until(lambda: is_empty(reading))
    second.close()
    os.write(writing, b"hree\nfour\n")
    os.close(writing)
    lines += third.run_until_complete(after_the_closed_loop(file, 3))
    expected = ["one\n", "two\n", "three\n", "four\n", ""]
    assert lines == (expected if mode == "r" else [line.encode() for line in expected])
    third.run_until_complete(file.close())
    del task


@pytest.mark.parametrize(("mode", "buffering"), MODES)
def test_a_line_that_is_given_up_time_after_time_comes_once(
    new_loop: NewLoop, mode: str, buffering: int
) -> None:
    reading, writing = os.pipe()
    loop = new_loop()
    file = opened(loop, reading, mode, buffering)
    for _ in range(3):
        task = begin_line(loop, file)
        task.cancel()
        turns_until(loop, task.done)
    os.write(writing, b"one\ntwo\n")
    os.close(writing)
    lines = [loop.run_until_complete(file.readline()) for _ in range(3)]
    expected = ["one\n", "two\n", ""]
    assert lines == (expected if mode == "r" else [line.encode() for line in expected])
    loop.run_until_complete(file.close())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("mode", "buffering"), MODES)
def test_a_file_is_forgotten_although_a_thread_reads_of_it_for_a_closed_loop(
    new_loop: NewLoop, mode: str, buffering: int
) -> None:
    reading, writing = os.pipe()
    loop = new_loop()
    file = opened(loop, reading, mode, buffering)
    task = begin_line(loop, file)
    loop.close()
    coroutine: Any = task.get_coro()
    coroutine.close()
    # To close what the thread uses would wait for it, here, for ever.
    rescue = threading.Timer(60, os.write, (writing, b"late\n"))
    rescue.start()
    del file, coroutine, task
    gc.collect()
    is_late = not rescue.is_alive()
    rescue.cancel()
    rescue.join()
    assert not is_late
    # The thread, which ends with a line, closes it, if it has begun.
    os.set_blocking(writing, False)
    wait_until(lambda: not is_open_for_reading(writing))
    os.close(writing)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("has_begun", [True, False])
def test_a_file_that_no_thread_uses_any_more_is_closed_once(
    new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    reading, writing = os.pipe()
    loop = new_loop()
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    file = opened(loop, reading, "r", -1)
    held = threading.Event()
    if not has_begun:
        executor.submit(held.wait)
    task = begin_line(loop, file)
    thread = file._raw._thread
    if has_begun:
        os.write(writing, b"line\n")
        wait_until(lambda: thread._running is False)
    loop.close()
    closed: list[Any] = []
    of_files = type(file._raw)
    close = of_files._close_left

    def close_left(raw: Any) -> None:
        closed.append(raw)
        close(raw)

    monkeypatch.setattr(of_files, "_close_left", close_left)
    coroutine: Any = task.get_coro()
    coroutine.close()
    del file, coroutine, task
    gc.collect()
    assert len(closed) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)
    held.set()
    executor.shutdown()
    os.close(writing)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_a_forgotten_file_holds_comes_behind_what_a_thread_writes_for_a_closed_loop(
    new_loop: NewLoop,
) -> None:
    for _ in range(10):
        reading, writing = os.pipe()
        loop = new_loop()
        file = opened(loop, writing, "wb", 100_000)
        loop.run_until_complete(file.write(b"a" * 90_000))
        task = loop.create_task(file.write(b"b" * 50_000))
        # The thread has filled the pipe, and waits for room.
        room = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
        turns_until(loop, lambda pipe=reading, room=room: has_bytes(pipe, room))  # type: ignore[misc]
        coroutine: Any = task.get_coro()
        coroutine.close()
        loop.close()
        received: list[bytes] = []
        reader = threading.Thread(target=drain, args=(reading, received))
        reader.start()
        del file, coroutine, task
        gc.collect()
        reader.join()
        os.close(reading)
        is_whole = b"".join(received) == b"a" * 90_000 + b"b" * 50_000
        assert is_whole


@pytest.mark.parametrize("goes_on", ["close", "write"])
def test_a_close_that_was_left_while_a_thread_writes_is_taken_over(
    new_loop: NewLoop, goes_on: str
) -> None:
    reading, writing = os.pipe()
    first, second = new_loop(), new_loop()
    file = opened(first, writing, "wb", 100_000)
    first.run_until_complete(file.write(b"a" * 90_000))
    task = first.create_task(file.close())
    room = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    turns_until(first, lambda: has_bytes(reading, room))
    first.close()
    received: list[bytes] = []
    reader = threading.Thread(target=drain, args=(reading, received))

    async def take_over() -> None:
        call = file.close() if goes_on == "close" else file.write(b"b")
        later = asyncio.ensure_future(call)
        await turns(10)
        assert not later.done(), "it does not wait for the thread"
        reader.start()
        if goes_on == "write":
            with pytest.raises(RuntimeError, match="the event loop was closed while an operation"):
                await later
            await file.write(b"b")
            await file.close()
        else:
            await later
        assert file.closed

    try:
        second.run_until_complete(take_over())
        reader.join()
    finally:
        os.close(reading)
    is_whole = b"".join(received) == b"a" * 90_000 + b"b" * (goes_on == "write")
    assert is_whole
    del task


def test_a_close_behind_a_write_that_a_closed_loop_left_tells_of_that(new_loop: NewLoop) -> None:
    reading, writing = os.pipe()
    first, second = new_loop(), new_loop()
    file = opened(first, writing, "wb", 0)
    tasks = [first.create_task(file.write(b"a" * 200_000))]
    room = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    turns_until(first, lambda: has_bytes(reading, room))
    tasks.append(first.create_task(file.close()))
    first.run_until_complete(turns(3))
    first.close()
    os.close(reading)
    with pytest.raises(RuntimeError, match="the event loop was closed while an operation"):
        second.run_until_complete(file.close())
    assert file.closed
    second.run_until_complete(file.close())
    del tasks


def has_bytes(pipe: int, count: int) -> bool:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4), sys.byteorder) >= count


def drain(reading: int, received: list[bytes]) -> None:
    while data := os.read(reading, 1000):
        received.append(data)


def is_open_for_reading(writing: int) -> bool:
    """Tell whether anybody could read what is written to a pipe."""
    try:
        os.write(writing, b"\n")
    except BlockingIOError:
        return True
    except BrokenPipeError:
        return False
    return True


@pytest.mark.parametrize(("mode", "buffering"), [("r+", 64), ("r+b", 64)])
async def test_what_is_detached_stands_where_a_read_began_that_was_given_up(
    loop: Loop, tmp_path: Path, mode: str, buffering: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 300_000)
    file: Any = await cloverleaf.open(path, mode, buffering)
    file._raw.writes_at_once = False
    assert len(await file.read(3)) == 3
    if mode == "r+b":
        await file.write(b"x")
    at = await file.tell() if mode == "r" else 3 + (mode == "r+b")
    read = asyncio.ensure_future(file.read())
    await asyncio.sleep(0)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    await until(lambda: file._raw._flight is None)
    detached = file.detach()
    assert detached.tell() == at
    assert detached.read(6) == (b"345678" if mode == "r+" else b"456789")
    detached.close()


CHILD = """
    import asyncio, cloverleaf, gc, os, signal, warnings
    warnings.simplefilter("ignore")
    loop = new_event_loop()
    async def opened(file):
        return await cloverleaf.open(file, "r")
    def begin(file, condition):
        file = loop.run_until_complete(opened(file))
        task = loop.create_task(file.read())
        while not condition(file):
            loop.call_soon(loop.stop)
            loop.run_forever()
        return file, task
    def fork(use):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            asyncio._set_running_loop(None)
            try:
                print(*new_event_loop().run_until_complete(use()), flush=True)
            finally:
                os._exit(0)
        return os.waitpid(child, 0)[1]
    reading, writing = os.pipe()
    file, task = begin(reading, lambda file: file._raw._thread and file._raw._thread.is_running)
    """


def test_a_child_is_told_of_text_that_its_parents_thread_was_reading(program: Program) -> None:
    source = f"""{CHILD}
    async def use():
        try:
            await file.readline()
        except RuntimeError as error:
            told = "forked" in str(error)
        await file.close()
        try:
            os.fstat(reading)
        except OSError:
            return told, file.closed
    print(fork(use))
    os.write(writing, b"the parent's")
    os.close(writing)
    print(loop.run_until_complete(task))
    loop.run_until_complete(file.close())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    """
    assert program.output(source).split("\n") == ["True True", "0", "the parent's"]


def test_a_child_forgets_text_that_its_parents_thread_was_reading(program: Program) -> None:
    source = f"""{CHILD}
    async def use():
        global file, task
        task.get_coro().close()
        del file, task
        gc.collect()
        try:
            os.fstat(reading)
        except OSError:
            return "closed",
    print(fork(use))
    os.close(writing)
    print(repr(loop.run_until_complete(task)))
    loop.run_until_complete(file.close())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    """
    assert program.output(source).split("\n") == ["closed", "0", "''"]
