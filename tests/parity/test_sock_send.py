"""``sock_sendall`` and ``sock_sendto``: all of it, in order, however full the way is."""

from __future__ import annotations

import array
import socket
from typing import Any

import pytest

from .harness.sockets import PAIRS, fill, nonblocking, receive
from .harness.turns import turns
from .harness.types import Loop

every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
BIG = bytes(range(256)) * 65536  # more than the kernel takes without a reader


@every_pair
async def test_what_fits_is_sent_without_a_turn(loop: Loop, pair: Any) -> None:
    with nonblocking(pair) as (ours, theirs):
        with pytest.raises(StopIteration) as done:
            loop.sock_sendall(ours, b"fits").send(None)
        assert done.value.value is None
        assert await loop.sock_recv(theirs, 100) == b"fits"


@every_pair
async def test_what_does_not_fit_is_sent_as_there_is_room(loop: Loop, pair: Any) -> None:
    with nonblocking(pair) as (ours, theirs):
        sending = loop.create_task(loop.sock_sendall(ours, BIG))
        await turns(3)
        assert not sending.done()
        assert await receive(loop, theirs, len(BIG)) == BIG
        await sending


@every_pair
async def test_one_socket_sends_and_receives_at_once(loop: Loop, pair: Any) -> None:
    with nonblocking(pair) as (ours, theirs):
        tasks = [
            loop.create_task(loop.sock_sendall(ours, BIG)),
            loop.create_task(loop.sock_sendall(theirs, BIG[::-1])),
        ]
        received = [
            loop.create_task(receive(loop, ours, len(BIG))),
            loop.create_task(receive(loop, theirs, len(BIG))),
        ]
        assert await received[0] == BIG[::-1]
        assert await received[1] == BIG
        for task in tasks:
            await task


async def test_a_full_socket_is_waited_for(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        before = fill(ours)
        sending = loop.create_task(loop.sock_sendall(ours, b"the end"))
        await turns(3)
        assert not sending.done()
        assert await receive(loop, theirs, before) == bytes(before)
        await sending
        assert await loop.sock_recv(theirs, 100) == b"the end"


@pytest.mark.parametrize(
    "data",
    [b"bytes", bytearray(b"bytearray"), memoryview(b"view"), array.array("b", b"array"), b""],
    ids=lambda data: type(data).__name__,
)
async def test_anything_with_bytes_can_be_sent(loop: Loop, data: Any) -> None:
    with nonblocking() as (ours, theirs):
        await loop.sock_sendall(ours, data)
        ours.close()
        assert await receive(loop, theirs, 100) == bytes(data)


@pytest.mark.parametrize("data", ["text", None, 3, memoryview(b"abcdef")[::2]])
async def test_what_has_no_bytes_is_refused_as_by_the_socket(loop: Loop, data: Any) -> None:
    with nonblocking() as (ours, _):
        with pytest.raises(Exception) as expected:  # noqa: PT011 - the kind is what is compared
            ours.send(data)
        with pytest.raises(type(expected.value)) as raised:
            await loop.sock_sendall(ours, data)
        assert str(raised.value) == str(expected.value)


async def test_a_buffer_cannot_be_resized_while_it_is_sent(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        data = bytearray(BIG)
        sending = loop.create_task(loop.sock_sendall(ours, data))
        await turns(2)
        with pytest.raises(BufferError):
            data.clear()
        assert await receive(loop, theirs, len(BIG)) == BIG
        await sending
        del sending
        await turns(2)
        data.clear()


@every_pair
async def test_a_peer_that_has_gone_is_a_broken_pipe(loop: Loop, pair: Any) -> None:
    with nonblocking(pair) as (ours, theirs):
        sending = loop.create_task(loop.sock_sendall(ours, BIG))
        await turns(3)
        theirs.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await sending


async def test_an_unconnected_socket_is_an_error(loop: Loop) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(BrokenPipeError, match="Broken pipe"):
            await loop.sock_sendall(sock, b"x")
        with pytest.raises(OSError, match="not connected"):
            await loop.sock_recv(sock, 1)


async def test_a_datagram_waits_for_room(loop: Loop) -> None:
    def pair() -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    with nonblocking(pair) as (ours, theirs):
        sent = 0
        while True:
            try:
                ours.send(b"datagram")
            except BlockingIOError:
                break
            sent += 1
        sending = loop.create_task(loop.sock_sendall(ours, b"one more"))
        await turns(3)
        assert not sending.done()
        for _ in range(sent):
            assert await loop.sock_recv(theirs, 100) == b"datagram"
        await sending
        assert await loop.sock_recv(theirs, 100) == b"one more"


async def test_sendto_refuses_what_the_socket_refuses(loop: Loop) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with pytest.raises(OSError, match="too long"):
            await loop.sock_sendto(sock, bytes(1 << 20), ("127.0.0.1", 9))
        with pytest.raises(TypeError):
            await loop.sock_sendto(sock, b"x", "nowhere")


async def test_a_subclass_has_its_own_way(loop: Loop) -> None:
    class Halting(socket.socket):
        def send(self, data: Any, flags: int = 0, /) -> int:
            return super().send(data[:3], flags)

    plain, theirs = socket.socketpair()
    with Halting(fileno=plain.detach()) as ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        await loop.sock_sendall(ours, b"abcdefgh")
        assert await receive(loop, theirs, 8) == b"abcdefgh"
