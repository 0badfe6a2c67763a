"""Sockets that somebody uses already when a transport or a server is made over them."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .harness.datagrams import Mailbox
from .harness.kinds import Kind
from .harness.protocols import Recorder
from .harness.turns import turns, until
from .harness.types import Context, Loop


async def connect(loop: Loop, sock: Any, factory: Callable[[], Recorder] | None = None) -> Any:
    """Make a transport as a client has one."""
    return await loop.create_connection(factory or (lambda: Recorder(loop)), sock=sock)


async def accept(loop: Loop, sock: Any, factory: Callable[[], Recorder] | None = None) -> Any:
    """Make a transport as a server has one that accepts by itself."""
    return await loop.connect_accepted_socket(factory or (lambda: Recorder(loop)), sock)


every_way = pytest.mark.parametrize("make", [connect, accept])


def is_of_old(kind: Kind) -> bool:
    """Tell whether a second transport takes the place of the first one, as on Python 3.11."""
    return kind.name == "asyncio" and sys.version_info < (3, 12)


async def carries_data(transport: Any, protocol: Recorder, peer: socket.socket) -> None:
    """Check that a transport does its work, and end it."""
    peer.settimeout(60)
    transport.write(b"there")
    peer.sendall(b"back")
    assert await protocol.received(4) == b"back"
    assert peer.recv(5) == b"there"
    transport.abort()
    assert await protocol.lost is None


@every_way
async def test_a_transports_socket_gets_no_second_transport(
    loop: Loop, kind: Kind, make: Any
) -> None:
    if is_of_old(kind):
        pytest.skip("it gets one there")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport, protocol = await make(loop, ours)
        expected = f"File descriptor {ours!r} is used by transport "
        with pytest.raises(RuntimeError) as raised:
            await make(loop, ours)
        assert str(raised.value).startswith(expected)
        if kind.name == "asyncio" and sys.version_info >= (3, 14):
            # There, the refused socket is closed, though it is the first transport's.
            transport.abort()
            await turns(3)
        else:
            await carries_data(transport, protocol, theirs)


async def test_an_endpoints_socket_gets_no_second_endpoint(loop: Loop, kind: Kind) -> None:
    if is_of_old(kind):
        pytest.skip("it gets one there")
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    mailbox = Mailbox(loop)
    transport, _ = await loop.create_datagram_endpoint(lambda: mailbox, sock=sock)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.create_datagram_endpoint(lambda: Mailbox(loop), sock=sock)
    transport.sendto(b"to itself", sock.getsockname())
    await until(lambda: mailbox.mail)
    transport.abort()
    assert await mailbox.lost is None


@every_way
async def test_a_transport_takes_the_place_of_a_reader(loop: Loop, make: Any) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        seen: list[str] = []
        loop.add_reader(ours, seen.append, "heard")
        transport, protocol = await make(loop, ours)
        await carries_data(transport, protocol, theirs)
    assert seen == []


async def test_a_reader_that_was_about_to_hear_of_it_does_not(loop: Loop) -> None:
    """It would take bytes away from the transport."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        seen: list[bytes] = []
        loop.add_reader(ours, lambda: seen.append(ours.recv(100)))

        class Called(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                assert seen == []

        def factory() -> Recorder:
            theirs.send(b"first")
            return Called(loop)

        transport, protocol = await loop.create_connection(factory, sock=ours)
        assert await protocol.received(5) == b"first"
        await carries_data(transport, protocol, theirs)
    assert seen == []


@pytest.mark.only("cloverleaf")
async def test_a_transport_takes_the_place_of_a_writer(loop: Loop) -> None:
    """On asyncio the writer is called again and again, and nobody can remove it."""
    ours, theirs = socket.socketpair()
    with theirs:
        seen: list[int] = []
        loop.add_writer(ours, seen.append, 1)
        transport, protocol = await connect(loop, ours)
        calls = len(seen)
        await turns(3)
        assert len(seen) == calls
        await carries_data(transport, protocol, theirs)


async def test_an_endpoint_takes_the_place_of_a_reader(loop: Loop) -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    seen: list[str] = []
    loop.add_reader(sock, seen.append, "heard")
    mailbox = Mailbox(loop)
    transport, _ = await loop.create_datagram_endpoint(lambda: mailbox, sock=sock)
    transport.sendto(b"to itself", sock.getsockname())
    await until(lambda: mailbox.mail)
    transport.abort()
    await mailbox.lost
    assert seen == []


async def test_a_server_takes_the_place_of_a_reader(loop: Loop) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    seen: list[str] = []
    loop.add_reader(sock, seen.append, "heard")
    protocol = Recorder(loop)
    server = await loop.create_server(lambda: protocol, sock=sock)
    with socket.create_connection(sock.getsockname()) as peer:
        transport = await protocol.made
        server.close()
        await carries_data(transport, protocol, peer)
    await server.wait_closed()
    assert seen == []


async def test_an_endpoint_that_cannot_read_is_made_all_the_same(
    loop: Loop, kind: Kind, contexts: list[Context]
) -> None:
    """The kernel knows the socket of an endpoint that closes when it has sent what waits."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind("")  # to a name that the kernel chooses
        ours.connect(theirs.getsockname())
        closing = Mailbox(loop)
        first, _ = await loop.create_datagram_endpoint(lambda: closing, sock=ours)
        while not first.get_write_buffer_size():  # type: ignore[attr-defined]
            first.sendto(bytes(1000))
        first.close()
        second, _ = await loop.create_datagram_endpoint(lambda: Mailbox(loop), sock=ours)
        second.abort()
        first.abort()
        await closing.lost
        await turns(3)
    if kind.name == "cloverleaf":
        assert [type(context["exception"]) for context in contexts] == [FileExistsError]


@pytest.mark.only("cloverleaf")
async def test_a_server_that_was_refused_leaves_the_first_one_alone(loop: Loop) -> None:
    """On asyncio the second one takes the first one's place, and closing the first one raises."""
    sock = socket.create_server(("127.0.0.1", 0))

    class Factory:
        def __call__(self) -> Recorder:
            return protocol

    protocol, factory = Recorder(loop), Factory()
    server = await loop.create_server(factory, sock=sock)
    with pytest.raises(FileExistsError):
        await loop.create_server(lambda: Recorder(loop), sock=sock)
    with socket.create_connection(sock.getsockname()) as peer:
        transport = await protocol.made
        server.close()
        await carries_data(transport, protocol, peer)
    await server.wait_closed()
    forgotten = weakref.ref(factory)
    del factory, server
    await turns(3)
    gc.collect()
    assert forgotten() is None


@pytest.mark.only("cloverleaf")
async def test_a_forgotten_reader_does_not_cost_a_server_its_place(loop: Loop) -> None:
    """The kernel has refused the second server for the first one, not for another file's."""
    old, peer = socket.socketpair()
    with peer, socket.create_server(("127.0.0.1", 0)) as listening:
        number = old.fileno()
        loop.add_reader(number, print, "forgotten")
        old.close()
        os.dup2(listening.fileno(), number)
    sock = socket.socket(fileno=number)
    protocol = Recorder(loop)
    server = await loop.create_server(lambda: protocol, sock=sock)
    with pytest.raises(FileExistsError):
        await loop.create_server(lambda: Recorder(loop), sock=sock)
    with socket.create_connection(sock.getsockname()) as client:
        transport = await protocol.made
        await carries_data(transport, protocol, client)
    server.close()
    await server.wait_closed()


class Unshowable:
    """A callback that cannot be shown."""

    def __call__(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


async def test_a_server_that_fails_to_take_a_readers_place_is_forgotten(loop: Loop) -> None:
    loop.set_debug(True)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        loop.add_reader(sock, Unshowable())
        with pytest.raises(ZeroDivisionError):
            await loop.create_server(lambda: Recorder(loop), sock=sock)
        loop.add_reader(sock, print, "heard")
        assert loop.remove_reader(sock)


@pytest.mark.only("cloverleaf")
@every_way
async def test_the_number_of_a_listener_that_was_closed_is_free(loop: Loop, make: Any) -> None:
    """On asyncio a transport is made, and hears of nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = await loop.create_server(lambda: Recorder(loop), sock=listening)
    number = listening.fileno()
    ours, theirs = socket.socketpair()
    with theirs:
        listening.close()
        os.dup2(ours.fileno(), number)
        ours.close()
        transport, protocol = await make(loop, socket.socket(fileno=number))
        server.close()
        await carries_data(transport, protocol, theirs)
    await server.wait_closed()


@every_way
async def test_a_transport_that_closes_sends_what_waits(loop: Loop, kind: Kind, make: Any) -> None:
    """A second one is of no use, as the first one closes the socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        first, protocol = await make(loop, ours)
        first.write(bytes(3_000_000))
        first.close()
        second = None
        if kind.name == "cloverleaf":
            with pytest.raises(RuntimeError, match="is used by transport <StreamTransport closing"):
                await make(loop, ours)
            assert ours.fileno() != -1
        else:
            second, _ = await make(loop, ours)
        count = 0
        while data := await loop.sock_recv(theirs, 1 << 20):
            count += len(data)
        assert count == 3_000_000
        assert await protocol.lost is None
        if second is not None:
            second.abort()
            await turns(3)


async def test_a_transport_that_pauses_at_once_keeps_its_bytes(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        seen: list[bytes] = []

        class Paused(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                self.transport.pause_reading()

        loop.add_reader(ours, lambda: seen.append(ours.recv(100)))
        transport, protocol = await loop.create_connection(lambda: Paused(loop), sock=ours)
        theirs.send(b"first")
        await turns(3)
        transport.resume_reading()
        assert await protocol.received(5) == b"first"
        transport.abort()
        await protocol.lost
    assert seen == []


async def test_a_transport_that_closes_at_once_takes_the_readers_place(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        seen: list[str] = []

        class Closing(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                transport.close()
                theirs.send(b"nobody's")

        loop.add_reader(ours, seen.append, "heard")
        _, protocol = await loop.create_connection(lambda: Closing(loop), sock=ours)
        await protocol.lost
        await turns(3)
    assert seen == []


async def test_an_endpoint_that_closes_at_once_takes_the_readers_place(loop: Loop) -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    seen: list[str] = []

    class Closing(Mailbox):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.sendto(b"to itself", sock.getsockname())
            transport.close()

    mailbox = Closing(loop)
    loop.add_reader(sock, seen.append, "heard")
    await loop.create_datagram_endpoint(lambda: mailbox, sock=sock)
    await mailbox.lost
    await turns(3)
    assert seen == []


@every_way
async def test_a_second_protocol_is_made_before_its_transport_is_refused(
    loop: Loop, kind: Kind, make: Any
) -> None:
    """The factory may make room: it may end the first one."""
    if is_of_old(kind):
        pytest.skip("it is not refused there")
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await make(loop, ours)
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder(loop))
            return made[-1]

        with pytest.raises(RuntimeError, match="is used by transport"):
            await make(loop, ours, factory)
        assert [protocol.calls for protocol in made] == [[]]
        transport.abort()
        await turns(3)


async def test_a_second_mailbox_is_made_before_its_endpoint_is_refused(
    loop: Loop, kind: Kind
) -> None:
    if is_of_old(kind):
        pytest.skip("it is not refused there")
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, first = await loop.create_datagram_endpoint(lambda: Mailbox(loop), sock=sock)
    made: list[Mailbox] = []

    def factory() -> Mailbox:
        made.append(Mailbox(loop))
        return made[-1]

    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.create_datagram_endpoint(factory, sock=sock)
    assert [mailbox.calls for mailbox in made] == [[]]
    transport.abort()
    await first.lost


@pytest.mark.only("cloverleaf")
async def test_a_factory_that_raises_costs_no_transport_its_socket(loop: Loop) -> None:
    """asyncio closes it from Python 3.14 on."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport, protocol = await connect(loop, ours)

        def factory() -> Recorder:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(factory, sock=ours)
        await carries_data(transport, protocol, theirs)
