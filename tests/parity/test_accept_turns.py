"""The turns in which a server's connections begin, and what becomes of those between two turns."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys

import pytest

from .harness.protocols import Recorder
from .harness.turns import turns, until
from .harness.types import Loop


class Noting(Recorder):
    """Notes when it is told what."""

    def __init__(self, loop: Loop, notes: list[str]) -> None:
        super().__init__(loop)
        self.notes = notes
        notes.append("factory")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.notes.append("made")
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Note it."""
        self.notes.append("data")
        super().data_received(data)


def noted(loop: Loop, notes: list[str], made: list[Noting]) -> Noting:
    """Return a new protocol, which is the last of those that were made."""
    made.append(Noting(loop, notes))
    return made[-1]


def call(server: asyncio.Server) -> socket.socket:
    """Connect, say something, and return when the listener has it."""
    client = socket.create_connection(server.sockets[0].getsockname())
    client.sendall(b"hello")
    ready = select.select([server.sockets[0].fileno()], [], [], 10)
    assert ready[0]
    return client


def crowd(stack: contextlib.ExitStack, listener: socket.socket) -> list[socket.socket]:
    """Connect so often that it takes many turns to accept all, and have each say something."""
    clients = [
        stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(100)
    ]
    for client in clients:
        client.settimeout(60)
        client.sendall(b"hello")
    return clients


async def test_a_connection_begins_in_the_turns_that_asyncio_takes(loop: Loop) -> None:
    notes: list[str] = []
    server = await loop.create_server(lambda: Noting(loop, notes), "127.0.0.1", 0)
    async with server:
        with call(server):
            for n in range(5):
                await asyncio.sleep(0)
                notes.append(f"turn {n}")
            assert notes == [
                "turn 0",
                "turn 1",
                "factory",
                "turn 2",
                "made",
                "turn 3",
                "data",
                "turn 4",
            ]
        await turns(3)


async def test_who_has_been_accepted_is_heard_after_the_server_was_closed(loop: Loop) -> None:
    """uvicorn closes its server, and then each connection that was made and has asked nothing.

    So whoever was accepted a moment ago is served only if its connection is made after that.
    """
    made: list[Noting] = []
    notes: list[str] = []
    server = await loop.create_server(lambda: noted(loop, notes, made), "127.0.0.1", 0)
    with call(server) as client:
        client.settimeout(10)
        # It is accepted in this turn, and gets its transport in the next.
        await turns(2)
        await asyncio.sleep(0)
        server.close()
        assert notes == ["factory"]
        await turns(3)
        assert notes == ["factory", "made", "data"]
        made[0].transport.write(b"bye")
        made[0].transport.close()
        await made[0].lost
        assert client.recv(10) == b"bye"
        await server.wait_closed()


@pytest.mark.only("cloverleaf")  # asyncio loses who was accepted in the turn before
async def test_a_server_that_is_closed_waits_for_who_was_just_accepted(loop: Loop) -> None:
    made: list[Noting] = []
    notes: list[str] = []
    server = await loop.create_server(lambda: noted(loop, notes, made), "127.0.0.1", 0)
    with call(server) as client:
        client.settimeout(10)
        # It was accepted in the turn before, and gets its transport after this step.
        await turns(2)
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        await turns(4)
        assert notes == ["factory", "made", "data"]
        if sys.version_info >= (3, 12):  # before, nobody is waited for
            assert not waiting.done()
        made[0].transport.close()
        await waiting
        await made[0].lost
        assert client.recv(10) == b""


@pytest.mark.only("cloverleaf")  # asyncio loses who was accepted in the turn before
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_who_was_just_accepted_is_closed_with_all_others(loop: Loop, method: str) -> None:
    notes: list[str] = []
    server = await loop.create_server(lambda: Noting(loop, notes), "127.0.0.1", 0)
    with call(server) as client:
        client.settimeout(10)
        await turns(2)
        assert loop.metrics().connections_accepted == 1  # type: ignore[attr-defined]
        server.close()
        getattr(server, method)()
        await turns(2)
        await server.wait_closed()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        assert not notes


async def test_of_a_crowd_all_are_served(loop: Loop) -> None:
    made: list[Noting] = []
    notes: list[str] = []
    server = await loop.create_server(lambda: noted(loop, notes, made), "127.0.0.1", 0)
    with contextlib.ExitStack() as stack:
        crowd(stack, server.sockets[0])
        await until(lambda: notes.count("data") == 100)
        assert [notes.count("factory"), notes.count("made")] == [100, 100]
    for protocol in made:
        await protocol.lost
    server.close()
    await server.wait_closed()


class Hasty(Recorder):
    """Answers at once, and is closed by a program that stops if it has not been asked yet."""

    def data_received(self, data: bytes) -> None:
        """Answer, and end."""
        super().data_received(data)
        self.transport.write(b"bye")
        self.transport.close()

    def stop(self) -> None:
        """Do as uvicorn's and aiohttp's protocols do."""
        if not self.data:
            self.transport.close()


@pytest.mark.only("cloverleaf")  # asyncio accepts all, and the program closes them
async def test_a_worker_that_stops_amid_a_crowd_leaves_it_to_the_next(loop: Loop) -> None:
    """gunicorn's and uvicorn's workers have one listener, and stop while requests come."""
    made: list[Hasty] = []

    def factory() -> Hasty:
        made.append(Hasty(loop))
        return made[-1]

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=200))
        server = await loop.create_server(factory, sock=listener.dup(), backlog=200)
        clients = crowd(stack, listener)
        # It stops in the turn in which the first have their transports, before it has read.
        await until(lambda: any(protocol.made.done() for protocol in made))
        server.close()
        for protocol in made:
            if protocol.made.done():
                protocol.stop()
        await server.wait_closed()
        async with await loop.create_server(factory, sock=listener.dup(), backlog=200):
            await until(lambda: len(made) == 100)
            for protocol in made:
                await protocol.lost
        lost = 0
        for client in clients:
            try:
                assert client.recv(10) == b"bye"
            except ConnectionResetError:
                lost += 1
    assert 0 < lost <= 32
