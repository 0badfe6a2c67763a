"""Stream readers on the loop's transports: whatever a program reads, changes or replaces."""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .harness.links import tcp_pair
from .harness.streams import stream
from .harness.turns import until
from .harness.types import Loop


def reset(peer: socket.socket) -> None:
    """End the connection with an error for the other side."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


READS: list[tuple[Callable[[Any], Awaitable[bytes]], bytes]] = [
    (lambda reader: reader.readline(), b"ab\n"),
    (lambda reader: reader.readuntil(), b"ab\n"),
    (lambda reader: reader.readuntil(b"b\nc"), b"ab\nc"),
    (lambda reader: reader.readuntil(separator=b"d"), b"ab\ncd"),
    (lambda reader: reader.readexactly(4), b"ab\nc"),
    (lambda reader: reader.readexactly(n=0), b""),
    (lambda reader: reader.read(4), b"ab\nc"),
    (lambda reader: reader.read(n=100), b"ab\ncd"),
    (lambda reader: reader.read(0), b""),
    (lambda reader: reader.read(True), b"a"),
]
every_read = pytest.mark.parametrize(("read", "expected"), READS)


@every_read
async def test_what_is_there_is_read(loop: Loop, read: Any, expected: bytes) -> None:
    async with stream() as (reader, _, peer):
        peer.sendall(b"ab\ncd")
        await until(lambda: len(reader._buffer) == 5)
        got = await read(reader)
        assert type(got) is bytes
        assert (got, bytes(reader._buffer)) == (expected, b"ab\ncd"[len(expected) :])


@every_read
async def test_a_read_waits_for_its_bytes_one_by_one(
    loop: Loop, read: Any, expected: bytes
) -> None:
    async with stream() as (reader, _, peer):
        task = loop.create_task(read(reader))
        sent = 0
        while not task.done():
            await until(lambda: task.done() or reader._waiter is not None)
            if not task.done():
                sent += 1
                peer.sendall(b"ab\ncd"[sent - 1 : sent])
                await until(lambda n=sent: task.done() or len(reader._buffer) == n)  # type: ignore[misc]
        got = task.result()
        assert expected.startswith(got)
        await until(lambda: len(got) + len(reader._buffer) == sent)


@every_read
async def test_a_cancelled_read_loses_nothing(loop: Loop, read: Any, expected: bytes) -> None:
    async with stream() as (reader, _, peer):
        task = loop.create_task(read(reader))
        await until(lambda: task.done() or reader._waiter is not None)
        task.cancel("enough")
        if not task.done():
            with pytest.raises(asyncio.CancelledError, match=r"^enough$"):
                await task
        assert reader._waiter is None
        peer.sendall(b"ab\ncd")
        await until(lambda: len(reader._buffer) == 5)
        assert await read(reader) == expected


async def test_a_read_cancelled_as_its_bytes_come_leaves_them(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        task = loop.create_task(reader.readline())
        await until(lambda: reader._waiter is not None)
        peer.sendall(b"line\n")
        waiter = reader._waiter
        await until(waiter.done)
        if not task.done():
            task.cancel()
        await asyncio.wait([task])
        rest = b"" if task.cancelled() else task.result()
        assert (rest or await reader.readline()) == b"line\n"


async def test_two_reads_at_a_time_are_refused(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        first = loop.create_task(reader.readline())
        await until(lambda: reader._waiter is not None)
        for read, name in (
            (reader.readline, "readuntil"),
            (lambda: reader.readexactly(3), "readexactly"),
            (lambda: reader.read(3), "read"),
        ):
            text = f"^{name}\\(\\) called while another coroutine is already waiting"
            with pytest.raises(RuntimeError, match=text):
                await read()
        peer.sendall(b"x\n")
        assert await first == b"x\n"


async def test_the_end_comes_after_what_is_left(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        peer.sendall(b"abc")
        peer.shutdown(socket.SHUT_WR)
        assert await reader.readline() == b"abc"
        assert reader.at_eof()
        assert await reader.readline() == b""
        assert await reader.read(5) == b""
        assert await reader.read() == b""
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(2)
        assert (caught.value.partial, caught.value.expected) == (b"", 2)


@pytest.mark.parametrize("waits", [True, False])
async def test_too_little_at_the_end_is_told(loop: Loop, waits: bool) -> None:
    async with stream() as (reader, _, peer):
        if waits:
            task = loop.create_task(reader.readexactly(5))
            await until(lambda: reader._waiter is not None)
        peer.sendall(b"abc")
        peer.shutdown(socket.SHUT_WR)
        if not waits:
            await until(lambda: reader._eof)
            task = loop.create_task(reader.readexactly(5))
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await task
        assert (caught.value.partial, caught.value.expected) == (b"abc", 5)


@pytest.mark.parametrize("count", [(1 << 63) - 1, 1 << 63, 1 << 64, 1 << 70])
async def test_a_count_beyond_a_machine_word_is_as_good_as_any(loop: Loop, count: int) -> None:
    async with stream() as (reader, _, peer):
        peer.sendall(b"ab")
        await until(lambda: len(reader._buffer) == 2)
        assert await reader.read(count) == b"ab"
        task = loop.create_task(reader.readexactly(count))
        await until(lambda: reader._waiter is not None)
        peer.sendall(b"cd")
        peer.close()
        with pytest.raises(asyncio.IncompleteReadError) as failed:
            await task
        assert (failed.value.partial, failed.value.expected) == (b"cd", count)


@pytest.mark.parametrize("count", [-1, -(1 << 63), -(1 << 63) - 1, -(1 << 70)])
async def test_a_count_below_zero_reads_to_the_end(loop: Loop, count: int) -> None:
    async with stream() as (reader, _, peer):
        peer.sendall(b"ab")
        peer.close()
        assert await reader.read(count) == b"ab"
        with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
            await reader.readexactly(count)


async def test_a_line_beyond_the_limit_is_refused(loop: Loop) -> None:
    async with stream(limit=8) as (reader, _, peer):
        peer.sendall(b"123456789\nnext\n")
        await until(lambda: len(reader._buffer) == 15)
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b"\n")
        text = "Separator is found, but chunk is longer than limit"
        assert (str(caught.value), caught.value.consumed) == (text, 9)
        with pytest.raises(ValueError, match=f"^{text}$"):
            await reader.readline()
        assert await reader.readline() == b"next\n"


async def test_a_line_without_an_end_is_refused_at_the_limit(loop: Loop) -> None:
    async with stream(limit=8) as (reader, _, peer):
        task = loop.create_task(reader.readline())
        await until(lambda: reader._waiter is not None)
        peer.sendall(b"1234567890")
        text = r"^Separator is not found, and chunk exceed the limit$"
        with pytest.raises(ValueError, match=text):
            await task
        assert bytes(reader._buffer) == b""


async def test_a_line_of_just_the_limit_is_read(loop: Loop) -> None:
    async with stream(limit=8) as (reader, _, peer):
        peer.sendall(b"12345678\n")
        assert await reader.readline() == b"12345678\n"


async def test_a_full_reader_pauses_and_goes_on(loop: Loop) -> None:
    async with stream(limit=1000) as (reader, writer, peer):
        peer.sendall(b"x" * 5000)
        await until(lambda: reader._paused)
        assert len(reader._buffer) > 2000
        assert not writer.transport.is_reading()
        got = await reader.readexactly(4500)
        assert got == b"x" * 4500
        await until(lambda: len(reader._buffer) == 500)
        assert not reader._paused
        assert writer.transport.is_reading()


async def test_a_full_reader_that_is_read_beyond_its_limit_goes_on(loop: Loop) -> None:
    async with stream(limit=1000) as (reader, _, peer):
        peer.sendall(b"x" * 9000)
        await until(lambda: reader._paused)
        assert await reader.readexactly(9000) == b"x" * 9000
        assert not reader._paused


# Where nothing is to be read nobody waits.
@pytest.mark.parametrize("read", [read for read, expected in READS if expected])
async def test_a_broken_connection_ends_the_wait(loop: Loop, read: Any) -> None:
    async with stream() as (reader, writer, peer):
        task = loop.create_task(read(reader))
        await until(lambda: reader._waiter is not None)
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await task
        assert isinstance(reader.exception(), ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await read(reader)
        with pytest.raises(ConnectionResetError):
            await writer.drain()


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda reader: reader.readline(), b"ab"),
        (lambda reader: reader.readuntil(), asyncio.IncompleteReadError(b"ab", None)),
        (lambda reader: reader.readexactly(4), asyncio.IncompleteReadError(b"ab", 4)),
    ],
)
async def test_an_error_behind_the_end_is_for_the_next_read(
    loop: Loop, read: Any, expected: object
) -> None:
    async with stream() as (reader, _, _):
        task = loop.create_task(read(reader))
        await until(lambda: reader._waiter is not None)
        reader.feed_data(b"ab")
        reader.feed_eof()
        reader.set_exception(ConnectionResetError("gone"))
        ended = await asyncio.gather(task, return_exceptions=True)
        assert repr(ended) == repr([expected])
        for _ in range(2):
            with pytest.raises(ConnectionResetError, match=r"^gone$"):
                await read(reader)


@pytest.mark.only("cloverleaf")  # asyncio waits for ever
async def test_a_connection_that_breaks_as_too_little_comes_ends_the_read(loop: Loop) -> None:
    async with stream() as (reader, _, _peer):
        task = loop.create_task(reader.readline())
        await until(lambda: reader._waiter is not None)
        reader.feed_data(b"half a line")
        reader.set_exception(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError, match=r"^gone$"):
            await task


@pytest.mark.parametrize("name", ["feed_data", "_wakeup_waiter", "readuntil", "_wait_for_data"])
@pytest.mark.parametrize("where", ["class", "reader"])
async def test_a_replaced_method_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    calls = []
    async with stream() as (reader, _, peer):
        if where == "class":
            method = getattr(asyncio.StreamReader, name)

            def on_class(*args: Any) -> Any:
                calls.append(name)
                return method(*args)

            monkeypatch.setattr(asyncio.StreamReader, name, on_class)
        else:
            bound = getattr(reader, name)

            def on_reader(*args: Any) -> Any:
                calls.append(name)
                return bound(*args)

            monkeypatch.setattr(reader, name, on_reader)
        task = loop.create_task(reader.readline())
        await until(lambda: reader._waiter is not None)
        peer.sendall(b"line\n")
        assert await task == b"line\n"
        assert calls[:1] == [name]
        monkeypatch.undo()
        peer.sendall(b"more\n")
        assert await reader.readline() == b"more\n"
        assert len(calls) == 1


@pytest.mark.parametrize("name", ["data_received", "_drain_helper"])
async def test_a_replaced_method_of_the_protocol_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls = []
    method = getattr(asyncio.StreamReaderProtocol, name)

    def instead(*args: Any) -> Any:
        calls.append(name)
        return method(*args)

    async with stream() as (reader, writer, peer):
        monkeypatch.setattr(asyncio.StreamReaderProtocol, name, instead)
        peer.sendall(b"line\n")
        await writer.drain()
        assert await reader.readline() == b"line\n"
        assert calls == [name]


async def test_a_program_may_change_what_a_reader_knows(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        reader._buffer = bytearray(b"mine\n")
        assert await reader.readline() == b"mine\n"
        reader.note = "mine too"
        reader._limit = 2
        peer.sendall(b"12345\n")
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        peer.sendall(b"1\n")
        assert await reader.readline() == b"1\n"
        assert reader.note == "mine too"


async def test_readers_and_protocols_derived_from_asyncios_stay_what_they_are(loop: Loop) -> None:
    seen = []

    class Reader(asyncio.StreamReader):
        def feed_data(self, data: Any) -> None:
            seen.append(bytes(data))
            super().feed_data(data)

    class Protocol(asyncio.StreamReaderProtocol):
        pass

    for reader_class, protocol_class in (
        (Reader, asyncio.StreamReaderProtocol),
        (asyncio.StreamReader, Protocol),
    ):
        ours, peer = tcp_pair()
        reader = reader_class(loop=loop)
        protocol = protocol_class(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda p=protocol: p, sock=ours)  # type: ignore[misc]
        with peer:
            peer.sendall(b"line\n")
            assert await reader.readline() == b"line\n"
            transport.close()
            await protocol._closed  # type: ignore[attr-defined]
        assert (type(reader), type(protocol)) == (reader_class, protocol_class)
    assert seen == [b"line\n"]


async def test_a_reader_is_asyncios(loop: Loop) -> None:
    async with stream() as (reader, writer, _):
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer.transport.get_protocol(), asyncio.StreamReaderProtocol)
        assert repr(reader).startswith("<StreamReader limit=64 transport=<")
        assert not reader.at_eof()


async def test_a_read_is_a_coroutine(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        coroutine: Any = reader.readline()
        assert [asyncio.iscoroutine(coroutine), inspect.isawaitable(coroutine)] == [True, True]
        assert coroutine.__qualname__ == "StreamReader.readline"
        assert coroutine.__name__ == "readline"
        before = coroutine.cr_await
        assert before is None
        task = asyncio.ensure_future(coroutine)
        assert "StreamReader.readline()" in repr(task)
        await until(lambda: reader._waiter is not None)
        assert coroutine.cr_await is not None
        assert not coroutine.cr_running
        peer.sendall(b"x\n")
        assert await asyncio.wait_for(task, 60) == b"x\n"
        with pytest.raises(RuntimeError, match=r"^cannot reuse already awaited coroutine$"):
            await coroutine
        coroutine.close()


async def test_a_read_can_be_thrown_into_and_closed(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        for unstarted in (reader.readline(), reader.read(1), reader.readexactly(1)):
            with pytest.raises(KeyError, match="no"):
                unstarted.throw(KeyError("no"))
            with pytest.raises(RuntimeError, match=r"^cannot reuse already awaited coroutine$"):
                unstarted.send(None)
        waiting = reader.readline()
        assert asyncio.isfuture(waiting.send(None))
        assert reader._waiter is not None
        waiting.close()
        assert reader._waiter is None
        waiting = reader.readexactly(2)
        waiting.send(None)
        with pytest.raises(ZeroDivisionError):
            waiting.throw(ZeroDivisionError)
        assert reader._waiter is None
        peer.sendall(b"ok\n")
        await until(lambda: len(reader._buffer) == 3)
        with pytest.raises(StopIteration) as stop:
            reader.readline().send(None)
        assert stop.value.value == b"ok\n"


async def test_a_read_that_nobody_awaits_is_warned_of(loop: Loop) -> None:
    async with stream() as (reader, _, _peer):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reader.readline()
            reader.readexactly(2)
            gc.collect()
        texts = [str(one.message) for one in caught]
        assert texts == [
            "coroutine 'StreamReader.readline' was never awaited",
            "coroutine 'StreamReader.readexactly' was never awaited",
        ]


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda reader: reader.readexactly(-1), ValueError),
        (lambda reader: reader.readuntil(b""), ValueError),
        (lambda reader: reader.readexactly("x"), TypeError),
        (lambda reader: reader.read(None), TypeError),
        (lambda reader: reader.readuntil(None), TypeError),
        (lambda reader: reader.readline(1), TypeError),
        (lambda reader: reader.readexactly(), TypeError),
        (lambda reader: reader.read(m=1), TypeError),
    ],
)
async def test_senseless_arguments_are_refused(loop: Loop, read: Any, error: type) -> None:
    async with stream() as (reader, _, peer):
        peer.sendall(b"ab\n")
        await until(lambda: len(reader._buffer) == 3)
        with pytest.raises(error):
            await read(reader)


async def test_feeding_after_the_end_is_refused(loop: Loop) -> None:
    async with stream() as (reader, _, _peer):
        reader.feed_data(b"")
        reader.feed_data(bytearray(b"ab"))
        reader.feed_data(memoryview(b"cd"))
        reader.feed_eof()
        with pytest.raises(AssertionError, match=r"^feed_data after feed_eof$"):
            reader.feed_data(b"x")
        assert await reader.read() == b"abcd"


async def test_a_buffer_that_is_looked_at_cannot_be_fed(loop: Loop) -> None:
    async with stream() as (reader, _, _peer):
        reader.feed_data(b"abc")
        with memoryview(reader._buffer), pytest.raises(BufferError):
            reader.feed_data(b"d")
        with memoryview(reader._buffer), pytest.raises(BufferError):
            await reader.read(2)
        assert await reader.read(3) == b"abc"


async def test_an_abandoned_stream_is_collected(loop: Loop) -> None:
    ours, peer = tcp_pair()
    with peer:
        reader, writer = await asyncio.open_connection(sock=ours)
        task = loop.create_task(reader.readline())
        await until(lambda: reader._waiter is not None)  # type: ignore[attr-defined]
        task.cancel()
        await asyncio.wait([task])
        writer.close()
        await writer.wait_closed()
