"""What the ``sock_*`` methods have in common: what they refuse, and whom they give way to."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import ssl
import sys
import weakref
from typing import Any

import pytest

from .harness.links import linked
from .harness.protocols import Recorder
from .harness.sockets import fill, nonblocking
from .harness.turns import turns, until
from .harness.types import Loop

CALLS: dict[str, tuple[Any, ...]] = {
    "sock_recv": (1,),
    "sock_recv_into": (bytearray(1),),
    "sock_recvfrom": (1,),
    "sock_recvfrom_into": (bytearray(1),),
    "sock_sendall": (b"x",),
    "sock_sendto": (b"x", ("127.0.0.1", 9)),
    "sock_accept": (),
    "sock_connect": (("127.0.0.1", 9),),
}
every_call = pytest.mark.parametrize(("name", "args"), CALLS.items(), ids=CALLS.keys())


@every_call
async def test_each_is_a_coroutine_function(loop: Loop, name: str, args: Any) -> None:
    assert inspect.iscoroutinefunction(getattr(loop, name))


@every_call
async def test_a_blocking_socket_is_refused_in_debug_mode(loop: Loop, name: str, args: Any) -> None:
    loop.set_debug(True)
    with socket.socket() as sock:
        sock.setblocking(True)
        with pytest.raises(ValueError, match=r"^the socket must be non-blocking$"):
            await getattr(loop, name)(sock, *args)


@every_call
async def test_a_socket_with_a_timeout_is_refused_in_debug_mode(
    loop: Loop, name: str, args: Any
) -> None:
    loop.set_debug(True)
    with socket.socket() as sock:
        sock.settimeout(60)
        with pytest.raises(ValueError, match=r"^the socket must be non-blocking$"):
            await getattr(loop, name)(sock, *args)


@pytest.mark.parametrize(("debug", "waits"), [(True, 0), (False, None), (False, 60)])
async def test_what_is_not_refused_carries_data(
    loop: Loop, debug: bool, waits: float | None
) -> None:
    loop.set_debug(debug)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(waits)
        await loop.sock_sendall(ours, b"there")
        assert theirs.recv(5) == b"there"
        theirs.sendall(b"back")
        assert await loop.sock_recv(ours, 4) == b"back"


@every_call
async def test_a_socket_that_encrypts_is_refused(loop: Loop, name: str, args: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with socket.socket() as plain, context.wrap_socket(plain) as sock:
        sock.setblocking(False)
        with pytest.raises(TypeError, match=r"^Socket cannot be of type SSLSocket$"):
            await getattr(loop, name)(sock, *args)


@pytest.mark.parametrize("name", ["sock_recv", "sock_sendall"])
async def test_a_transports_descriptor_is_refused(loop: Loop, name: str) -> None:
    async with linked(loop, Recorder) as (protocol, _):
        transport = protocol.transport
        transport.pause_reading()
        number = transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=number) as sock:
            try:
                if name == "sock_sendall":
                    fill(sock)
                with pytest.raises(RuntimeError) as raised:
                    await getattr(loop, name)(sock, *CALLS[name])
            finally:
                sock.detach()
        assert str(raised.value).startswith(f"File descriptor {number} is used by transport ")
        assert repr(transport)[:20] in str(raised.value)


async def test_the_second_of_two_waits_is_served(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        first = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        second = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"once")
        assert await second == b"once"
        await turns(3)
        assert not first.done()
        first.cancel()
        await asyncio.wait([first])
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"again")
        assert await receiving == b"again"


async def test_cancelling_the_first_of_two_waits_leaves_the_second(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        first = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        second = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        first.cancel()
        await asyncio.wait([first])
        await turns(2)
        theirs.send(b"once")
        assert await second == b"once"


async def test_a_reader_takes_the_place_of_a_wait(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        waiting = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        seen: list[bytes] = []
        loop.add_reader(ours, lambda: seen.append(ours.recv(100)))
        theirs.send(b"to the reader")
        await until(lambda: seen)
        assert seen == [b"to the reader"]
        assert not waiting.done()
        assert loop.remove_reader(ours) is True
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_a_wait_can_be_removed_like_a_reader(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        waiting = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        assert loop.remove_reader(ours) is True
        assert loop.remove_reader(ours) is False
        theirs.send(b"left alone")
        await turns(3)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await loop.sock_recv(ours, 100) == b"left alone"


async def test_a_reader_and_a_sender_share_a_socket(loop: Loop) -> None:
    """The reader hears for as long as there is something to read, whoever waits to send."""
    with nonblocking() as (ours, theirs):
        before = fill(ours)
        sending = loop.create_task(loop.sock_sendall(ours, b"x"))
        await turns(2)
        seen: list[bytes] = []
        loop.add_reader(ours, lambda: seen.append(ours.recv(1)))
        theirs.send(b"abc")
        await until(lambda: len(seen) == 3)
        assert not sending.done()
        assert len(theirs.recv(before)) > 0
        while not sending.done():
            try:
                theirs.recv(1 << 20)
            except BlockingIOError:
                await turns(1)
        await sending
        theirs.send(b"d")
        await until(lambda: len(seen) == 4)
        assert loop.remove_reader(ours) is True
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"e")
        assert await receiving == b"e"


async def test_a_sender_goes_on_when_the_reader_has_gone(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        before = fill(ours)
        loop.add_reader(ours, lambda: None)
        sending = loop.create_task(loop.sock_sendall(ours, b"end"))
        await turns(2)
        assert loop.remove_reader(ours) is True
        received = 0
        while received < before + 3:
            received += len(await loop.sock_recv(theirs, 1 << 20))
        await sending


async def test_a_forgotten_socket_is_not_kept(loop: Loop) -> None:
    """What stays registered for the next wait does not keep the socket from being collected."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        theirs.send(b"x")
        assert await receiving == b"x"
        del receiving
        gone = weakref.ref(ours)
        await turns(3)
        with pytest.warns(ResourceWarning, match="unclosed <socket"):
            del ours
        assert gone() is None
        assert theirs.recv(1) == b""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no class in Python lends its bytes")
@pytest.mark.parametrize("name", ["sock_recv_into", "sock_sendall"])
async def test_a_lender_that_closes_the_socket_reaches_no_other_file(loop: Loop, name: str) -> None:
    with nonblocking() as (ours, _), nonblocking() as (others, theirs):
        number, opened = ours.fileno(), list[int]()
        theirs.send(b"not ours")

        class Lender:
            def __buffer__(self, flags: int) -> memoryview:
                if not opened:
                    ours.close()
                    opened.append(os.dup2(others.fileno(), number))
                return memoryview(bytearray(8))

        try:
            with pytest.raises(OSError, match="Bad file descriptor"):
                await getattr(loop, name)(ours, Lender())
        finally:
            os.close(number)
        assert others.recv(100) == b"not ours"
        with pytest.raises(BlockingIOError):
            theirs.recv(100)


def test_a_wait_outlives_a_run(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        receiving = loop.create_task(loop.sock_recv(ours, 100))
        loop.run_until_complete(turns(3))
        theirs.send(b"later")
        assert loop.run_until_complete(receiving) == b"later"


def test_two_loops_may_wait_for_one_socket(loop: Loop, new_loop: Any) -> None:
    other = new_loop()
    with nonblocking() as (ours, theirs):
        for _ in range(3):
            for each in (loop, other):
                receiving = each.create_task(each.sock_recv(ours, 100))
                each.run_until_complete(turns(2))
                theirs.send(b"x")
                assert each.run_until_complete(receiving) == b"x"


def test_a_closed_loop_refuses_to_wait(new_loop: Any) -> None:
    loop = new_loop()
    loop.close()
    with nonblocking() as (ours, _), pytest.raises((RuntimeError, AttributeError)):
        loop.sock_recv(ours, 1).send(None)
