"""What `get_extra_info("socket")` shows of an accepted connection: to who looks, and who acts."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import select
import socket
import struct
import unittest.mock
import weakref
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

import pytest

from .harness.crowds import in_full
from .harness.links import accepted, everything, tcp_pair
from .harness.protocols import Recorder
from .harness.turns import until
from .harness.types import Loop
from .test_stream_answers import answering

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])


def shown(protocol: Recorder) -> Any:
    sock = protocol.transport.get_extra_info("socket")
    assert type(sock) is TransportSocket
    return sock


async def serve(loop: Loop, family: int, protocol: Recorder) -> tuple[Any, socket.socket]:
    """Serve one connection of this family by this protocol; the server, and the peer."""
    if family == socket.AF_UNIX:
        path = f"\0cloverleaf-{os.getpid()}-{id(protocol)}"
        server: Any = await loop.create_unix_server(lambda: protocol, path)
    else:
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        server = await loop.create_server(lambda: protocol, host, 0)
    peer = socket.socket(family)
    peer.settimeout(60)
    peer.connect(server.sockets[0].getsockname())
    await until(protocol.made.done)
    return server, peer


@FAMILIES
async def test_who_looks_sees_what_the_kernel_says(loop: Loop, family: int) -> None:
    protocol = Recorder(loop)
    server, peer = await serve(loop, family, protocol)
    with peer:
        sock = shown(protocol)
        assert sock is shown(protocol)
        for each in (sock, sock._sock):
            assert each.family is socket.AddressFamily(family)
            assert each.type is socket.SOCK_STREAM
            assert each.proto == peer.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
            assert each.getsockname() == peer.getpeername()
            assert each.getpeername() == peer.getsockname()
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)
        assert sock.gettimeout() == 0
        assert sock._sock is sock._sock
        assert isinstance(sock._sock, socket.socket)
        assert sock._sock.__class__ is socket.socket
        protocol.transport.close()
        await protocol.lost
    server.close()


async def test_what_was_looked_at_acts_as_a_socket_does(loop: Loop) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        sock = shown(protocol)
        real: Any = sock._sock
        assert real.family == socket.AF_INET
        assert weakref.ref(real)() is not None
        assert real in [real]
        assert {real: 1}[real] == 1
        assert sock.fileno() >= 0
        assert sock.fileno() == real.fileno()
        assert repr(sock).startswith(f"<asyncio.TransportSocket fd={sock.fileno()}, ")
        assert repr(real).startswith(f"<socket.socket fd={sock.fileno()}, family=")
        with sock.dup() as duplicate:
            assert type(duplicate) is socket.socket
            duplicate.sendall(b"a")
        real.sendall(b"b")
        socket.socket.close.__get__(duplicate)()
        with pytest.raises(TypeError, match="cannot pickle 'socket' object"):
            pickle.dumps(real)
        with pytest.raises(TypeError):
            copy.copy(sock)
        assert not hasattr(real, "no_such_thing")
        with pytest.raises(AttributeError):
            real.no_such_thing = 1
        assert select.select([], [sock], [], 60)[1] == [sock]
        sock.shutdown(socket.SHUT_WR)
        assert everything(peer) == b"ab"


@pytest.mark.parametrize("act", ["with", "close", "detach"])
async def test_a_socket_that_is_taken_away_is_gone(loop: Loop, act: str) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        real = shown(protocol)._sock
        assert real.family == socket.AF_INET
        match act:
            case "with":
                with real:
                    pass
            case "close":
                real.close()
            case _:
                os.close(real.detach())
        assert real.fileno() == -1
        assert peer.recv(1) == b""
        protocol.transport.write(b"!")
        await protocol.lost


@pytest.mark.parametrize("asked", ["before", "after"])
async def test_the_socket_of_a_lost_connection_is_closed(loop: Loop, asked: str) -> None:
    async with accepted(loop, Recorder) as (protocol, _):
        sock = shown(protocol) if asked == "before" else None
        protocol.transport.close()
        await protocol.lost
        sock = sock or shown(protocol)
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        for question in (
            sock.getpeername,
            sock.getsockname,
            lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
            lambda: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ):
            with pytest.raises(OSError, match="Bad file descriptor"):
                question()
        assert sock.fileno() == -1


async def test_a_socket_outlives_its_transport_as_a_closed_one(loop: Loop) -> None:
    protocol = Recorder(loop)
    server, peer = await serve(loop, socket.AF_INET, protocol)
    with peer:
        sock = shown(protocol)
        gone = weakref.ref(protocol.transport)
        protocol.transport.close()
        await protocol.lost
        protocol.made = loop.create_future()
        gc.collect()
        assert gone() is None
        assert sock.family == socket.AF_INET
        assert sock._sock.fileno() == -1
    server.close()


async def test_a_peer_that_is_gone_has_no_name(loop: Loop) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        sock = shown(protocol)
        name = peer.getsockname()
        assert sock.getpeername() == name
        protocol.transport.pause_reading()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(OSError, match="not connected"):
            sock.getpeername()
        assert protocol.transport.get_extra_info("peername") == name


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (socket.SOL_SOCKET,),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, "1"),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1.0),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1 << 40),
        (socket.SOL_SOCKET, 12345, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, -1),
    ],
)
async def test_options_are_refused_as_by_a_socket(loop: Loop, arguments: tuple[Any, ...]) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        sock = shown(protocol)
        with pytest.raises((TypeError, OSError, OverflowError)) as expected:
            peer.setsockopt(*arguments)
        with pytest.raises(expected.type) as raised:
            sock.setsockopt(*arguments)
        assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize(
    ("level", "option", "value"),
    [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, True),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, struct.pack("i", 1)),
        (socket.SOL_SOCKET, socket.SO_PRIORITY, 3),
    ],
)
async def test_options_are_set(loop: Loop, level: int, option: int, value: Any) -> None:
    async with accepted(loop, Recorder) as (protocol, _):
        sock = shown(protocol)
        sock.setsockopt(level, option, value)
        expected = value if isinstance(value, int) else 1
        assert sock.getsockopt(level, option) == expected
        with sock.dup() as duplicate:
            assert duplicate.getsockopt(level, option) == expected


async def test_what_was_written_has_gone_when_an_option_is_set(loop: Loop) -> None:
    seen: list[int] = []
    async with answering(loop) as (ours, peer):
        sock = shown(ours)

        def answer(transport: asyncio.Transport) -> None:
            for number in range(3):
                transport.write(b"%d" % number)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seen.append(len(peer.recv(10, socket.MSG_PEEK)))
            transport.write(b"3")
            transport.write(b"4")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            seen.append(len(peer.recv(10, socket.MSG_PEEK)))

        ours.answer = answer
        peer.sendall(b"?")
        await until(lambda: len(seen) == 2)
        assert ours.error is None
        assert seen == [3, 5]


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("acted", [False, True])
async def test_writes_are_held_until_somebody_does_more_than_look(loop: Loop, acted: bool) -> None:
    seen: list[int] = []
    async with answering(loop) as (ours, peer):
        sock = shown(ours)
        assert sock.family == socket.AF_INET
        assert sock.getpeername() == peer.getsockname()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if acted:
            assert sock.fileno() >= 0

        def answer(transport: asyncio.Transport) -> None:
            for number in range(3):
                transport.write(b"%d" % number)
            seen.append(len(peer.recv(10, socket.MSG_PEEK)))

        ours.answer = answer
        # The guard sends what a busy machine has kept from being looked at for a millisecond.
        for lap in range(20):
            peer.sendall(b"?")
            await until(lambda lap=lap: len(seen) > lap)  # type: ignore[misc]
            assert ours.error is None
            assert in_full(peer, 3) == b"012"
        assert seen == [3] * 20 if acted else 1 in seen


ACTS: dict[str, Callable[[Any], object]] = {
    "send": lambda known: known.send(b"behind"),
    "unbound": lambda known: socket.socket.makefile(known, "wb", 0).write(b"behind"),
    "descriptor": lambda known: os.write(known.fileno(), b"behind"),
    "file": lambda known: known.makefile("wb", buffering=0).write(b"behind"),
    "cork": lambda known: known.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1),
    "shutdown": lambda known: known.shutdown(socket.SHUT_WR),
    "close": lambda known: known.close(),
}


@pytest.mark.parametrize("act", list(ACTS))
@pytest.mark.parametrize("kept", [True, False])
async def test_who_acts_after_looking_finds_all_that_was_written(
    loop: Loop, act: str, kept: bool
) -> None:
    async with answering(loop) as (ours, peer):
        sock = shown(ours)
        assert sock.getpeername() == peer.getsockname()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kept:
            # From before anything is written; asyncio has no such difference.
            send, fileno = sock._sock.send, sock._sock.fileno
            assert fileno() >= 0
            assert send(b"") == 0

        def answer(transport: asyncio.Transport) -> None:
            for number in range(3):
                transport.write(b"%d" % number)
            ACTS[act](sock._sock)
            loop.call_soon(transport.close)

        ours.answer = answer
        peer.sendall(b"?")
        received = await loop.run_in_executor(None, everything, peer)
        assert ours.error is None
        assert received == b"012" + b"behind" * (act not in {"cork", "shutdown", "close"})


async def test_what_a_program_puts_in_pythons_place_is_used(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getpeername(self: socket.socket) -> str:
        return "pretended"

    async with accepted(loop, Recorder) as (protocol, _):
        sock = shown(protocol)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "getpeername", getpeername, raising=False)
            assert sock.getpeername() == "pretended"
        assert sock.getpeername() != "pretended"


async def test_a_duplicate_leaves_the_connection_unblocked(loop: Loop) -> None:
    async with accepted(loop, Recorder) as (protocol, _):
        sock = shown(protocol)
        assert sock._sock.gettimeout() == 0
        sock.dup().close()
        assert not os.get_blocking(sock.fileno())


async def test_what_is_no_socket_is_not_taken_for_the_connections(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        sock = shown(protocol)
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", unittest.mock.MagicMock())
            assert sock.getpeername() == peer.getsockname()
            assert sock.fileno() > 2
        protocol.transport.write(b"!")
        assert await loop.run_in_executor(None, peer.recv, 1) == b"!"


@pytest.mark.only("cloverleaf")  # asyncio has made it before
async def test_who_is_interrupted_while_it_is_made_closes_nothing(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = socket.socket.__init__

    def interrupted(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        raise KeyboardInterrupt

    async with accepted(loop, Recorder) as (protocol, peer):
        sock = shown(protocol)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "__init__", interrupted)
            with pytest.raises(KeyboardInterrupt):
                sock.fileno()
        gc.collect()
        assert sock.getpeername() == peer.getsockname()
        assert os.fstat(sock.fileno())
        protocol.transport.write(b"!")
        assert await loop.run_in_executor(None, peer.recv, 1) == b"!"


async def test_many_threads_ask_for_the_real_one_at_once(loop: Loop) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        sock = shown(protocol)
        numbers = await asyncio.gather(*(loop.run_in_executor(None, sock.fileno) for _ in range(8)))
        assert len(set(numbers)) == 1
        assert sock._sock.send(b"!") == 1
        assert peer.recv(1) == b"!"


async def test_a_socket_that_was_looked_at_can_be_brought_elsewhere(loop: Loop) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        with shown(protocol)._sock.dup() as duplicate:
            duplicate.setblocking(False)
            await loop.sock_sendall(duplicate, b"by the loop")
        assert peer.recv(100) == b"by the loop"
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(shown(protocol), print)


async def test_who_only_says_that_it_is_a_socket_is_asked_for_its_descriptor(loop: Loop) -> None:
    ours, theirs = tcp_pair()

    class Passing:
        """Passes for a socket, and has its descriptor elsewhere."""

        __class__ = socket.socket  # type: ignore[assignment]

        def __getattr__(self, name: str) -> Any:
            return getattr(ours, name)

    with ours, theirs:
        theirs.settimeout(60)
        passing: Any = Passing()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=passing)
        transport.write(b"!")
        assert await loop.run_in_executor(None, theirs.recv, 1) == b"!"
        transport.close()
