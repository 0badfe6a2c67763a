"""What a task sees, and others see of it, while it waits for a stream."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .harness.streams import stream
from .harness.turns import turns, until
from .harness.types import Loop


async def waiting(loop: Loop, read: Any) -> Any:
    """A task of this read that waits, without a look at the reader."""
    task: Any = loop.create_task(read)
    await until(lambda: task._fut_waiter is not None)
    return task


async def test_a_waiting_task_shows_a_future(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        task = await waiting(loop, reader.readline())
        future = task._fut_waiter
        assert isinstance(future, asyncio.Future)
        assert asyncio.isfuture(future)
        assert future.get_loop() is loop
        assert not future.done()
        assert "pending" in repr(future)
        told: list[Any] = []
        future.add_done_callback(told.append)
        peer.sendall(b"x\n")
        assert await task == b"x\n"
        await until(lambda: bool(told))
        assert told[0].done()
        assert told[0].result() is None


async def test_who_waits_is_woken_in_the_order_of_callbacks(loop: Loop) -> None:
    order: list[str] = []

    async def read(reader: Any) -> None:
        await reader.readline()
        order.append("read")

    async with stream() as (reader, _, _):
        task = await waiting(loop, read(reader))
        loop.call_soon(order.append, "before")
        reader.feed_data(b"x\n")
        loop.call_soon(order.append, "after")
        await task
    assert order == ["before", "read", "after"]


async def test_a_woken_task_shows_a_future_that_is_done(loop: Loop) -> None:
    async with stream() as (reader, _, _):
        task = await waiting(loop, reader.readline())
        reader.feed_data(b"x\n")
        assert task._fut_waiter.done()
        assert not task._fut_waiter.cancel()
        assert reader._waiter is None
        assert await task == b"x\n"


async def test_a_task_cancelled_when_it_was_woken_leaves_the_line(loop: Loop) -> None:
    async with stream() as (reader, _, _):
        task = await waiting(loop, reader.readline())
        reader.feed_data(b"x\n")
        task.cancel("late")
        with pytest.raises(asyncio.CancelledError, match=r"^late$"):
            await task
        assert await reader.readline() == b"x\n"


async def test_a_line_that_comes_after_the_cancelling_stays(loop: Loop) -> None:
    async with stream() as (reader, _, _):
        task = await waiting(loop, reader.readline())
        task.cancel("early")
        reader.feed_data(b"x\n")
        with pytest.raises(asyncio.CancelledError, match=r"^early$"):
            await task
        assert reader._waiter is None
        assert await reader.readline() == b"x\n"


async def test_a_timeout_ends_the_wait_and_loses_nothing(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readexactly(3), 0.001)
        peer.sendall(b"ab")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readexactly(3), 0.05)
        peer.sendall(b"c")
        assert await reader.readexactly(3) == b"abc"


async def test_the_waiter_may_be_given_an_error(loop: Loop) -> None:
    async with stream() as (reader, _, _):
        task = await waiting(loop, reader.readline())
        reader._waiter.set_exception(ValueError("mine"))
        with pytest.raises(ValueError, match=r"^mine$"):
            await task
        assert reader._waiter is None


async def test_an_error_of_the_reader_ends_the_wait(loop: Loop) -> None:
    async with stream() as (reader, _, _):
        task = await waiting(loop, reader.readline())
        reader.set_exception(ValueError("broken"))
        with pytest.raises(ValueError, match=r"^broken$"):
            await task


async def test_the_end_ends_the_wait(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        task = await waiting(loop, reader.readline())
        peer.sendall(b"rest")
        peer.close()
        assert await task == b"rest"


async def test_a_task_goes_on_in_its_context(loop: Loop) -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    async def read(reader: Any) -> list[str]:
        variable.set("inside")
        await reader.readline()
        return [variable.get()]

    async with stream() as (reader, _, peer):
        task = await waiting(loop, read(reader))
        peer.sendall(b"x\n")
        assert await task == ["inside"]
    assert variable.get() == "outside"


@pytest.mark.parametrize("name", ["call_soon", "create_future"])
async def test_a_replaced_method_of_the_loop_is_called(
    loop: Loop, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    original = getattr(loop, name)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return original(*args, **kwargs)

    async with stream() as (reader, _, _):
        monkeypatch.setattr(loop, name, replaced)
        task: Any = asyncio.ensure_future(reader.readline())
        await until(lambda: task._fut_waiter is not None)
        before = len(called)
        reader.feed_data(b"x\n")
        if name == "call_soon":
            assert len(called) == before + 1
        else:
            assert called
        assert await task == b"x\n"
        monkeypatch.undo()


@asynccontextmanager
async def accepted(loop: Loop) -> AsyncIterator[tuple[Any, asyncio.StreamWriter]]:
    """The reader of a server's connection, and the writer at its other end."""
    found: asyncio.Future[Any] = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.set_result((reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        reader, writer = await found
        try:
            yield reader, client
        finally:
            for end in (client, writer):
                end.close()
                await end.wait_closed()


@pytest.mark.only("cloverleaf")  # asyncio calls what the dictionary has
async def test_a_method_in_the_loops_dictionary_is_not_noticed(loop: Loop) -> None:
    called: list[Any] = []
    original = loop.call_soon

    def replaced(*args: Any, **kwargs: Any) -> Any:
        called.append(args)
        return original(*args, **kwargs)

    async with accepted(loop) as (reader, _):
        assert not inspect.iscoroutinefunction(reader.read)
        task = await waiting(loop, reader.read(1))
        vars(loop)["call_soon"] = replaced
        reader.feed_data(b"x")
        del vars(loop)["call_soon"]
        assert called == []
        assert await task == b"x"


async def test_a_read_in_a_cycle_that_nobody_awaits_warns(loop: Loop) -> None:
    async with accepted(loop) as (reader, _):
        cycle: list[Any] = [reader.read(1)]
        cycle.append(cycle)
        del cycle
        with pytest.warns(RuntimeWarning, match=r"'StreamReader.read' was never awaited"):
            gc.collect()


async def test_what_cannot_be_thrown_leaves_a_read_as_it_is(loop: Loop) -> None:
    async with accepted(loop) as (reader, client):
        read = reader.read(1)
        for thrown in ("x", int, None):
            with pytest.raises(TypeError, match="exceptions must be classes or instances deriving"):
                read.throw(thrown)
        client.write(b"x")
        assert await read == b"x"


async def test_a_task_that_is_written_in_python_waits_as_well(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        task: Any = asyncio.tasks._PyTask(reader.readline(), loop=loop)  # type: ignore[attr-defined]
        await until(lambda: task._fut_waiter is not None)
        peer.sendall(b"x\n")
        assert await task == b"x\n"
        task = asyncio.tasks._PyTask(reader.readline(), loop=loop)  # type: ignore[attr-defined]
        await until(lambda: task._fut_waiter is not None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reader._waiter is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_an_eager_task_waits_as_well(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        loop.set_task_factory(vars(asyncio)["eager_task_factory"])
        reader.feed_data(b"here\n")
        first = loop.create_task(reader.readline())
        assert first.done()
        second: Any = loop.create_task(reader.readline())
        loop.set_task_factory(None)
        assert second._fut_waiter is not None
        peer.sendall(b"later\n")
        assert [await first, await second] == [b"here\n", b"later\n"]


async def test_a_read_that_is_driven_by_hand_waits_for_its_wake_up(loop: Loop) -> None:
    async with stream() as (reader, _, _):
        read = reader.readline()
        future = read.send(None)
        assert future._asyncio_future_blocking
        future._asyncio_future_blocking = False
        assert not future._asyncio_future_blocking
        assert isinstance(read.send(None), asyncio.Future)
        with pytest.raises(RuntimeError, match=r"^await wasn't used with future$"):
            read.send(None)
        read = reader.readline()
        read.send(None)
        reader.feed_data(b"x\n")
        with pytest.raises(StopIteration) as stopped:
            read.send(None)
        assert stopped.value.value == b"x\n"


async def test_a_waiter_may_be_awaited_by_another(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        task = await waiting(loop, reader.readline())
        other = loop.create_task(asyncio.wait_for(task._fut_waiter, 60))
        peer.sendall(b"x\n")
        assert await task == b"x\n"
        assert await other is None


async def test_what_a_program_does_with_the_attributes_is_heeded(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        peer.sendall(b"abc\ndef\n")
        await until(lambda: len(reader._buffer) == 8)
        kept = reader._buffer
        assert type(kept) is bytearray
        assert await reader.readline() == b"abc\n"
        assert kept == b"def\n"
        kept[:] = b"one\ntwo\n"
        assert await reader.readline() == b"one\n"
        reader._buffer = bytearray(b"three\n")
        assert await reader.readline() == b"three\n"
        reader._limit = 2
        peer.sendall(b"long\n")
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        reader._eof = True
        assert reader.at_eof()
        assert await reader.readline() == b""
        with pytest.raises(AttributeError):
            del reader._nothing
        assert {"_limit", "_buffer", "_waiter"} <= set(dir(reader))


async def test_lines_are_cut_from_any_pieces(loop: Loop) -> None:
    lines = [b"x" * size + b"\n" for size in (0, 1, 5, 30, 2, 0, 60)]
    async with stream() as (reader, _, _):
        for cut in (1, 3, 7, 64):
            text = b"".join(lines)
            task = loop.create_task(asyncio.wait_for(read_lines(reader, len(lines)), 60))
            for start in range(0, len(text), cut):
                reader.feed_data(text[start : start + cut])
                await asyncio.sleep(0)
            assert await task == lines
        assert reader._buffer == b""


async def read_lines(reader: Any, count: int) -> list[bytes]:
    """So many lines."""
    return [await reader.readline() for _ in range(count)]


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("count", [100, -1])
async def test_a_read_that_another_has_left_nothing_waits_on(loop: Loop, count: int) -> None:
    """asyncio's gives ``b""`` then, or all it has until then, as if the stream had ended."""
    async with stream() as (reader, _, peer):
        first = await waiting(loop, reader.read(count))
        reader.feed_data(b"one")
        assert await reader.read(100) == b"one"
        await turns(3)
        assert not first.done()
        peer.sendall(b"two")
        peer.shutdown(socket.SHUT_WR)
        assert await first == b"two"
