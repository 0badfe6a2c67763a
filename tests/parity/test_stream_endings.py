"""How a connection ends: EOF, close, abort, reset; ``connection_lost`` comes once, last."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import weakref

import pytest

from .harness.complaints import Complaints
from .harness.leaks import descriptors
from .harness.links import both_ends, linked, tcp_pair
from .harness.protocols import Recorder
from .harness.turns import turns, until
from .harness.types import Context, Loop

BIG = bytes(4 << 20)
TCP_CLOSE = 7


def reset(sock: socket.socket) -> None:
    """Close so that the peer gets RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_gone(ours: Recorder) -> bool:
    """Whether the kernel knows that the peer has reset the connection."""
    sock = ours.transport.get_extra_info("socket")
    state: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == TCP_CLOSE


class KeepOpen(Recorder):
    """Answers EOF with the wish to go on writing."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.keep_open = True


async def test_endings_connection_lost_comes_once_and_last(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        peer.sendall(b"x")
        await ours.received(1)
        ours.transport.close()
        ours.transport.close()
        ours.transport.abort()
        peer.close()
        assert await ours.lost is None
        await turns(5)
        assert ours.calls == ["connection_made", "data_received", "connection_lost"]


async def test_connection_lost_is_not_called_inside_close(loop: Loop) -> None:
    for end in ("close", "abort"):
        async with linked(loop, Recorder) as (ours, _):
            getattr(ours.transport, end)()
            assert not ours.lost.done()
            assert ours.transport.is_closing()
            assert await ours.lost is None


async def test_the_peers_end_closes_the_transport(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        peer.shutdown(socket.SHUT_WR)
        assert await ours.lost is None
        assert ours.calls == ["connection_made", "eof_received", "connection_lost"]
        assert peer.recv(1) == b""


async def test_a_true_answer_to_eof_keeps_the_transport_open(loop: Loop) -> None:
    async with linked(loop, KeepOpen) as (ours, peer):
        peer.shutdown(socket.SHUT_WR)
        await ours.ended
        await turns(5)
        assert not ours.transport.is_closing()
        ours.transport.write(b"still here")
        assert peer.recv(20) == b"still here"
        ours.transport.close()
        assert await ours.lost is None
        assert ours.calls == ["connection_made", "eof_received", "connection_lost"]
        assert peer.recv(1) == b""


async def test_a_loop_does_not_spin_after_a_kept_eof(loop: Loop) -> None:
    async with linked(loop, KeepOpen) as (ours, peer):
        peer.shutdown(socket.SHUT_WR)
        await ours.ended
        await turns(20)
        assert ours.calls == ["connection_made", "eof_received"]


async def test_whoever_resumes_reading_after_a_kept_eof_hears_of_it_again(loop: Loop) -> None:
    async with linked(loop, KeepOpen) as (ours, peer):
        peer.shutdown(socket.SHUT_WR)
        await ours.ended
        await turns(5)
        ours.transport.resume_reading()
        await turns(5)
        assert ours.calls == ["connection_made", "eof_received"]
        ours.transport.pause_reading()
        other = KeepOpen(loop)
        ours.transport.set_protocol(other)
        await turns(5)
        assert other.calls == []
        ours.transport.resume_reading()
        await turns(20)
        ours.transport.set_protocol(ours)
        ours.transport.close()
        assert await ours.lost is None
        assert other.calls == ["eof_received"]
        assert ours.calls == ["connection_made", "eof_received", "connection_lost"]


async def test_after_eof_close_still_sends_what_waits(loop: Loop) -> None:
    class Answer(Recorder):
        def eof_received(self) -> bool | None:
            self.transport.write(BIG)
            return super().eof_received()

    async with both_ends(loop, server=Answer) as ends:
        ends.client.transport.write_eof()
        assert len(await ends.client.received(len(BIG))) == len(BIG)
        assert await ends.server.lost is None


async def test_abort_drops_what_waits(loop: Loop) -> None:
    async with linked(loop, Recorder, tcp_pair) as (ours, peer):
        ours.transport.write(BIG * 4)
        assert ours.transport.get_write_buffer_size() > 0
        ours.transport.abort()
        assert ours.transport.get_write_buffer_size() == 0
        assert await ours.lost is None
        received = 0
        while piece := await loop.run_in_executor(None, peer.recv, 1 << 20):
            received += len(piece)
        assert received < len(BIG) * 4


async def test_abort_after_close_drops_what_waits(loop: Loop) -> None:
    async with linked(loop, Recorder, tcp_pair) as (ours, _):
        ours.transport.write(BIG * 4)
        ours.transport.close()
        await turns(3)
        assert not ours.lost.done()
        ours.transport.abort()
        assert await ours.lost is None


async def test_close_receives_no_more(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        peer.sendall(b"too late")
        ours.transport.close()
        assert await ours.lost is None
        assert ours.calls == ["connection_made", "connection_lost"]


async def test_a_transport_that_closes_while_data_waits_receives_no_more(loop: Loop) -> None:
    async with linked(loop, Recorder, tcp_pair) as (ours, peer):
        ours.transport.write(BIG * 4)
        ours.transport.close()
        peer.sendall(b"too late")
        await turns(5)
        assert ours.data == b""
        ours.transport.abort()


async def test_a_reset_is_told_to_connection_lost(loop: Loop) -> None:
    async with linked(loop, Recorder, tcp_pair) as (ours, peer):
        reset(peer)
        error = await ours.lost
        assert isinstance(error, ConnectionResetError)
        assert ours.calls == ["connection_made", "connection_lost"]


async def test_a_failing_write_is_told_to_connection_lost(loop: Loop, logged: Complaints) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.pause_reading()
        peer.close()
        ours.transport.write(b"nobody reads this")
        error = await ours.lost
        assert isinstance(error, BrokenPipeError)
        assert logged.take() == []


async def test_a_reset_while_writing_is_told_to_connection_lost(loop: Loop) -> None:
    async with linked(loop, Recorder, tcp_pair) as (ours, peer):
        ours.transport.pause_reading()
        ours.transport.write(BIG * 4)
        reset(peer)
        error = await ours.lost
        assert isinstance(error, ConnectionError)
        assert ours.transport.get_write_buffer_size() == 0


async def test_writing_after_the_end_is_ignored_then_warned_of(
    loop: Loop, logged: Complaints
) -> None:
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.abort()
        for _ in range(4):
            ours.transport.write(b"x")
        assert logged.take() == []
        for _ in range(3):
            ours.transport.write(b"x")
        assert set(logged.take()) == {"socket.send() raised exception."}
        await ours.lost
        ours.transport.write(b"x")
        logged.take()


async def test_write_after_close_is_not_sent(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.close()
        ours.transport.write(b"too late")
        await ours.lost
        assert peer.recv(10) == b""


async def test_write_after_write_eof_is_refused(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.write_eof()
        with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
            ours.transport.write(b"x")


async def test_write_eof_twice_or_after_close_is_ignored(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        assert ours.transport.can_write_eof() is True
        ours.transport.write_eof()
        ours.transport.write_eof()
        assert peer.recv(1) == b""
        ours.transport.close()
        ours.transport.write_eof()
        await ours.lost
        ours.transport.write_eof()


async def test_both_half_closed_ends_the_connection(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        ends.client.transport.write_eof()
        assert await ends.server.lost is None
        assert await ends.client.lost is None


async def test_write_eof_says_that_the_peer_is_gone(loop: Loop) -> None:
    async with linked(loop, Recorder, tcp_pair) as (ours, peer):
        ours.transport.pause_reading()
        reset(peer)
        await until(lambda: is_gone(ours))
        with pytest.raises(OSError, match="not connected"):
            ours.transport.write_eof()
        ours.transport.write_eof()
        assert not ours.transport.is_closing()
        ours.transport.resume_reading()
        assert isinstance(await ours.lost, ConnectionResetError)


async def test_the_handler_hears_that_the_peer_is_gone_when_all_is_sent(
    loop: Loop, contexts: list[Context]
) -> None:
    class Resetting(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            reset(peer)
            while not is_gone(self):
                pass

    async with linked(loop, Resetting, tcp_pair) as (ours, peer):
        ours.transport.pause_reading()
        ours.transport.set_write_buffer_limits(high=0)
        ours.transport.write(BIG)
        ours.transport.write(BIG)
        ours.transport.write_eof()
        peer.setblocking(False)
        while peer.fileno() >= 0:
            with contextlib.suppress(BlockingIOError):
                peer.recv(1 << 20)
            await asyncio.sleep(0)
        assert [type(each["exception"]) for each in contexts] == [OSError]
        assert contexts[0]["message"].startswith("Exception in callback ")
        assert not ours.transport.is_closing()


async def test_endings_the_descriptor_is_closed_after_connection_lost(loop: Loop) -> None:
    before = descriptors()
    states: list[int] = []

    class Looking(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            states.append(self.transport.get_extra_info("socket").fileno())
            super().connection_lost(exc)

    async with linked(loop, Looking) as (ours, peer):
        ours.transport.close()
        await ours.lost
        assert states[0] >= 0
        assert ours.transport.get_extra_info("socket").fileno() == -1
        assert peer.recv(1) == b""
    assert descriptors() == before


async def test_endings_transport_and_protocol_are_freed(loop: Loop) -> None:
    references: list[weakref.ref[object]] = []
    async with linked(loop, Recorder) as (ours, _):
        references += [weakref.ref(ours), weakref.ref(ours.transport)]
        ours.transport.close()
        await ours.lost
    del ours
    await turns(2)
    gc.collect()
    assert [reference() for reference in references] == [None, None]


async def connected(loop: Loop) -> tuple[list[asyncio.Transport], socket.socket]:
    """Return the only reference to a transport, and its plain peer."""
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    transport.pause_reading()
    return [transport], theirs


def let_go(held: list[asyncio.Transport]) -> None:
    held.clear()
    gc.collect()


async def test_a_transport_that_is_let_go_warns_and_closes(loop: Loop) -> None:
    held, peer = await connected(loop)
    await asyncio.sleep(0)
    with peer, pytest.warns(ResourceWarning, match=r"unclosed transport <.*>"):
        let_go(held)
    peer.close()


def test_a_transport_that_outlives_its_loop_leaves_no_descriptor(loop: Loop) -> None:
    held, peer = loop.run_until_complete(connected(loop))
    with peer:
        loop.close()
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            let_go(held)
        assert peer.recv(1) == b""


def test_a_transport_cannot_be_closed_after_its_loop(loop: Loop) -> None:
    held, peer = loop.run_until_complete(connected(loop))
    with peer:
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            held[0].close()
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            let_go(held)
