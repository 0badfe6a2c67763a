"""What a program does to a stream's reader, or to what its reads wait for, while it is in use."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import resource
import sysconfig
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from .harness.streams import both_sides, served
from .harness.turns import until
from .harness.types import Loop


def memory_in_use() -> int:
    """How much address space this process has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def what_malloc_keeps(size: int) -> list[bytes]:
    """Take so much again and again, until address space is needed: all that was freed before."""
    taken: list[bytes] = []
    needed = 0
    while needed < size:
        before = memory_in_use()
        taken.append(bytes(size))
        needed = memory_in_use() - before
    return taken[:-1]


class Upper(asyncio.StreamReader):
    """A reader that shouts."""

    def feed_data(self, data: Any) -> None:
        """Feed it in capitals."""
        super().feed_data(data.upper())


async def waiting(loop: Loop, read: Any) -> Any:
    """A task of this read that waits, without a look at the reader."""
    task: Any = loop.create_task(read)
    await until(lambda: task._fut_waiter is not None)
    return task


@both_sides
async def test_a_reader_may_be_made_one_of_another_class(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        peer.sendall(b"ab\n")
        await until(lambda: len(reader._buffer) == 3)
        reader.__class__ = Upper
        assert await reader.readline() == b"ab\n"
        reader._eof = False
        reader.mine = 1
        names = list(vars(reader))
        assert None not in names
        assert {"_limit", "_loop", "_buffer", "_eof", "_waiter", "mine"} <= set(names)
        assert len(names) == len(vars(reader))
        task = await waiting(loop, reader.readline())
        peer.sendall(b"cd\n")
        assert await task == b"CD\n"
        assert type(reader) is Upper


@both_sides
async def test_a_reader_keeps_what_is_set_on_it(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, _):
        reader.mine = 1
        reader._eof = reader._eof
        names = list(vars(reader))
        assert None not in names
        assert "mine" in names
        assert len(names) == len(vars(reader))


@both_sides
@pytest.mark.parametrize("way", ["cancel", "close"])
async def test_a_wait_ends_although_its_reader_is_of_another_class(
    loop: Loop, side: str, way: str
) -> None:
    async with served(side) as (reader, _, peer):
        if way == "cancel":
            task = await waiting(loop, reader.readline())
            reader.__class__ = Upper
            assert reader._waiter is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            read = reader.readline()
            read.send(None)
            reader.__class__ = Upper
            assert reader._waiter is not None
            read.close()
        assert reader._waiter is None
        peer.sendall(b"x\n")
        assert await reader.readline() == b"X\n"


@both_sides
async def test_a_wait_goes_on_although_its_reader_is_of_another_class(
    loop: Loop, side: str
) -> None:
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader.readline())
        reader.__class__ = Upper
        peer.sendall(b"x\n")
        assert await task == b"X\n"
        assert reader._waiter is None


@both_sides
async def test_a_wait_that_is_over_finds_its_line_before_an_error(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, _):
        task = await waiting(loop, reader.readline())
        reader.__class__ = Upper
        reader.feed_data(b"x\n")
        reader.set_exception(BrokenPipeError())
        assert await task == b"X\n"
        with pytest.raises(BrokenPipeError):
            await reader.readline()


@both_sides
async def test_an_attribute_may_be_patched(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        with mock.patch.object(reader, "_limit", 5):
            assert reader._limit == 5
            peer.sendall(b"too much\n")
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
        assert reader._limit == 64 << 10
        peer.sendall(b"not too much\n")
        assert await reader.readline() == b"not too much\n"


@both_sides
async def test_an_attribute_may_be_deleted(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader.readline())
        del reader._exception
        text = "^'StreamReader' object has no attribute '_exception'$"
        with pytest.raises(AttributeError, match=text):
            reader._exception  # noqa: B018
        with pytest.raises(AttributeError, match=r"_exception'?$"):
            del reader._exception
        assert not hasattr(reader, "_exception")
        reader._exception = None
        assert reader.exception() is None
        peer.sendall(b"x\n")
        assert await task == b"x\n"
        peer.sendall(b"y\n")
        assert await reader.readline() == b"y\n"


@both_sides
async def test_a_copy_is_one_of_its_own(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        reader.mine = 1
        peer.sendall(b"ab\ncd")
        await until(lambda: len(reader._buffer) == 5)
        other: Any = copy.copy(reader)
        assert issubclass(type(other), asyncio.StreamReader)
        assert other.mine == 1
        assert other._buffer is reader._buffer
        other.feed_eof()
        assert await other.readline() == b"ab\n"
        assert not reader._eof
        assert await other.readline() == b"cd"
        assert not reader.at_eof()
        peer.sendall(b"ef\n")
        assert await reader.readline() == b"ef\n"


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="such a Python takes address space in advance, and has room",
)
@both_sides
@pytest.mark.parametrize("pieces", [[b"x", b"y"], [b"xy"]])
async def test_bytes_that_do_not_fit_in_memory_stay(
    loop: Loop, side: str, pieces: list[bytes]
) -> None:
    size = 64 << 20
    async with served(side, limit=1 << 30) as (reader, _, _):
        for piece in pieces:
            reader.feed_data(piece * size)
        # Of one piece the first half, of two one byte more than the first.
        count = size if len(pieces) == 1 else size + 1
        kept = what_malloc_keeps(size // 8)
        used = memory_in_use()
        limits = resource.getrlimit(resource.RLIMIT_AS)
        read = reader.readexactly(count)
        resource.setrlimit(resource.RLIMIT_AS, (used + size // 4, limits[1]))
        try:
            with pytest.raises(MemoryError):
                read.send(None)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            del kept
        whole = b"".join(piece * size for piece in pieces)
        assert await reader.readexactly(count) == whole[:count]
        assert await reader.readexactly(len(whole) - count) == whole[count:]


async def test_a_call_soon_replaced_while_a_read_waits_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    original = loop.call_soon

    def replaced(callback: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(callback)
        return original(callback, *args, **kwargs)

    async with served("server") as (reader, _, _):
        task = await waiting(loop, reader.readline())
        monkeypatch.setattr(loop, "call_soon", replaced)
        reader.feed_data(b"x\n")
        assert len(called) == 1
        monkeypatch.undo()
        assert await task == b"x\n"


@both_sides
async def test_what_a_task_waits_for_is_the_future_of_the_reader(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader.readline())
        future = task._fut_waiter
        assert future == reader._waiter
        assert reader._waiter == future
        assert hash(future) == hash(reader._waiter)
        assert future != loop.create_future()
        known = {future: "known"}
        told: list[Any] = []
        future.add_done_callback(lambda done: told.append(known.pop(done)))
        waited = asyncio.wait_for(next(asyncio.as_completed([future])), 60)
        other = loop.create_task(waited)
        peer.sendall(b"x\n")
        assert await task == b"x\n"
        assert await other is None
        assert told == ["known"]


@both_sides
async def test_a_read_tells_its_state(loop: Loop, side: str) -> None:
    async with served(side) as (reader, writer, peer):
        read = reader.readline()
        assert not read.cr_suspended
        task = await waiting(loop, read)
        assert inspect.getcoroutinestate(read) == inspect.CORO_SUSPENDED
        peer.sendall(b"x\n")
        assert await task == b"x\n"
        assert not read.cr_suspended
        assert inspect.getcoroutinestate(read) == inspect.CORO_CLOSED
        drain = writer.drain()
        assert not drain.cr_suspended
        await drain


@both_sides
async def test_a_line_is_what_an_incomplete_read_had(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, _):
        task = await waiting(loop, reader.readline())
        reader.set_exception(asyncio.IncompleteReadError(b"abc", None))
        assert await task == b"abc"
        assert await reader.readline() == b"abc"
    async with served(side) as (reader, _, _):
        read = reader.readline()
        read.send(None)
        with pytest.raises(StopIteration) as stopped:
            read.throw(asyncio.IncompleteReadError(b"def", None))
        assert stopped.value.value == b"def"
        task = await waiting(loop, reader.readexactly(9))
        reader.set_exception(asyncio.IncompleteReadError(b"abc", None))
        with pytest.raises(asyncio.IncompleteReadError):
            await task


async def test_no_context_means_that_of_the_wake_up(loop: Loop) -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    wakeups: list[Any] = []

    class Kept(asyncio.Future[None]):
        """A future that keeps the callback of its task for others."""

        def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
            """Keep it."""
            wakeups.append(callback)

    kept = Kept(loop=loop)

    async def wait() -> str:
        await kept
        return variable.get()

    async with served("server") as (reader, _, _):
        task = loop.create_task(wait())
        await until(lambda: wakeups)
        kept.set_result(None)
        read = reader.readline()
        future = read.send(None)
        variable.set("before")
        future.add_done_callback(wakeups[0], context=None)
        variable.set("later")
        reader.feed_data(b"x\n")
        with pytest.raises(StopIteration):
            read.send(None)
        assert await task == "later"


@both_sides
async def test_too_many_arguments_are_refused_in_asyncios_words(loop: Loop, side: str) -> None:
    async with served(side) as (reader, writer, _):
        for call, name in (
            (reader.readline, "StreamReader.readline"),
            (writer.drain, "StreamWriter.drain"),
        ):
            words = f"{name}() takes 1 positional argument but 2 were given"
            with pytest.raises(TypeError) as refused:
                call(1)
            assert str(refused.value) == words
            with pytest.raises(TypeError) as refused:
                call(other=1)
            assert str(refused.value) == f"{name}() got an unexpected keyword argument 'other'"


@pytest.mark.only("cloverleaf")  # asyncio makes them of its own
async def test_a_servers_streams_are_of_the_native_classes(loop: Loop) -> None:
    async with served("server") as (reader, writer, _):
        made = [reader, writer, writer.transport.get_protocol()]
        assert {type(each).__module__ for each in made} == {"cloverleaf._streams"}
        assert [type(each).__name__ for each in made] == [
            "StreamReader",
            "StreamWriter",
            "StreamReaderProtocol",
        ]
