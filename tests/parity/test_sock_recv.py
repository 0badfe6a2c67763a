"""``sock_recv`` and its kin: what is there at once, what comes later, and what is refused."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from .harness.sockets import PAIRS, nonblocking, receive
from .harness.turns import turns, until
from .harness.types import Loop

every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


@every_pair
async def test_what_is_there_comes_without_a_turn(loop: Loop, pair: Any) -> None:
    with nonblocking(pair) as (ours, theirs):
        theirs.send(b"there")
        await until(lambda: ours.recv(1, socket.MSG_PEEK))
        coroutine = loop.sock_recv(ours, 100)
        assert asyncio.iscoroutine(coroutine)
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        assert done.value.value == b"there"


@every_pair
async def test_what_comes_later_is_waited_for(loop: Loop, pair: Any) -> None:
    with nonblocking(pair) as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(3)
        assert not receiving.done()
        theirs.send(b"later")
        assert await receiving == b"later"


async def test_many_waits_on_one_socket_get_every_byte_in_order(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        for number in range(200):
            receiving = loop.create_task(loop.sock_recv(ours, 100))
            await turns(number % 4)
            theirs.send(b"%d" % number)
            assert await receiving == b"%d" % number


async def test_no_more_is_received_than_asked_for(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        theirs.send(b"abcdef")
        assert await loop.sock_recv(ours, 2) == b"ab"
        assert await loop.sock_recv(ours, 3) == b"cde"
        receiving = loop.create_task(loop.sock_recv(ours, 3))
        assert await receiving == b"f"


async def test_a_short_receive_leaves_the_rest_for_the_next_wait(loop: Loop) -> None:
    """The socket is readable all the time, and its readiness is reported once only."""
    with nonblocking() as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 1))
        await turns(2)
        theirs.send(b"xyz")
        assert await receiving == b"x"
        await turns(3)
        assert await loop.sock_recv(ours, 1) == b"y"
        assert await loop.create_task(loop.sock_recv(ours, 1)) == b"z"
        receiving = loop.create_task(loop.sock_recv(ours, 1))
        await turns(2)
        theirs.send(b"!")
        assert await receiving == b"!"


@every_pair
async def test_the_end_of_the_stream_is_empty(loop: Loop, pair: Any) -> None:
    with nonblocking(pair) as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.close()
        assert await receiving == b""
        assert await loop.sock_recv(ours, 100) == b""


@pytest.mark.parametrize("size", [1, 4096, 65536, 1 << 20, 3 << 20])
async def test_streams_of_any_size_arrive_whole(loop: Loop, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with nonblocking() as (ours, theirs):
        sending = loop.create_task(loop.sock_sendall(theirs, data))
        assert await receive(loop, ours, size) == data
        await sending


@pytest.mark.parametrize("nbytes", [0, True, 1 << 20])
async def test_unusual_sizes_are_taken(loop: Loop, nbytes: Any) -> None:
    with nonblocking() as (ours, theirs):
        theirs.send(b"abc")
        assert await loop.sock_recv(ours, nbytes) == b"abc"[: int(nbytes)]


async def test_the_size_can_be_named(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        theirs.send(b"abc")
        assert await loop.sock_recv(sock=ours, n=2) == b"ab"  # type: ignore[call-arg]


@pytest.mark.parametrize("nbytes", [-1, "3", None, 1.5, 1 << 80])
async def test_what_is_no_size_is_refused_as_by_the_socket(loop: Loop, nbytes: Any) -> None:
    with nonblocking() as (ours, _):
        with pytest.raises(Exception) as expected:  # noqa: PT011 - the kind is what is compared
            ours.recv(nbytes)
        with pytest.raises(type(expected.value)) as raised:
            await loop.sock_recv(ours, nbytes)
        assert str(raised.value) == str(expected.value)


async def test_recv_into_fills_what_it_is_given(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        buffer = bytearray(8)
        receiving = loop.create_task(loop.sock_recv_into(ours, memoryview(buffer)[2:6]))
        await turns(2)
        theirs.send(b"abcdefgh")
        assert await receiving == 4
        assert buffer == b"\0\0abcd\0\0"
        assert await loop.sock_recv_into(ours, buffer) == 4
        assert buffer == b"efghcd\0\0"
        assert await loop.sock_recv_into(ours, bytearray()) == 0


@pytest.mark.parametrize("buffer", [b"readonly", "text", None, memoryview(bytearray(8))[::2]])
async def test_what_cannot_be_filled_is_refused_as_by_the_socket(loop: Loop, buffer: Any) -> None:
    with nonblocking() as (ours, theirs):
        theirs.send(b"x")
        with pytest.raises(Exception) as expected:  # noqa: PT011 - the kind is what is compared
            ours.recv_into(buffer)
        with pytest.raises(type(expected.value)) as raised:
            await loop.sock_recv_into(ours, buffer)
        assert str(raised.value) == str(expected.value)


async def test_a_buffer_may_be_resized_while_it_is_waited_for(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        buffer = bytearray(4)
        receiving = loop.create_task(loop.sock_recv_into(ours, buffer))
        await turns(2)
        buffer.extend(bytes(4))
        theirs.send(b"abcdef")
        assert await receiving == 6
        assert buffer == b"abcdef\0\0"


def datagram_pair() -> tuple[socket.socket, socket.socket]:
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.bind(("127.0.0.1", 0))
    theirs.bind(("127.0.0.1", 0))
    return ours, theirs


async def test_datagrams_come_with_their_senders(loop: Loop) -> None:
    with nonblocking(datagram_pair) as (ours, theirs):
        receiving = loop.create_task(loop.sock_recvfrom(ours, 100))
        await turns(2)
        assert await loop.sock_sendto(theirs, b"first", ours.getsockname()) == 5
        assert await receiving == (b"first", theirs.getsockname())

        buffer = bytearray(10)
        filling = loop.create_task(loop.sock_recvfrom_into(ours, buffer))
        await turns(2)
        assert await loop.sock_sendto(theirs, b"second", ours.getsockname()) == 6
        assert await filling == (6, theirs.getsockname())
        assert buffer == b"second\0\0\0\0"

        await loop.sock_sendto(theirs, b"third", ours.getsockname())
        assert await loop.sock_recvfrom_into(ours, buffer, 2) == (2, theirs.getsockname())
        assert buffer[:3] == b"thc"


async def test_an_empty_datagram_is_received(loop: Loop) -> None:
    with nonblocking(datagram_pair) as (ours, theirs):
        theirs.connect(ours.getsockname())
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        await loop.sock_sendall(theirs, b"")
        assert await receiving == b""


async def test_a_reset_connection_is_an_error(loop: Loop) -> None:
    with nonblocking(PAIRS["tcp"]) as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with pytest.raises(ConnectionResetError) as raised:
            await receiving
        assert raised.value.strerror == "Connection reset by peer"


async def test_a_closed_socket_is_an_error(loop: Loop) -> None:
    with nonblocking() as (ours, _):
        ours.close()
        for coroutine in (
            loop.sock_recv(ours, 1),
            loop.sock_recv_into(ours, bytearray(1)),
            loop.sock_sendall(ours, b"x"),
        ):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await coroutine


async def test_a_subclass_has_its_own_way(loop: Loop) -> None:
    class Shouting(socket.socket):
        def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
            return super().recv(bufsize, flags).upper()

    plain, theirs = socket.socketpair()
    with Shouting(fileno=plain.detach()) as ours, theirs:
        ours.setblocking(False)
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"quiet")
        assert await receiving == b"QUIET"
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"again")
        assert await receiving == b"AGAIN"
