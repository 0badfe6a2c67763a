"""`StreamReader.read()` until the end of the stream, on connections and from children."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from asyncio.subprocess import PIPE
from typing import Any
from unittest import mock

import pytest

from .harness.streams import both_sides, served, stream
from .harness.turns import until
from .harness.types import Loop

# Lengths around the limit, twice the limit, and where what gathers must grow.
LENGTHS = [1, 63, 64, 65, 127, 128, 129, 500, 1, 4096, 70_000, 3, 300_000]
# Not by `sys.stdout`: where that has no buffer, a child that is stopped amid a write tells a part.
TELL_ALL = "for n in 1, 2: open(n, 'wb', closefd=False).write(b' oe'[n:n + 1] * {0})"


async def waiting(loop: Loop, reader: Any, read: Any) -> Any:
    """A task of this read that waits."""
    task = loop.create_task(read)
    await until(lambda: reader._waiter is not None)
    return task


async def taken(reader: Any) -> None:
    """Until what has come was taken, and the read waits again."""
    await until(lambda: reader._waiter is not None and not reader._buffer)


def spied(method: Any) -> Any:
    """A function that does what the method does, and remembers with what it was called."""
    return mock.create_autospec(method, side_effect=method)


@both_sides
@pytest.mark.parametrize("limit", [1, 64, 1 << 20])
async def test_all_comes_in_order(loop: Loop, side: str, limit: int) -> None:
    async with served(side, limit=limit) as (reader, _, peer):
        pieces = [os.urandom(length) for length in LENGTHS]
        peer.setblocking(False)
        task = await waiting(loop, reader, reader.read())
        for piece in pieces:
            await loop.sock_sendall(peer, piece)
        peer.shutdown(socket.SHUT_WR)
        got = await task
        assert type(got) is bytes
        assert got == b"".join(pieces)
        assert sys.getsizeof(got) == sys.getsizeof(b"") + len(got)
        assert await reader.read() == b""
        assert reader.at_eof()


@both_sides
@pytest.mark.parametrize("arguments", [(), (-1,), (-7,)])
@pytest.mark.parametrize("pieces", [[], [b"one"], [b"a", b"bc"], [b"a", b"bc", b"def"]])
async def test_few_pieces(loop: Loop, side: str, arguments: Any, pieces: list[bytes]) -> None:
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader, reader.read(*arguments))
        for piece in pieces:
            peer.sendall(piece)
            await until(lambda: reader._buffer)
            await taken(reader)
        peer.shutdown(socket.SHUT_WR)
        assert await task == b"".join(pieces)


@both_sides
async def test_what_came_before_comes_first(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        peer.sendall(b"line\nrest")
        assert await reader.readline() == b"line\n"
        reader.feed_data(bytearray(b" by hand"))
        peer.sendall(b" more")
        await until(lambda: len(reader._buffer) == 17)
        peer.shutdown(socket.SHUT_WR)
        assert await reader.read(n=-1) == b"rest by hand more"


async def test_a_stream_fed_by_hand(loop: Loop) -> None:
    async with stream() as (reader, writer, _):
        writer.transport.pause_reading()
        task = await waiting(loop, reader, reader.read())
        for piece in (b"a", bytearray(b"b"), b"c" * 1000):
            reader.feed_data(piece)
            await taken(reader)
        reader.feed_data(b"d")
        reader.feed_eof()
        assert await task == b"ab" + b"c" * 1000 + b"d"


@both_sides
async def test_reading_pauses_and_resumes(loop: Loop, side: str) -> None:
    async with served(side, limit=64) as (reader, writer, peer):
        peer.sendall(b"x" * 1000)
        await until(lambda: reader._paused)
        assert not writer.transport.is_reading()
        task = await waiting(loop, reader, reader.read())
        assert writer.transport.is_reading()
        assert not reader._paused
        reader.feed_data(b"y" * 200)
        assert reader._paused
        await taken(reader)
        assert writer.transport.is_reading()
        peer.shutdown(socket.SHUT_WR)
        assert await task == b"x" * 1000 + b"y" * 200


@both_sides
async def test_nobody_else_reads_meanwhile(loop: Loop, side: str) -> None:
    text = r"^read\(\) called while another coroutine is already waiting for incoming data$"
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader, reader.read())
        peer.sendall(b"a")
        await until(lambda: reader._buffer)
        await taken(reader)
        for read in (reader.read, lambda: reader.read(1)):
            with pytest.raises(RuntimeError, match=text):
                await read()
        peer.sendall(b"b")
        peer.shutdown(socket.SHUT_WR)
        assert await task == b"ab"


@both_sides
async def test_who_comes_second_is_refused(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        first = await waiting(loop, reader, reader.readline())
        with pytest.raises(RuntimeError, match=r"^read\(\) called while another"):
            await reader.read()
        peer.sendall(b"x\n")
        assert await first == b"x\n"


@both_sides
async def test_an_error_ends_it(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader, reader.read())
        peer.sendall(b"a")
        await until(lambda: reader._buffer)
        await taken(reader)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(ConnectionResetError):
            await task
        with pytest.raises(ConnectionResetError):
            await reader.read()


@both_sides
async def test_an_error_behind_the_last_bytes_ends_it_too(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, _):
        task = await waiting(loop, reader, reader.read())
        reader.feed_data(b"a")
        reader.feed_eof()
        reader.set_exception(OSError("broken"))
        with pytest.raises(OSError, match=r"^broken$"):
            await task


@both_sides
async def test_it_can_be_cancelled_before_anything_came(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader, reader.read())
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match=r"^enough$"):
            await task
        assert reader._waiter is None
        peer.sendall(b"ab")
        peer.shutdown(socket.SHUT_WR)
        assert await reader.read() == b"ab"


@pytest.mark.only("cloverleaf")
@both_sides
@pytest.mark.parametrize("pieces", [[b"a\n"], [b"a\n", b"bc"], [b"a\n", b"bc", b"def"]])
@pytest.mark.parametrize("way", ["cancel", "close", "timeout"])
async def test_what_it_had_when_it_was_cancelled_is_read_again(
    loop: Loop, side: str, pieces: list[bytes], way: str
) -> None:
    # asyncio's loses it.
    async with served(side) as (reader, _, peer):
        for held in ("nothing", "buffer", "view"):
            buffer = reader._buffer if held == "buffer" else None
            read = reader.read()
            read.send(None)
            for piece in pieces:
                reader.feed_data(piece)
                read.send(None)
                assert not reader._buffer
            reader.feed_data(b"last")
            view = memoryview(reader._buffer) if held == "view" else None
            if way == "close":
                read.close()
            else:
                error = asyncio.CancelledError if way == "cancel" else TimeoutError
                with pytest.raises(error):
                    read.throw(error)
            assert reader._waiter is None
            if view is not None:
                assert bytes(view) == b"last"
                view.release()
            assert bytes(reader._buffer) == b"".join(pieces) + b"last"
            assert buffer is None or buffer is reader._buffer
            assert await reader.readline() == b"a\n"
            peer.sendall(b"\n")
            assert await reader.readline() == b"".join(pieces)[2:] + b"last\n"
            assert not reader._buffer


@pytest.mark.only("cloverleaf")
async def test_a_timeout_loses_nothing(loop: Loop) -> None:
    async with stream() as (reader, _, peer):
        for piece in (b"a" * 1000, b"b" * 1000, b"c"):
            task = await waiting(loop, reader, reader.read())
            peer.sendall(piece)
            await until(lambda: reader._buffer)
            await taken(reader)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        peer.shutdown(socket.SHUT_WR)
        assert await reader.read() == b"a" * 1000 + b"b" * 1000 + b"c"


@both_sides
async def test_a_read_of_the_readers_own_reads_the_blocks(loop: Loop, side: str) -> None:
    async with served(side, limit=5) as (reader, _, peer):
        asked = []

        async def read(n: int = -1) -> Any:
            asked.append(n)
            return await type(reader).read(reader, n)

        reader.read = read
        peer.sendall(b"abcdefg")
        peer.shutdown(socket.SHUT_WR)
        assert await reader.read() == b"abcdefg"
        assert set(asked) == {-1, 5}


@both_sides
@pytest.mark.parametrize("name", ["read", "_wait_for_data"])
async def test_a_method_replaced_meanwhile_is_called(
    loop: Loop, side: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(asyncio.StreamReader, name)
    called = []

    async def replacement(reader: Any, argument: Any) -> Any:
        called.append(argument)
        return await original(reader, argument)

    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader, reader.read())
        peer.sendall(b"ab")
        await until(lambda: reader._buffer)
        await taken(reader)
        monkeypatch.setattr(asyncio.StreamReader, name, replacement)
        peer.sendall(b"cd")
        await until(lambda: called)
        peer.shutdown(socket.SHUT_WR)
        assert await task == b"abcd"


@both_sides
async def test_it_goes_on_although_its_reader_is_of_another_class(loop: Loop, side: str) -> None:
    class Upper(asyncio.StreamReader):
        def feed_data(self, data: Any) -> None:
            super().feed_data(data.upper())

    async with served(side) as (reader, _, peer):
        task = await waiting(loop, reader, reader.read())
        for piece in (b"a", b"b", b"c"):
            reader.feed_data(piece)
            await taken(reader)
        reader.__class__ = Upper
        peer.sendall(b"x")
        await until(lambda: not reader._buffer)
        peer.shutdown(socket.SHUT_WR)
        assert await task == b"abcX"


@both_sides
async def test_a_limit_of_nothing_reads_nothing(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, _):
        with mock.patch.object(reader, "_limit", 0):
            reader.feed_data(b"a")
            assert await reader.read() == b""
        assert bytes(reader._buffer) == b"a"


@pytest.mark.parametrize("argument", [None, "1"])
async def test_what_is_no_number_is_refused(loop: Loop, argument: Any) -> None:
    async with stream() as (reader, _, _):
        with pytest.raises(TypeError):
            await reader.read(argument)


async def test_an_unfinished_one_is_collected(loop: Loop) -> None:
    async with stream() as (reader, _, _):
        read = reader.read()
        read.send(None)
        reader.feed_data(b"a")
        read.send(None)
        reader.its_own = read
        read.close()
        del reader.its_own, read
        gc.collect()
        assert reader._waiter is None


@pytest.mark.parametrize("limit", [1, 64, 1 << 16])
async def test_a_child_tells_all(loop: Loop, limit: int) -> None:
    length = 300_001
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TELL_ALL.format(length), stdout=PIPE, stderr=PIPE, limit=limit
    )
    assert await child.communicate() == (b"o" * length, b"e" * length)
    assert isinstance(child.stdout, asyncio.StreamReader)
    assert child.stdout._limit == limit  # type: ignore[attr-defined]


async def test_a_childs_reader_pauses_its_pipe(loop: Loop) -> None:
    child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, limit=64)
    stdin, stdout = child.stdin, child.stdout
    assert stdin is not None
    assert stdout is not None
    pipe: Any = stdout._transport  # type: ignore[attr-defined]
    stdin.write(b"x" * 1000)
    await until(lambda: stdout._paused)  # type: ignore[attr-defined]
    assert not pipe.is_reading()
    assert await stdout.readexactly(999) == b"x" * 999
    assert pipe.is_reading()
    stdin.close()
    assert await stdout.read() == b"x"
    assert await child.wait() == 0


@pytest.mark.only("cloverleaf")
async def test_a_cancelled_communicate_can_be_repeated(loop: Loop) -> None:
    # asyncio's second one has nothing of what the first one had read.
    child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    stdin, stdout = child.stdin, child.stdout
    assert stdin is not None
    assert stdout is not None
    task = await waiting(loop, stdout, stdout.read())
    for piece in (b"a" * 5000, b"b" * 5000):
        stdin.write(piece)
        await until(lambda: stdout._buffer)  # type: ignore[attr-defined]
        await taken(stdout)
    task.cancel()
    await asyncio.wait([task])
    assert (await child.communicate(b"c"))[0] == b"a" * 5000 + b"b" * 5000 + b"c"


async def test_what_makes_a_childs_readers_may_be_replaced(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(asyncio.StreamReader):
        pass

    async def reader_of_a_child() -> Any:
        child = await asyncio.create_subprocess_exec("true", stdout=PIPE)
        await child.communicate()
        return child.stdout

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.streams, "StreamReader", Mine)
        assert type(await reader_of_a_child()) is Mine
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.StreamReader, "feed_eof", spied(asyncio.StreamReader.feed_eof))
        reader = await reader_of_a_child()
        asyncio.StreamReader.feed_eof.assert_called_once_with(reader)  # type: ignore[attr-defined]
    protocol: Any = asyncio.subprocess.SubprocessStreamProtocol
    with monkeypatch.context() as patched:
        patched.setattr(protocol, "connection_made", spied(protocol.connection_made))
        assert type(await reader_of_a_child()) is asyncio.StreamReader
        protocol.connection_made.assert_called_once()


async def test_a_childs_protocol_of_another_class_makes_its_own(loop: Loop) -> None:
    class Protocol(asyncio.subprocess.SubprocessStreamProtocol):
        pass

    transport, protocol = await loop.subprocess_exec(
        lambda: Protocol(limit=64, loop=loop), "echo", "hello", stdin=None, stderr=None
    )
    assert type(protocol.stdout) is asyncio.StreamReader
    assert await protocol.stdout.read() == b"hello\n"
    assert await transport._wait() == 0  # type: ignore[attr-defined]


@pytest.mark.only("cloverleaf")
async def test_a_childs_readers_are_of_the_native_class(loop: Loop) -> None:
    child = await asyncio.create_subprocess_exec("true", stdout=PIPE, stderr=PIPE)
    for reader in (child.stdout, child.stderr):
        assert isinstance(reader, asyncio.StreamReader)
        assert type(reader) is not asyncio.StreamReader
    await child.communicate()


@pytest.mark.only("cloverleaf")  # asyncio's drops it
@both_sides
async def test_what_a_refused_read_had_taken_stays(loop: Loop, side: str) -> None:
    async with served(side) as (reader, _, peer):
        first = await waiting(loop, reader, reader.readline())
        peer.sendall(b"ab")
        await until(lambda: bytes(reader._buffer) == b"ab")
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"^read\(\) called while another"):
            await reader.read()
        assert bytes(reader._buffer) == b"ab"
        peer.sendall(b"\n")
        assert await first == b"ab\n"


@both_sides
@pytest.mark.parametrize("method", ["read", "readline"])
async def test_a_read_that_is_dropped_waits_no_more(loop: Loop, side: str, method: str) -> None:
    async with served(side) as (reader, _, peer):
        read = getattr(reader, method)()
        read.send(None)
        reader.feed_data(b"abc")
        if method == "readline":
            read.send(None)
        del read
        gc.collect()
        assert reader._waiter is None
        peer.sendall(b"z\n")
        assert await reader.readline() == b"abcz\n"


@both_sides
async def test_a_read_from_a_broken_stream_takes_one_block(loop: Loop, side: str) -> None:
    async with served(side, limit=16) as (reader, _, _peer):
        task = await waiting(loop, reader, reader.read())
        reader.feed_data(b"x" * 100)
        reader.set_exception(ConnectionResetError("broken"))
        with pytest.raises(ConnectionResetError, match=r"^broken$"):
            await task
        assert bytes(reader._buffer) == b"x" * 84
        assert reader._paused
