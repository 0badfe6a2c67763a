"""Back-pressure over TLS, in both directions; what is written is what is sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from .harness.certificates import HOST, client_context, server_context
from .harness.protocols import Buffered, Recorder
from .harness.tls import tls_ends, tls_linked
from .harness.turns import turns, until
from .harness.types import Context, Loop

BIG = bytes(range(256)) * 16384  # 4 MiB


async def test_much_data_arrives_in_order(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        for start in range(0, len(BIG), 100_003):
            ends.client.transport.write(BIG[start : start + 100_003])
        ends.server.transport.write(BIG)
        assert await ends.server.received(len(BIG)) == BIG
        assert await ends.client.received(len(BIG)) == BIG


@pytest.mark.parametrize(
    # asyncio loses what it reads into a copy of a bytearray.
    "receiver",
    [Recorder, pytest.param(Buffered, marks=pytest.mark.only("cloverleaf"))],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_records_may_come_in_any_pieces(
    loop: Loop, receiver: Any, version: ssl.TLSVersion
) -> None:
    context = client_context()
    context.maximum_version = version
    async with tls_linked(loop, receiver, context) as (ours, peer):
        for turn, size in enumerate([1, 16384, 16385, 5, 40_000, 100_000, 16384, 3, 131_072, 1]):
            # Records of a few sizes, cut and joined wherever it may be.
            data = BIG[turn : turn + size]
            for start in range(0, size, 7000 + turn * 3000):
                peer.tls.write(data[start : start + 7000 + turn * 3000])
            records = peer.outgoing.read()
            for start in range(0, len(records), 9001 * (turn + 1)):
                await loop.sock_sendall(peer.sock, records[start : start + 9001 * (turn + 1)])
                await turns(3)
            assert await ours.received(size) == data
        assert ours.made.result().get_read_buffer_size() == 0


async def test_a_record_comes_byte_by_byte(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        for word in (b"slow", b"slower"):
            peer.tls.write(word)
            for byte in peer.outgoing.read():
                await loop.sock_sendall(peer.sock, bytes([byte]))
                await turns(3)
        assert await ours.received(10) == b"slowslower"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_records_may_be_cut_in_or_behind_their_headers(
    loop: Loop, version: ssl.TLSVersion
) -> None:
    context = client_context()
    context.maximum_version = version
    async with tls_linked(loop, Recorder, context) as (ours, peer):
        for cut in range(-2, 8):
            first, second = BIG[cut + 2 : cut + 20_000], BIG[cut + 7 : cut + 70_000]
            peer.tls.write(first)
            records = peer.outgoing.read()
            place = len(records) + cut
            peer.tls.write(second)
            records += peer.outgoing.read()
            await loop.sock_sendall(peer.sock, records[:place])
            await turns(3)
            await loop.sock_sendall(peer.sock, records[place:])
            assert await ours.received(len(first + second)) == first + second


async def test_writing_is_paused_and_resumed_through_both_layers(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        ends.server.transport.pause_reading()
        written = 0
        while "pause_writing" not in ends.client.calls:
            ends.client.transport.write(BIG[: 1 << 16])
            written += 1 << 16
            await asyncio.sleep(0)
        low, high = ends.client.transport.get_write_buffer_limits()
        assert (low, high) == (128 * 1024, 512 * 1024)
        assert ends.client.transport.get_write_buffer_size() >= high
        await turns(10)
        assert "resume_writing" not in ends.client.calls
        ends.server.transport.resume_reading()
        assert len(await ends.server.received(written)) == written
        assert ends.client.calls == ["connection_made", "pause_writing", "resume_writing"]
        assert ends.client.transport.get_write_buffer_size() == 0


class Asking(Recorder):
    """Answers what comes, asks how much waits, and sets marks that a single record exceeds."""

    def data_received(self, data: bytes) -> None:
        """Answer, twice."""
        super().data_received(data)
        transport = self.transport
        for _ in range(2):
            transport.write(data)
            self.calls.append(f"{transport.get_write_buffer_size()} wait")
            transport.write(data)
            transport.set_write_buffer_limits(high=1)
            assert transport.get_write_buffer_limits() == (0, 1)


async def test_nothing_waits_of_an_answer_that_the_inner_transport_takes(loop: Loop) -> None:
    async with tls_linked(loop, Asking) as (ours, peer):
        await peer.send(b"data")
        assert await peer.receive(16) == 4 * b"data"
        assert ours.calls == ["connection_made", "data_received", "0 wait", "0 wait"]


async def test_drain_waits_for_the_peer(loop: Loop) -> None:
    reading = asyncio.Event()
    total = 8 << 20

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reading.wait()
        data = await reader.readexactly(total)
        writer.write(b"%d" % len(data))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
    # Else the kernel takes as much as it sees fit, which may be all.
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context(), server_hostname=HOST
    )

    async def send() -> None:
        for _ in range(total >> 16):
            writer.write(BIG[: 1 << 16])
            await writer.drain()

    sending = asyncio.create_task(send())
    await until(lambda: writer.transport.get_write_buffer_size() >= 512 * 1024)
    await turns(10)
    assert not sending.done()
    reading.set()
    await sending
    assert await reader.read() == b"%d" % total
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_close_with_a_backlog_sends_all_of_it(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        ends.server.transport.pause_reading()
        for _ in range(4):
            ends.client.transport.write(BIG)
        assert ends.client.transport.get_write_buffer_size() > 0
        ends.client.transport.close()
        await turns(10)
        assert not ends.client.lost.done()
        ends.server.transport.resume_reading()
        assert await ends.server.received(4 * len(BIG)) == 4 * BIG
        assert await ends.server.lost is None
        assert await ends.client.lost is None


async def test_reading_is_paused_and_resumed(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        assert ours.transport.is_reading()
        ours.transport.pause_reading()
        ours.transport.pause_reading()
        assert not ours.transport.is_reading()
        await peer.send(b"waits")
        await turns(5)
        assert ours.calls == ["connection_made"]
        ours.transport.resume_reading()
        ours.transport.resume_reading()
        assert ours.transport.is_reading()
        assert "data_received" not in ours.calls
        assert await ours.received(5) == b"waits"


async def test_the_end_waits_for_reading_to_be_resumed(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.pause_reading()
        await peer.send(b"unread")
        peer.sock.shutdown(socket.SHUT_WR)
        await turns(10)
        assert ours.calls == ["connection_made"]
        ours.transport.resume_reading()
        assert await ours.lost is None
        assert bytes(ours.data) == b"unread"
        assert ours.calls[-2:] == ["eof_received", "connection_lost"]


async def test_pausing_in_data_received(loop: Loop) -> None:
    class Pausing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async with tls_linked(loop, Pausing) as (ours, peer):
        await peer.send(b"one")
        assert await ours.received(3) == b"one"
        await peer.send(b"two")
        await turns(5)
        assert ours.calls.count("data_received") == 1
        ours.transport.resume_reading()
        assert await ours.received(3) == b"two"


async def test_tls_write_buffer_limits(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, _):
        transport = ours.transport
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            transport.set_write_buffer_limits(1, 2)


async def test_tls_read_buffer_limits(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        transport = ours.transport
        assert transport.get_read_buffer_limits() == (64 * 1024, 256 * 1024)  # type: ignore[attr-defined]
        transport.set_read_buffer_limits(high=1000)  # type: ignore[attr-defined]
        assert transport.get_read_buffer_limits() == (250, 1000)  # type: ignore[attr-defined]
        transport.pause_reading()
        await peer.send(bytes(5000))
        await until(lambda: transport.get_read_buffer_size() >= 1000)  # type: ignore[attr-defined]
        transport.resume_reading()
        assert await ours.received(5000) == bytes(5000)
        assert transport.get_read_buffer_size() == 0  # type: ignore[attr-defined]
        # The inner transport reads again.
        await peer.send(b"more")
        assert await ours.received(4) == b"more"


@pytest.mark.only("cloverleaf")
async def test_a_high_mark_of_zero_pauses_only_when_something_waits(loop: Loop) -> None:
    """asyncio pauses and resumes in turns then, though nothing waits."""
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.set_write_buffer_limits(0)
        ours.transport.write(b"goes at once")
        assert await peer.receive(12) == b"goes at once"
        assert ours.calls == ["connection_made"]
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours.transport.write(BIG)
        assert ours.calls[-1] == "pause_writing"
        assert await peer.receive(len(BIG)) == BIG
        assert ours.calls[-1] == "resume_writing"


async def test_every_bytes_like_object_is_written(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        write = ours.transport.write
        for data in (b"bytes", bytearray(b"array"), memoryview(b"-view-")[1:5]):
            write(data)
        write(b"")
        ours.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
        ours.transport.writelines([])
        assert await peer.receive(17) == b"bytesarrayviewabc"
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
            write("text")  # type: ignore[arg-type]


@pytest.mark.only("cloverleaf")  # asyncio ends the connection, and a handler hears why
async def test_bytes_that_do_not_lie_together_are_refused_over_tls_too(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        with pytest.raises(BufferError):
            ours.transport.write(memoryview(b"abcdef")[::2])
        ours.transport.write(b"only this")
        assert await peer.receive(9) == b"only this"


async def test_a_buffer_may_change_after_write(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        buffer = bytearray(b"before")
        ours.transport.write(buffer)
        buffer[:] = b"after!"
        assert await peer.receive(6) == b"before"


@pytest.mark.only("cloverleaf")
async def test_a_waiting_buffer_may_change_after_write(loop: Loop) -> None:
    """asyncio keeps a reference to it while it waits, so the peer may get what it became."""
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.write(BIG)
        ours.transport.write(BIG)
        assert ours.transport.get_write_buffer_size() > 0
        buffer = bytearray(b"before")
        ours.transport.write(buffer)
        buffer[:] = b"after!"
        buffer.extend(b"and it may grow")
        assert (await peer.receive(2 * len(BIG) + 6))[-6:] == b"before"


async def test_write_eof_is_not_possible(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, _):
        assert not ours.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            ours.transport.write_eof()


async def test_set_protocol_takes_effect_at_once(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        second = Buffered(loop)
        ours.transport.set_protocol(second)
        assert ours.transport.get_protocol() is second
        await peer.send(b"second")
        assert await second.received(6) == b"second"
        ours.transport.set_protocol(ours)
        await peer.send(b"first")
        assert await ours.received(5) == b"first"


class Viewing(Buffered):
    """Lends a view, as asyncio's own transport needs it."""

    def get_buffer(self, sizehint: int) -> memoryview:  # type: ignore[override]
        """Lend the buffer."""
        return memoryview(super().get_buffer(sizehint))


async def test_a_buffered_protocol_over_tls(loop: Loop) -> None:
    async with tls_linked(loop, Viewing) as (ours, peer):
        await peer.send(BIG[:300_000])
        assert await ours.received(300_000) == BIG[:300_000]
        assert ours.calls[:2] == ["connection_made", "get_buffer"]
        await peer.say_goodbye()
        assert await ours.lost is None
        # asyncio asks for buffers that it has no use for.
        calls = [call for call in ours.calls if call != "get_buffer"]
        assert calls[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("size", [1, 7, 4096, 100_000])
async def test_a_buffered_protocol_may_lend_a_bytearray(loop: Loop, size: int) -> None:
    """asyncio loses what it reads into a copy of it."""
    async with tls_linked(loop, lambda loop: Buffered(loop, size)) as (ours, peer):
        await peer.send(BIG[:40_000])
        assert await ours.received(40_000) == BIG[:40_000]


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("announced", [True, False])
async def test_small_buffers_lose_nothing_at_the_end(loop: Loop, announced: bool) -> None:
    """asyncio drops what has found no room in the first buffer when the connection ends."""
    async with tls_linked(loop, lambda loop: Buffered(loop, 100)) as (ours, peer):
        peer.tls.write(BIG[:50_000])
        records = peer.outgoing.read()
        if announced:
            records += peer.announce_end()
        await loop.sock_sendall(peer.sock, records)
        peer.sock.shutdown(socket.SHUT_WR)
        assert await ours.lost is None
        assert bytes(ours.data) == BIG[:50_000]
        assert ours.calls[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.only("cloverleaf")
async def test_a_paused_buffered_protocol_gets_the_rest_later(loop: Loop) -> None:
    class Pausing(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.made.result().pause_reading()

    async with tls_linked(loop, lambda loop: Pausing(loop, 1000)) as (ours, peer):
        peer.tls.write(BIG[:5000])
        await loop.sock_sendall(peer.sock, peer.outgoing.read() + peer.announce_end())
        for count in range(1, 6):
            await until(lambda: len(ours.data) >= count * 1000)  # noqa: B023
            await turns(5)
            assert len(ours.data) == count * 1000
            ours.made.result().resume_reading()
        assert await ours.lost is None
        assert bytes(ours.data) == BIG[:5000]


@pytest.mark.only("cloverleaf")
async def test_an_empty_buffer_is_an_error(loop: Loop, contexts: list[Context]) -> None:
    """asyncio takes it for the end of the connection."""
    async with tls_linked(loop, lambda loop: Buffered(loop, 0)) as (ours, peer):
        await peer.send(b"x")
        assert isinstance(await ours.lost, RuntimeError)
        assert ours.calls == ["connection_made", "get_buffer", "connection_lost"]
    assert [str(each["exception"]) for each in contexts] == [
        "get_buffer() returned an empty buffer"
    ]


async def test_an_exception_in_get_buffer_ends_the_connection(
    loop: Loop, contexts: list[Context]
) -> None:
    armed = False

    class Failing(Viewing):
        def get_buffer(self, sizehint: int) -> memoryview:  # type: ignore[override]
            if armed:
                raise ZeroDivisionError
            return super().get_buffer(sizehint)

    async with tls_linked(loop, Failing) as (ours, peer):
        armed = True
        await peer.send(b"x")
        assert isinstance(await ours.lost, ZeroDivisionError)
    assert [context["message"] for context in contexts] == ["Fatal error on SSL protocol"]


async def test_an_exception_in_pause_writing_is_reported(
    loop: Loop, contexts: list[Context]
) -> None:
    class Failing(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            raise ZeroDivisionError

    async with tls_linked(loop, Failing) as (ours, peer):
        ours.transport.write(BIG)
        ours.transport.write(BIG)
        await until(lambda: "pause_writing" in ours.calls)
        assert len(await peer.receive(2 * len(BIG))) == 2 * len(BIG)
    [context] = contexts
    assert context["message"] == "protocol.pause_writing() failed"
    assert isinstance(context["exception"], ZeroDivisionError)


@pytest.mark.only("cloverleaf")  # asyncio makes records of the same bytes twice
async def test_what_comes_while_the_backlog_becomes_records_is_sent_behind_it(loop: Loop) -> None:
    context = client_context()
    tail: list[bytes] = []

    def on_record(_: object, direction: str, *__: object) -> None:
        if direction == "write" and tail:
            ends.client.transport.write(tail.pop())

    context._msg_callback = on_record  # type: ignore[attr-defined]
    async with tls_ends(loop, client_ssl=context) as ends:
        ends.server.transport.pause_reading()
        sent = bytearray()
        while "pause_writing" not in ends.client.calls:
            ends.client.transport.write(BIG[len(sent) % 251 :][:40_000])
            sent += BIG[len(sent) % 251 :][:40_000]
            await asyncio.sleep(0)
        tail.append(b"tail")
        ends.server.transport.resume_reading()
        assert await ends.server.received(len(sent) + 4) == sent + b"tail"
        assert tail == []


@pytest.mark.only("cloverleaf")  # asyncio makes records of the same bytes twice
@pytest.mark.parametrize("size", [16_385, 100_000, 400_000])
@pytest.mark.parametrize("closes", [False, True])
async def test_what_comes_while_a_message_becomes_records_is_sent_behind_it(
    loop: Loop, size: int, closes: bool
) -> None:
    context = client_context()
    tail: list[bytes] = []

    def on_record(_: object, direction: str, *__: object) -> None:
        if direction == "write" and tail:
            ends.client.transport.write(tail.pop())
            if closes:
                ends.client.transport.close()

    context._msg_callback = on_record  # type: ignore[attr-defined]
    async with tls_ends(loop, client_ssl=context) as ends:
        for first in (b"", b"first"):
            ends.client.transport.write(first)
            tail.append(b"tail")
            ends.client.transport.write(BIG[:size])
            assert tail == []
            whole = first + BIG[:size] + b"tail"
            assert await ends.server.received(len(whole)) == whole
            if closes:
                await ends.server.lost
                break
    assert ends.client.calls[-1] == ends.server.calls[-1] == "connection_lost"
