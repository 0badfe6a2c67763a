"""Stream transports: bytes arrive whole, in order, and to the last one."""

from __future__ import annotations

import array
import asyncio
import random
import re
import socket
import sys
from asyncio import selector_events
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from .harness.complaints import Complaints
from .harness.kinds import spares_asyncio
from .harness.links import both_ends, drain, linked, small_buffers, tcp_pair
from .harness.protocols import Echo, Recorder
from .harness.types import Loop

MEBIBYTE = 1 << 20

pairs = pytest.mark.parametrize("pair", [socket.socketpair, tcp_pair], ids=["unix", "tcp"])


def pattern(size: int, seed: int = 0) -> bytes:
    """Return bytes in which a lost, doubled or moved piece shows."""
    return random.Random(seed).randbytes(size)


async def test_order_sixteen_mebibytes_come_back_after_a_half_close(loop: Loop) -> None:
    data = pattern(16 * MEBIBYTE)
    async with both_ends(loop, server=Echo) as ends:
        ends.client.transport.write(data)
        ends.client.transport.write_eof()
        assert await ends.client.received(len(data)) == data
        assert await ends.client.lost is None
        assert await ends.server.lost is None


async def test_order_many_writes_of_all_sizes_arrive_as_one_stream(loop: Loop) -> None:
    chance = random.Random(7)
    pieces = [chance.randbytes(chance.choice((1, 10, 100, 5000, 70_000))) for _ in range(400)]
    async with both_ends(loop) as ends:
        for piece in pieces:
            ends.client.transport.write(piece)
        whole = b"".join(pieces)
        assert await ends.server.received(len(whole)) == whole


@pairs
async def test_a_write_is_sent_at_once(
    loop: Loop, pair: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    async with linked(loop, Recorder, pair) as (ours, peer):
        ours.transport.write(b"now")
        assert peer.recv(10) == b"now"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_every_bytes_like_object_can_be_written(
    loop: Loop, make: Callable[[bytes], bytes]
) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.write(make(b"data"))
        assert peer.recv(10) == b"data"


async def test_parts_of_a_memoryview_can_be_written(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.write(memoryview(b"0123456789")[2:5])
        ours.transport.write(memoryview(bytearray(b"0123456789"))[7:])
        assert peer.recv(10) == b"234789"


@pytest.mark.only("cloverleaf")  # asyncio counts items where bytes are meant, and stalls
async def test_memoryviews_of_wide_items_are_sent_whole(loop: Loop) -> None:
    numbers = array.array("I", range(1_000_000))
    async with both_ends(loop) as ends:
        ends.client.transport.write(memoryview(numbers))
        ends.client.transport.writelines([memoryview(numbers)])
        expected = numbers.tobytes() * 2
        assert await ends.server.received(len(expected)) == expected


# asyncio's words became exact in 3.13.8 and 3.14.1 (gh-138703).
EXACT = sys.version_info >= (3, 14, 1) or (3, 13, 8) <= sys.version_info < (3, 14)
WANTED = "bytes, bytearray, or memoryview" if EXACT else "bytes-like"


@pytest.mark.parametrize("wrong", ["text", None, 42, [b"x"], object()])
async def test_what_is_not_bytes_cannot_be_written(loop: Loop, wrong: bytes) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        text = f"^data argument must be a {WANTED} object, not '{type(wrong).__name__}'$"
        with pytest.raises(TypeError, match=text):
            ours.transport.write(wrong)
        ours.transport.write(b"still open")
        assert peer.recv(20) == b"still open"


async def test_writing_nothing_sends_nothing(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.write(b"")
        ours.transport.writelines([])
        ours.transport.write(b"x")
        assert peer.recv(10) == b"x"


async def test_writelines_sends_all_in_order(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three"), b""])
        assert peer.recv(20) == b"one two three"


async def test_writelines_takes_more_pieces_than_the_kernel_does_at_once(loop: Loop) -> None:
    pieces = [b"%06d" % n for n in range(5000)]
    async with both_ends(loop) as ends:
        ends.client.transport.writelines(pieces)
        assert await ends.server.received(30_000) == b"".join(pieces)


@pytest.mark.parametrize("gather", [list, tuple, iter])
@pytest.mark.parametrize(
    "sizes",
    [(1,), (16_383,), (16_384,), (70_000,), (1, 0, 16_382), (1, 16_382, 1), (300,) * 90],
    ids=str,
)
async def test_writelines_sends_short_and_long_pieces_alike(
    loop: Loop, sizes: tuple[int, ...], gather: Callable[[list[bytes]], Any]
) -> None:
    pieces = [pattern(size, seed) for seed, size in enumerate(sizes)]
    async with both_ends(loop) as ends:
        for _ in range(3):
            ends.client.transport.writelines(gather(pieces))
        expected = b"".join(pieces) * 3
        assert await ends.server.received(len(expected)) == expected


async def test_writelines_of_short_pieces_waits_for_room_whole(loop: Loop) -> None:
    piece, turns = pattern(3000), 4000
    async with both_ends(loop) as ends:
        for _ in range(turns):
            ends.client.transport.writelines([piece, b"|"])
        assert ends.client.transport.get_write_buffer_size() > 0
        expected = (piece + b"|") * turns
        assert await ends.server.received(len(expected)) == expected


async def test_writelines_takes_any_iterable(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.writelines(piece for piece in (b"a", b"b"))
        ours.transport.writelines((b"c", b"d"))
        assert peer.recv(10) == b"abcd"


def takes_what_is_false() -> bool:
    """Tell whether asyncio takes whatever is false for no bytes, as it does since gh-155888."""
    transport: Any = SimpleNamespace(_eof=False, _empty_waiter=None, _conn_lost=0, _buffer=deque())
    theirs: Any = selector_events
    try:
        theirs._SelectorSocketTransport.writelines(transport, [None])
    except TypeError:
        return False
    return True


# From 3.15 on asyncio keeps what came before, and then sends nothing any more.
late = pytest.param([b"good", object()], marks=spares_asyncio(sys.version_info >= (3, 15)))


@pytest.mark.parametrize("wrong", [["text"], late, [1], 42])
async def test_writelines_of_what_is_not_bytes_is_refused(loop: Loop, wrong: list[bytes]) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        with pytest.raises(TypeError):
            ours.transport.writelines(wrong)
        ours.transport.write(b"only this")
        assert peer.recv(20) == b"only this"


@pytest.mark.parametrize("nothing", [None, "", 0, ()])
async def test_a_piece_that_is_false_is_none_where_asyncio_says_so(
    loop: Loop, nothing: Any
) -> None:
    large = pattern(100_000)
    async with both_ends(loop) as ends:
        for pieces in ([b"a", nothing, b"b"], [nothing, large], [large, nothing], [nothing]):
            if takes_what_is_false():
                ends.client.transport.writelines(pieces)
            else:
                with pytest.raises(TypeError):
                    ends.client.transport.writelines(pieces)
        ends.client.transport.write(b"c")
        expected = b"ab" + large + large + b"c" if takes_what_is_false() else b"c"
        assert await ends.server.received(len(expected)) == expected


joins = sys.version_info < (3, 12)


@pytest.mark.skipif(joins, reason="until Python 3.12 sockets join what they are given")
@pytest.mark.parametrize("nothing", [None, (), "", 0])
async def test_writelines_takes_what_is_false_for_nothing(loop: Loop, nothing: Any) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.writelines(nothing)
        ours.transport.write(b"only this")
        assert peer.recv(20) == b"only this"


SCATTERED = memoryview(b"abcdef")[::2]


@pytest.mark.only("cloverleaf")  # asyncio ends the connection, and a handler hears why
async def test_bytes_that_do_not_lie_together_are_refused_and_the_connection_goes_on(
    loop: Loop,
) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        with pytest.raises(BufferError):
            ours.transport.write(SCATTERED)
        # Until 3.12 the pieces are joined, which says it in another way.
        with pytest.raises(BufferError if sys.version_info >= (3, 12) else TypeError):
            ours.transport.writelines([b"x", SCATTERED])
        ours.transport.write(b"only this")
        assert peer.recv(20) == b"only this"


async def test_whether_bytes_lie_together_matters_to_an_open_connection_only(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.write_eof()
        with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
            ours.transport.write(SCATTERED)
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.close()
        ours.transport.write(SCATTERED)


def sees_the_end_first() -> bool:
    """Tell whether asyncio looks at no pieces for a connection that is over."""
    writelines: Any = cast("Any", selector_events)._SelectorSocketTransport.writelines
    return "_conn_lost" in writelines.__code__.co_names


async def test_pieces_for_a_connection_that_is_over_are_looked_at_as_asyncio_does(
    loop: Loop, logged: Complaints
) -> None:
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.close()
        for wrong in ([1], 42, (1 // 0 for _ in "x"), [b""], [], [1], [1]):
            if sees_the_end_first():
                ours.transport.writelines(wrong)  # type: ignore[arg-type]
        if not sees_the_end_first():
            with pytest.raises(TypeError):
                ours.transport.writelines([1])  # type: ignore[list-item]
    # The fifth that is not false is warned of, and each after it.
    expected = 2 * ["socket.send() raised exception."] if sees_the_end_first() else []
    assert logged.take() == expected


@pytest.mark.parametrize(
    ("wrong", "message", "joined"),
    [
        (
            [1],
            "memoryview: a bytes-like object is required, not 'int'",
            "sequence item 0: expected a bytes-like object, int found",
        ),
        (
            "text",
            "memoryview: a bytes-like object is required, not 'str'",
            "sequence item 0: expected a bytes-like object, str found",
        ),
        (42, "'int' object is not iterable", "can only join an iterable"),
    ],
)
async def test_writelines_says_what_it_wants(
    loop: Loop, wrong: Any, message: str, joined: str
) -> None:
    async with linked(loop, Recorder) as (ours, _):
        with pytest.raises(TypeError, match=f"^{re.escape(joined if joins else message)}$"):
            ours.transport.writelines(wrong)


async def test_writelines_behind_a_waiting_write_keeps_the_order(loop: Loop) -> None:
    big, lines = pattern(4 * MEBIBYTE), [b"a" * 1000, b"b" * 1000]
    async with both_ends(loop) as ends:
        ends.client.transport.write(big)
        ends.client.transport.writelines(lines)
        ends.client.transport.write(b"end")
        expected = big + b"".join(lines) + b"end"
        assert await ends.server.received(len(expected)) == expected


@pytest.mark.only("cloverleaf")  # asyncio since 3.12 keeps a reference: later changes go out
async def test_a_buffer_may_be_changed_after_write_returns(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        size = 8 * MEBIBYTE
        buffer = bytearray(b"a" * size)
        ends.client.transport.write(buffer)
        assert ends.client.transport.get_write_buffer_size() > 0
        buffer[:] = b"b" * size
        ends.client.transport.writelines([memoryview(buffer)])
        buffer[:] = b"c" * size
        assert await ends.server.received(2 * size) == b"a" * size + b"b" * size


@pytest.mark.only("cloverleaf")  # asyncio since 3.12 keeps a reference: the buffer stays exported
async def test_a_bytearray_may_be_resized_after_write_returns(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        buffer = bytearray(8 * MEBIBYTE)
        ends.client.transport.write(buffer)
        buffer.clear()
        await ends.server.received(8 * MEBIBYTE)


class Clearing(Recorder):
    """Clears a buffer as soon as it is told to pause."""

    def __init__(self, loop: Loop, buffer: bytearray) -> None:
        super().__init__(loop)
        self.buffer = buffer

    def pause_writing(self) -> None:
        self.buffer.clear()


@pytest.mark.only("cloverleaf")  # asyncio since 3.12 keeps a reference: the buffer stays exported
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_a_bytearray_may_be_resized_when_writing_pauses(loop: Loop, method: str) -> None:
    buffer = bytearray(8 * MEBIBYTE)
    async with both_ends(loop, client=lambda loop: Clearing(loop, buffer)) as ends:
        write = getattr(ends.client.transport, method)
        write(buffer if method == "write" else [buffer])
        assert not buffer
        await ends.server.received(8 * MEBIBYTE)


async def test_a_large_write_of_a_buffer_that_is_let_go_arrives(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        ends.client.transport.write(memoryview(bytearray(b"x" * (8 * MEBIBYTE))))
        assert set(await ends.server.received(8 * MEBIBYTE)) == {ord("x")}


@pairs
async def test_close_sends_what_was_written_before(
    loop: Loop, pair: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    data = pattern(2 * MEBIBYTE)
    async with linked(loop, Recorder, pair) as (ours, peer):
        ours.transport.write(data)
        ours.transport.close()
        assert ours.transport.is_closing()
        assert await loop.run_in_executor(None, drain, peer) == data
        assert await ours.lost is None


async def test_write_eof_sends_what_was_written_before(loop: Loop) -> None:
    data = pattern(2 * MEBIBYTE)
    async with linked(loop, Recorder, tcp_pair) as (ours, peer):
        ours.transport.write(data)
        ours.transport.write_eof()
        assert await loop.run_in_executor(None, drain, peer) == data
        peer.send(b"the other way is open")
        assert await ours.received(21) == b"the other way is open"
        assert not ours.transport.is_closing()


async def test_what_the_peer_sent_before_it_closed_is_received(loop: Loop) -> None:
    data = pattern(100_000)
    async with linked(loop, Recorder) as (ours, peer):
        peer.sendall(data)
        peer.close()
        assert await ours.received(len(data)) == data
        assert await ours.lost is None
        assert ours.calls[-2:] == ["eof_received", "connection_lost"]


async def test_messages_of_a_size_come_whole_once_the_size_is_known(loop: Loop) -> None:
    sizes: list[int] = []

    class Sizes(Recorder):
        def data_received(self, data: bytes) -> None:
            sizes.append(len(data))
            super().data_received(data)

    async with linked(loop, Sizes) as (ours, peer):
        for size in [5000, *[16_384] * 20]:  # twice the room that the first leaves
            peer.sendall(bytes(size))
            await ours.received(size)
    assert sizes[-19:] == [16_384] * 19


async def test_no_more_is_received_at_a_time_than_asyncio_asks_for(loop: Loop) -> None:
    sizes: list[int] = []

    class Sizes(Recorder):
        def data_received(self, data: bytes) -> None:
            sizes.append(len(data))
            super().data_received(data)

    ours, peer = socket.socketpair()  # whose buffers take as much as is set, unlike TCP's
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MEBIBYTE)
    with peer:
        transport, protocol = await loop.create_connection(lambda: Sizes(loop), sock=ours)
        sending = loop.run_in_executor(None, peer.sendall, bytes(16 * MEBIBYTE))
        await protocol.received(16 * MEBIBYTE)
        await sending
        transport.close()
    assert max(sizes) <= 256 * 1024


async def test_data_that_came_with_the_connection_follows_connection_made(loop: Loop) -> None:
    ours, theirs = tcp_pair()
    with theirs:
        theirs.sendall(b"early")
        theirs.shutdown(socket.SHUT_WR)
        protocol = Recorder(loop)
        await loop.connect_accepted_socket(lambda: protocol, ours)
        assert await protocol.lost is None
        assert protocol.data == b"early"
        assert protocol.calls == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]


async def test_pause_and_resume_at_random_lose_nothing(loop: Loop) -> None:
    chance = random.Random(11)
    data = pattern(3 * MEBIBYTE)

    class Pausing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if chance.random() < 0.5:
                self.transport.pause_reading()
                resume = self.transport.resume_reading
                if chance.random() < 0.5:
                    loop.call_soon(resume)
                else:
                    loop.call_later(chance.random() / 1000, resume)

    async with both_ends(loop, server=Pausing) as ends:
        view, position = memoryview(data), 0
        while position < len(data):
            size = chance.randrange(1, 100_000)
            ends.client.transport.write(view[position : position + size])
            position += size
            await asyncio.sleep(0)
        assert await ends.server.received(len(data)) == data


async def test_both_ends_may_write_at_once(loop: Loop) -> None:
    there, back = pattern(4 * MEBIBYTE, 1), pattern(4 * MEBIBYTE, 2)
    async with both_ends(loop) as ends:
        ends.client.transport.write(there)
        ends.server.transport.write(back)
        assert await ends.server.received(len(there)) == there
        assert await ends.client.received(len(back)) == back


async def test_small_kernel_buffers_change_nothing(loop: Loop) -> None:
    data = pattern(30_000)
    async with linked(loop, Recorder, tcp_pair) as (ours, peer):
        small_buffers(ours.transport.get_extra_info("socket"), peer)
        ours.transport.write(data)
        ours.transport.close()
        assert await loop.run_in_executor(None, drain, peer) == data


async def test_nagles_algorithm_is_off(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        for each in (ends.client, ends.server):
            sock = each.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
