"""Several writes in answer to one event: in order, complete, as if each had been sent at once."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from .harness.complaints import Complaints
from .harness.links import accepted, everything, linked, tcp_pair
from .harness.protocols import Recorder
from .harness.turns import until
from .harness.types import Loop

MANY = 3000


class Answering(Recorder):
    """Does what the test wants when it is told of data."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.answer: Callable[[asyncio.Transport], object] = repr
        self.error: BaseException | None = None

    def data_received(self, data: bytes) -> None:
        """Answer; what goes wrong is the test's to see."""
        super().data_received(data)
        try:
            self.answer(self.transport)
        except BaseException as error:
            self.error = error
            raise


@asynccontextmanager
async def answering(loop: Loop) -> AsyncIterator[tuple[Answering, socket.socket]]:
    """Give a protocol that answers over TCP, and the plain socket of its peer."""
    async with accepted(loop, Answering) as (protocol, peer):
        yield protocol, peer


async def answered(loop: Loop, answer: Callable[[asyncio.Transport], object]) -> bytes:
    """Return what the peer of a transport receives that answers once, and then closes."""
    async with answering(loop) as (ours, peer):

        def then_close(transport: asyncio.Transport) -> None:
            answer(transport)
            loop.call_soon(transport.close)

        ours.answer = then_close
        peer.sendall(b"?")
        received = await loop.run_in_executor(None, everything, peer)
        assert ours.error is None
        return received


async def test_order_answers_in_pieces_arrive_in_order(loop: Loop) -> None:
    pieces = [b"%d," % number for number in range(MANY)]

    def answer(transport: asyncio.Transport) -> None:
        for piece in pieces:
            transport.write(piece)

    assert await answered(loop, answer) == b"".join(pieces)


async def test_order_pieces_of_every_size_and_kind_arrive_in_order(loop: Loop) -> None:
    sizes = [1, 4095, 4096, 4097, 1, 1 << 20, 7, 0, 65_536, 3, 200_000, 1, 1, 5000, 2]
    pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes * 3)]

    def answer(transport: asyncio.Transport) -> None:
        for number, piece in enumerate(pieces):
            if number % 3 == 0:
                transport.write(piece)
            elif number % 3 == 1:
                transport.writelines([piece[:10], b"", piece[10:]])
            else:
                transport.write(memoryview(bytearray(piece)))

    assert await answered(loop, answer) == b"".join(pieces)


async def test_what_was_written_may_be_changed_afterwards(loop: Loop) -> None:
    def answer(transport: asyncio.Transport) -> None:
        for _ in range(3):
            piece = bytearray(b"as it was ")
            transport.write(piece)
            piece[:] = b"different!"

    assert await answered(loop, answer) == b"as it was " * 3


async def test_nothing_waits_where_the_kernel_has_room(loop: Loop) -> None:
    sizes: list[int] = []

    def answer(transport: asyncio.Transport) -> None:
        for _ in range(4):
            transport.write(b"piece")
            sizes.append(transport.get_write_buffer_size())

    assert await answered(loop, answer) == b"piece" * 4
    assert sizes == [0, 0, 0, 0]


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
async def test_the_end_comes_after_what_was_written(loop: Loop, end: str) -> None:
    async with answering(loop) as (ours, peer):

        def answer(transport: asyncio.Transport) -> None:
            for number in range(5):
                transport.write(b"%d" % number)
            getattr(transport, end)()

        ours.answer = answer
        peer.sendall(b"?")
        assert await loop.run_in_executor(None, everything, peer) == b"01234"
        assert ours.error is None


async def test_a_failing_protocol_has_written_what_it_wrote(loop: Loop) -> None:
    loop.set_exception_handler(lambda _loop, _context: None)
    async with answering(loop) as (ours, peer):

        def answer(transport: asyncio.Transport) -> None:
            for number in range(5):
                transport.write(b"%d" % number)
            raise LookupError("on purpose")

        ours.answer = answer
        peer.sendall(b"?")
        assert await loop.run_in_executor(None, everything, peer) == b"01234"
        assert isinstance(await ours.lost, LookupError)


def test_what_ends_the_loop_does_not_hold_answers_back(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    peer.settimeout(60)
    protocol = Answering(loop)

    def answer(transport: asyncio.Transport) -> None:
        for number in range(5):
            transport.write(b"%d" % number)
        raise SystemExit(3)

    async def main() -> None:
        await loop.create_connection(lambda: protocol, sock=ours)
        protocol.answer = answer
        peer.sendall(b"?")
        await loop.create_future()

    with peer:
        task = loop.create_task(main())
        with pytest.raises(SystemExit):
            loop.run_until_complete(task)
        received = b""
        while len(received) < 5:
            received += peer.recv(5)
        assert received == b"01234"
        protocol.transport.abort()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)


async def test_answers_to_others_are_sent_as_well(loop: Loop) -> None:
    async with (
        answering(loop) as (ours, peer),
        accepted(loop, Recorder) as (other, others_peer),
    ):

        def answer(transport: asyncio.Transport) -> None:
            for number in range(5):
                transport.write(b"%d" % number)
                other.transport.write(b"%d" % (9 - number))
            loop.call_soon(transport.close)
            loop.call_soon(other.transport.close)

        ours.answer = answer
        peer.sendall(b"?")
        assert await loop.run_in_executor(None, everything, peer) == b"01234"
        assert await loop.run_in_executor(None, everything, others_peer) == b"98765"


async def test_pause_writing_comes_within_the_write_that_is_too_much(loop: Loop) -> None:
    seen: list[tuple[int, bool]] = []
    async with answering(loop) as (ours, peer):

        def answer(transport: asyncio.Transport) -> None:
            transport.set_write_buffer_limits(high=2000)
            while transport.get_write_buffer_size() <= 2000:
                transport.write(bytes(1000))
                paused = "pause_writing" in ours.calls
                seen.append((transport.get_write_buffer_size(), paused))

        ours.answer = answer
        peer.sendall(b"?")
        await until(lambda: seen)
        assert ours.error is None
        assert 2000 < seen[-1][0] <= 3000
        assert all(paused is (size > 2000) for size, paused in seen)


async def test_a_high_mark_of_zero_pauses_at_the_first_byte_that_waits(loop: Loop) -> None:
    sizes: list[int] = []
    async with answering(loop) as (ours, peer):

        def answer(transport: asyncio.Transport) -> None:
            transport.set_write_buffer_limits(high=0)
            while "pause_writing" not in ours.calls:
                transport.write(bytes(100))
            sizes.append(transport.get_write_buffer_size())

        ours.answer = answer
        peer.sendall(b"?")
        await until(lambda: sizes)
        assert 0 < sizes[0] <= 100


async def test_a_socket_that_is_asked_for_is_up_to_date(loop: Loop) -> None:
    async with answering(loop) as (ours, peer):

        def answer(transport: asyncio.Transport) -> None:
            for number in range(3):
                transport.write(b"%d" % number)
            sock = transport.get_extra_info("socket")
            duplicate = sock.dup()
            duplicate.sendall(b"behind")
            duplicate.close()
            loop.call_soon(transport.close)

        ours.answer = answer
        peer.sendall(b"?")
        assert await loop.run_in_executor(None, everything, peer) == b"012behind"
        assert ours.error is None


@pytest.mark.parametrize("act", ["send", "descriptor", "shutdown", "close", "duplicate"])
@pytest.mark.parametrize("whence", ["brought", "asked for"])
async def test_a_socket_that_is_known_is_always_up_to_date(
    loop: Loop, act: str, whence: str
) -> None:
    brought, theirs = tcp_pair()
    theirs.settimeout(60)
    made = (
        linked(loop, Answering, lambda: (brought, theirs))
        if whence == "brought"
        else answering(loop)
    )
    with brought, theirs:
        async with made as (ours, peer):
            assert isinstance(ours, Answering)
            known = brought
            if whence == "asked for":
                known = ours.transport.get_extra_info("socket")._sock
            duplicate = known.dup()

            def answer(transport: asyncio.Transport) -> None:
                for number in range(3):
                    transport.write(b"%d" % number)
                match act:
                    case "send":
                        known.send(b"behind")
                    case "descriptor":
                        os.write(known.fileno(), b"behind")
                    case "duplicate":
                        duplicate.send(b"behind")
                    case "shutdown":
                        known.shutdown(socket.SHUT_WR)
                    case _:
                        known.close()
                if act != "shutdown":
                    loop.call_soon(duplicate.shutdown, socket.SHUT_WR)

            ours.answer = answer
            with duplicate:
                peer.sendall(b"?")
                received = await loop.run_in_executor(None, everything, peer)
            assert received == b"012" + b"behind" * (act in {"send", "descriptor", "duplicate"})
            assert ours.error is None


async def test_a_peer_that_is_gone_is_told_of_once(loop: Loop, logged: Complaints) -> None:
    async with answering(loop) as (ours, peer):

        def answer(transport: asyncio.Transport) -> None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            for number in range(4):
                transport.write(b"%d" % number)

        ours.answer = answer
        peer.sendall(b"?")
        assert isinstance(await ours.lost, ConnectionError)
        assert ours.error is None
    assert logged.records == []


async def test_a_buffered_protocol_answers_in_pieces(loop: Loop) -> None:
    class Answers(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.room = bytearray(100)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.room

        def buffer_updated(self, nbytes: int) -> None:
            for each in self.room[:nbytes]:
                self.transport.write(bytes([each]))
            self.transport.close()

    ours, peer = tcp_pair()
    peer.settimeout(60)
    with peer:
        await loop.create_connection(Answers, sock=ours)
        peer.sendall(b"in pieces")
        assert await loop.run_in_executor(None, everything, peer) == b"in pieces"
