"""Giving up on a socket: no byte is lost, and no descriptor but ours is touched."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from .harness.sockets import PAIRS, fill, nonblocking, receive
from .harness.turns import turns, until
from .harness.types import Loop

every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


async def give_up(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@every_pair
async def test_a_cancelled_receive_leaves_the_bytes_to_the_next(loop: Loop, pair: Any) -> None:
    with nonblocking(pair) as (ours, theirs):
        for number in range(20):
            receiving = loop.create_task(loop.sock_recv(ours, 100))
            await turns(2)
            theirs.send(b"%d" % number)
            await give_up(receiving)
            assert await loop.sock_recv(ours, 100) == b"%d" % number


@pytest.mark.only("cloverleaf")  # asyncio loses what it received just before the cancellation
@pytest.mark.parametrize("delay", range(6))
async def test_no_byte_is_lost_in_whatever_turn_the_cancellation_comes(
    loop: Loop, delay: int
) -> None:
    with nonblocking() as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"bytes")
        await turns(delay)
        receiving.cancel()
        try:
            received = await receiving
        except asyncio.CancelledError:
            received = await loop.sock_recv(ours, 100)
        assert received == b"bytes"


async def test_a_cancelled_receive_no_longer_fills_its_buffer(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        buffer = bytearray(5)
        receiving = loop.create_task(loop.sock_recv_into(ours, buffer))
        await turns(2)
        await give_up(receiving)
        theirs.send(b"bytes")
        await turns(3)
        assert buffer == bytes(5)
        assert await loop.sock_recv(ours, 100) == b"bytes"


async def test_a_cancelled_send_sends_no_more(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        before = fill(ours)
        sending = loop.create_task(loop.sock_sendall(ours, b"never"))
        await turns(2)
        await give_up(sending)
        ours.shutdown(socket.SHUT_WR)
        assert await receive(loop, theirs, before + 100) == bytes(before)


@pytest.mark.parametrize("operation", ["receive", "send"])
async def test_after_a_cancellation_nothing_is_registered(loop: Loop, operation: str) -> None:
    with nonblocking() as (ours, _):
        if operation == "receive":
            task: asyncio.Task[Any] = loop.create_task(loop.sock_recv(ours, 1))
        else:
            fill(ours)
            task = loop.create_task(loop.sock_sendall(ours, b"x"))
        await turns(2)
        await give_up(task)
        assert loop.remove_reader(ours) is False
        assert loop.remove_writer(ours) is False


@every_pair
async def test_a_number_is_used_again_at_once(loop: Loop, pair: Any) -> None:
    """The socket is closed right after the wait; its number goes to another that is waited for."""
    for _ in range(20):
        with nonblocking(pair) as (ours, theirs):
            receiving = loop.create_task(loop.sock_recv(ours, 100))
            await turns(2)
            theirs.send(b"old")
            assert await receiving == b"old"
            number = ours.fileno()
            ours.close()
            with nonblocking(pair) as (first, second):
                assert number in (first.fileno(), second.fileno())
                tasks = [
                    loop.create_task(loop.sock_recv(first, 100)),
                    loop.create_task(loop.sock_recv(second, 100)),
                ]
                await turns(2)
                assert not any(task.done() for task in tasks)
                first.send(b"to the second")
                second.send(b"to the first")
                assert await asyncio.gather(*tasks) == [b"to the first", b"to the second"]


async def test_a_number_of_a_cancelled_wait_goes_to_a_reader(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        await give_up(receiving)
        number = ours.fileno()
        ours.close()
        reading, writing = os.pipe()
        assert number in (reading, writing)
        seen: list[bytes] = []
        loop.add_reader(reading, lambda: seen.append(os.read(reading, 100)))
        theirs.close()
        await turns(3)
        assert seen == []
        os.write(writing, b"piped")
        await until(lambda: seen)
        assert seen == [b"piped"]
        assert loop.remove_reader(reading) is True
        os.close(reading)
        os.close(writing)


async def test_a_detached_socket_may_come_back_as_another(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"one")
        assert await receiving == b"one"
        with socket.socket(fileno=ours.detach()) as again:
            receiving = loop.create_task(loop.sock_recv(again, 100))
            await turns(2)
            theirs.send(b"two")
            assert await receiving == b"two"


async def test_a_copy_of_the_descriptor_keeps_nothing_alive_for_us(loop: Loop) -> None:
    """The socket is closed, and the connection lives on in a copy; the loop hears of neither."""
    with nonblocking() as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"one")
        assert await receiving == b"one"
        with ours.dup() as copy:
            ours.close()
            theirs.send(b"two")
            await turns(3)
            receiving = loop.create_task(loop.sock_recv(copy, 100))
            assert await receiving == b"two"
            receiving = loop.create_task(loop.sock_recv(copy, 100))
            await turns(2)
            theirs.send(b"three")
            assert await receiving == b"three"
