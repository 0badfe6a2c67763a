"""One owner per descriptor: what a program does to numbers never leads our bytes elsewhere."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from .harness.links import linked
from .harness.protocols import Recorder
from .harness.turns import turns, turns_until, until
from .harness.types import Context, Loop


def close(sock: socket.socket) -> None:
    """Close the socket object, as a program may that thinks it still owns it."""
    sock.close()


def detach_and_close(sock: socket.socket) -> None:
    """Take the number out of the object, and close that."""
    os.close(sock.detach())


def identity_of(number: int) -> str | None:
    """Return what the descriptor leads to, if it is open."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 - not a path of ours
    except FileNotFoundError:
        return None


def taking(number: int, identity: str | None) -> list[socket.socket]:
    """Open sockets until one has the number, unless the number still belongs to its old owner."""
    opened: list[socket.socket] = []
    if identity_of(number) == identity:
        return opened
    while number not in {each.fileno() for each in opened}:
        opened += socket.socketpair()
    return opened


def unread(sockets: list[socket.socket]) -> bytes:
    """Return everything that can be read from the sockets."""
    found = b""
    for each in sockets:
        each.setblocking(False)
        try:
            found += each.recv(100)
        except BlockingIOError:
            continue
    return found


@pytest.mark.parametrize("let_go", [close, detach_and_close])
async def test_identity_a_transport_whose_socket_the_program_closed_writes_to_no_other(
    loop: Loop, contexts: list[Context], let_go: Callable[[socket.socket], None]
) -> None:
    ours, peer = socket.socketpair()
    number, identity = ours.fileno(), identity_of(ours.fileno())
    protocol = Recorder(loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    transport.pause_reading()
    let_go(ours)
    others = taking(number, identity)
    kept = [identity_of(each.fileno()) for each in others]
    transport.write(b"for our peer only")
    await turns(3)
    assert unread(others) == b""
    if not protocol.lost.done():
        transport.abort()
    await asyncio.wait([protocol.lost])
    await turns(3)
    gc.collect()
    assert [identity_of(each.fileno()) for each in others] == kept
    for each in (*others, peer):
        each.close()


async def test_identity_a_server_whose_socket_the_program_closed_closes_no_other(
    loop: Loop, contexts: list[Context]
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    number, identity = listener.fileno(), identity_of(listener.fileno())
    server = await loop.create_server(asyncio.Protocol, sock=listener)
    listener.close()
    others = taking(number, identity)
    kept = [identity_of(each.fileno()) for each in others]
    with suppress(ValueError):  # asyncio's words for a socket that is closed already
        server.close()
    await turns(3)
    assert [identity_of(each.fileno()) for each in others] == kept
    for each in others:
        each.close()


@pytest.mark.only("cloverleaf")  # asyncio takes the new socket for the old one, and never calls
def test_identity_a_number_closed_without_remove_reader_can_be_watched_again(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    number = ours.fileno()
    stale: list[int] = []
    fresh: list[int] = []
    loop.add_reader(ours, stale.append, 1)
    ours.close()
    one, other = socket.socketpair()
    assert number in (one.fileno(), other.fileno())
    loop.add_reader(number, fresh.append, 1)
    (other if one.fileno() == number else one).send(b"x")
    turns_until(loop, lambda: fresh)
    assert stale == []
    assert loop.remove_reader(number) is True
    for each in (one, other, peer):
        each.close()


class Acting(Recorder):
    """Does something to another transport when data comes."""

    def __init__(self, loop: Loop, act: Callable[[], object]) -> None:
        super().__init__(loop)
        self.act = act

    def data_received(self, data: bytes) -> None:
        """Act once, on the first data."""
        super().data_received(data)
        self.act()


@pytest.mark.parametrize("action", ["close", "abort", "pause_reading"])
async def test_identity_what_one_protocol_does_to_another_holds_in_the_same_turn(
    loop: Loop, action: str
) -> None:
    """Both are ready at once; whoever is called first stops the other."""
    pair: list[Acting] = []

    def act_on(index: int) -> None:
        getattr(pair[index].transport, action)()

    pair += [Acting(loop, partial(act_on, 1)), Acting(loop, partial(act_on, 0))]
    async with (
        linked(loop, lambda _: pair[0]) as (_, first_peer),
        linked(loop, lambda _: pair[1]) as (_, second_peer),
    ):
        first_peer.send(b"x")
        second_peer.send(b"x")
        await until(lambda: pair[0].data or pair[1].data)
        await turns(5)
        assert sorted([bytes(pair[0].data), bytes(pair[1].data)]) == [b"", b"x"]


async def test_identity_a_transport_takes_over_from_a_watcher(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    with peer:
        heard: list[int] = []
        loop.add_reader(ours, heard.append, 1)
        loop.add_writer(ours, heard.append, 2)
        loop.remove_writer(ours)
        loop.remove_reader(ours)
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, sock=ours)
        peer.send(b"x")
        assert await protocol.received(1) == b"x"
        assert heard == []
        protocol.transport.close()
        await protocol.lost


async def test_identity_closing_one_of_two_connections_leaves_the_other(loop: Loop) -> None:
    for _ in range(50):
        async with linked(loop, Recorder) as (kept, kept_peer):
            async with linked(loop, Recorder) as (closed, _):
                closed.transport.close()
            kept_peer.sendall(b"x")
            assert await kept.received(1) == b"x"
            kept.transport.write(b"y")
            assert kept_peer.recv(1) == b"y"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio warns of the socket, rightly
def test_endings_an_open_server_ends_with_its_loop(loop: Loop) -> None:
    async def serve() -> int:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        return server.sockets[0].fileno()

    number = loop.run_until_complete(serve())
    gc.collect()
    assert identity_of(number) is not None
    loop.close()
    gc.collect()
    assert identity_of(number) is None
