"""``Server``: serving, closing, waiting for its connections, and its sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import weakref

import pytest

from cloverleaf._releases import SERVERS_CLOSE_CLIENTS

from .harness.leaks import descriptors
from .harness.links import both_ends
from .harness.protocols import Recorder
from .harness.turns import turns, until
from .harness.types import Loop


async def serving(
    loop: Loop, made: list[Recorder], *, start_serving: bool = True
) -> asyncio.Server:
    """Serve on a port of the system's choice, and keep the protocols."""

    def factory() -> Recorder:
        made.append(Recorder(loop))
        return made[-1]

    return await loop.create_server(factory, "127.0.0.1", 0, start_serving=start_serving)


async def connect(loop: Loop, server: asyncio.Server) -> Recorder:
    """Connect to the server."""
    protocol = Recorder(loop)
    await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
    return protocol


async def close(*protocols: Recorder) -> None:
    """Close connections and wait for their end."""
    for each in protocols:
        each.transport.close()
        await each.lost


async def test_a_server_is_an_asyncio_server(loop: Loop) -> None:
    async with await serving(loop, []) as server:
        assert isinstance(server, asyncio.AbstractServer)
        assert server.get_loop() is loop
        assert weakref.ref(server)() is server


async def test_a_server_serves_at_once(loop: Loop) -> None:
    made: list[Recorder] = []
    async with await serving(loop, made) as server:
        assert server.is_serving()
        clients = [await connect(loop, server) for _ in range(5)]
        await until(lambda: len(made) == 5)
        for n, client in enumerate(clients):
            client.transport.write(bytes([n]))
        for each in made:
            await each.received(1)
        await close(*clients)
        for each in made:
            await each.lost


async def test_start_serving_false_listens_only_later(loop: Loop) -> None:
    made: list[Recorder] = []
    server = await serving(loop, made, start_serving=False)
    assert not server.is_serving()
    address = server.sockets[0].getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    client = await connect(loop, server)
    await until(lambda: made)
    await close(client)
    await made[0].lost
    server.close()
    await server.wait_closed()


async def test_sockets_look_like_the_listening_sockets(loop: Loop) -> None:
    server = await serving(loop, [])
    (sock,) = server.sockets
    host, port = sock.getsockname()
    assert host == "127.0.0.1"
    assert port > 0
    assert sock.family == socket.AF_INET
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert isinstance(server.sockets, tuple)
    server.close()
    assert server.sockets == ()
    await server.wait_closed()


async def test_close_frees_the_address_at_once(loop: Loop) -> None:
    server = await serving(loop, [])
    address = server.sockets[0].getsockname()
    server.close()
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    again = await loop.create_server(asyncio.Protocol, *address)
    again.close()
    server.close()
    await server.wait_closed()
    await again.wait_closed()


async def test_close_leaves_connections_open(loop: Loop) -> None:
    async with both_ends(loop) as ends:  # its server is closed by now
        ends.client.transport.write(b"still")
        assert await ends.server.received(5) == b"still"


if sys.version_info >= (3, 12):  # until 3.11 wait_closed returned at once after close

    async def test_wait_closed_waits_for_close_and_every_connection(loop: Loop) -> None:
        made: list[Recorder] = []
        server = await serving(loop, made)
        client = await connect(loop, server)
        await until(lambda: made)
        waiting = loop.create_task(server.wait_closed())
        await turns(3)
        assert not waiting.done()
        server.close()
        await turns(3)
        assert not waiting.done()
        await close(client)
        await made[0].lost
        await waiting

    async def test_wait_closed_waits_though_there_is_no_connection(loop: Loop) -> None:
        server = await serving(loop, [])
        waiting = loop.create_task(server.wait_closed())
        await turns(3)
        assert not waiting.done()
        server.close()
        await waiting
        await server.wait_closed()

else:

    async def test_wait_closed_returns_after_close(loop: Loop) -> None:
        made: list[Recorder] = []
        server = await serving(loop, made)
        client = await connect(loop, server)
        await until(lambda: made)
        server.close()
        await server.wait_closed()
        await close(client)
        await made[0].lost


async def test_serve_forever_serves_until_cancelled(loop: Loop) -> None:
    made: list[Recorder] = []
    server = await serving(loop, made, start_serving=False)
    task = loop.create_task(server.serve_forever())
    await until(server.is_serving)
    client = await connect(loop, server)
    await until(lambda: made)
    await close(client)
    await made[0].lost
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()
    assert server.sockets == ()


async def test_serve_forever_twice_is_an_error(loop: Loop) -> None:
    server = await serving(loop, [])
    task = loop.create_task(server.serve_forever())
    await turns(2)
    with pytest.raises(RuntimeError, match=r"is already being awaited on serve_forever\(\)$"):
        await server.serve_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(RuntimeError, match=r"^server <.*> is closed$"):
        await server.serve_forever()


async def test_a_cancelled_serve_forever_closes_clients_in_newer_releases(loop: Loop) -> None:
    made: list[Recorder] = []
    server = await serving(loop, made, start_serving=False)
    task = loop.create_task(server.serve_forever())
    await turns(2)
    client = await connect(loop, server)
    await until(lambda: made)
    await made[0].made
    task.cancel()
    await turns(10)
    assert made[0].lost.done() is SERVERS_CLOSE_CLIENTS
    await close(client)
    with pytest.raises(asyncio.CancelledError):
        await task
    await made[0].lost


async def test_close_ends_serve_forever(loop: Loop) -> None:
    server = await serving(loop, [])
    task = loop.create_task(server.serve_forever())
    await turns(2)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_async_with_closes(loop: Loop) -> None:
    server = await serving(loop, [])
    async with server as entered:
        assert entered is server
        assert server.is_serving()
    assert not server.is_serving()
    assert server.sockets == ()


async def test_a_closed_server_does_not_start_again(loop: Loop) -> None:
    server = await serving(loop, [])
    server.close()
    with pytest.raises((RuntimeError, TypeError)):  # asyncio meant no particular error here
        await server.start_serving()
    assert server.sockets == ()


if sys.version_info >= (3, 13):  # close_clients and abort_clients are new in 3.13

    async def test_close_clients_closes_every_connection(loop: Loop) -> None:
        made: list[Recorder] = []
        server = await serving(loop, made)
        clients = [await connect(loop, server) for _ in range(3)]
        await until(lambda: len(made) == 3)
        made[0].transport.write(b"flushed")
        server.close()
        server.close_clients()
        await server.wait_closed()
        assert [each.lost.result() for each in made] == [None] * 3
        assert await clients[0].received(7) == b"flushed"
        for client in clients:
            assert await client.lost is None

    async def test_abort_clients_aborts_every_connection(loop: Loop) -> None:
        made: list[Recorder] = []
        server = await serving(loop, made)
        clients = [await connect(loop, server) for _ in range(3)]
        await until(lambda: len(made) == 3)
        clients[0].transport.pause_reading()
        while made[0].transport.get_write_buffer_size() == 0:
            made[0].transport.write(bytes(1 << 20))
        server.close()
        server.abort_clients()
        await server.wait_closed()
        assert [each.lost.result() for each in made] == [None] * 3
        clients[0].transport.resume_reading()
        for client in clients:
            await client.lost

    async def test_close_clients_leaves_the_server_open(loop: Loop) -> None:
        made: list[Recorder] = []
        async with await serving(loop, made) as server:
            first = await connect(loop, server)
            await until(lambda: made)
            server.close_clients()
            await first.lost
            second = await connect(loop, server)
            await until(lambda: len(made) == 2)
            await close(second)
            await made[1].lost


@pytest.mark.parametrize(
    "where",
    [
        # asyncio's server then trips over an assertion of its own.
        pytest.param("factory", marks=pytest.mark.only("cloverleaf")),
        "connection_made",
    ],
)
async def test_a_server_may_be_closed_while_it_accepts(loop: Loop, where: str) -> None:
    made: list[Recorder] = []

    class Closing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if where == "connection_made":
                server.close()

    def factory() -> Recorder:
        if where == "factory":
            server.close()
        made.append(Closing(loop))
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [socket.create_connection(address) for _ in range(3)]
    await until(lambda: not server.is_serving())
    for client in clients:
        client.close()
    await turns(3)
    for each in made:
        await asyncio.wait([each.lost])
    await server.wait_closed()


@pytest.mark.only("cloverleaf")  # asyncio's goes on listening, and nobody can close it
async def test_a_server_given_up_as_it_starts_leaves_nothing(loop: Loop) -> None:
    before = descriptors()
    for count in range(50):
        hosts = ["127.0.0.1", "::1"]
        starting = loop.create_task(loop.create_server(asyncio.Protocol, hosts, 0))
        await turns(count)
        if not starting.cancel():
            (await starting).close()
            break
        await asyncio.wait([starting])
        assert starting.cancelled()
        assert descriptors() == before
    assert 1 < count < 49


@pytest.mark.only("cloverleaf")  # asyncio leaves it to the collector
async def test_a_server_that_cannot_listen_leaves_nothing(loop: Loop) -> None:
    before = descriptors()
    with pytest.raises(TypeError):
        await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog="5")  # type: ignore[call-overload]
    assert descriptors() == before


@pytest.mark.only("cloverleaf")  # see above
async def test_the_socket_of_a_server_given_up_as_it_starts_stays_its_owners(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder(loop))
        return made[-1]

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        starting = loop.create_task(loop.create_server(factory, sock=sock))
        await turns(1)
        assert starting.cancel()
        await asyncio.wait([starting])
        client = socket.create_connection(sock.getsockname())
        await turns(3)
        assert not made
        async with await loop.create_server(factory, sock=sock):
            await until(lambda: made)
            client.close()
            await made[0].lost


async def test_a_server_that_nobody_references_goes_on_serving(loop: Loop) -> None:
    made: list[Recorder] = []
    address = (await serving(loop, made)).sockets[0].getsockname()
    gc.collect()
    socket.create_connection(address).close()
    await until(lambda: made)
    await asyncio.wait([made[0].lost])


async def test_repr_shows_the_sockets(loop: Loop) -> None:
    server = await serving(loop, [])
    assert repr(server).startswith("<Server sockets=(<asyncio.TransportSocket fd=")
    server.close()
    assert repr(server) == "<Server sockets=()>"
    await server.wait_closed()


async def test_a_server_that_is_let_go_still_serves_its_connections(loop: Loop) -> None:
    made: list[Recorder] = []
    server = await serving(loop, made)
    client = await connect(loop, server)
    await until(lambda: made)
    server.close()
    del server
    gc.collect()
    client.transport.write(b"x")
    assert await made[0].received(1) == b"x"
    await close(client)
    await made[0].lost


async def test_many_connections_waiting_at_once_are_all_accepted(loop: Loop) -> None:
    made: list[Recorder] = []
    async with await serving(loop, made) as server:
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(60)]
        await until(lambda: len(made) == 60)
        for client in clients:
            client.close()
        for each in made:
            await each.lost


async def test_accepted_descriptors_are_not_inherited_by_programs(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        for each in (ends.client, ends.server):
            assert not os.get_inheritable(each.transport.get_extra_info("socket").fileno())
