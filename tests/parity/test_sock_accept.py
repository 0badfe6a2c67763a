"""``sock_accept`` and ``sock_connect``."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from .harness.links import linked
from .harness.protocols import Recorder
from .harness.turns import turns, until
from .harness.types import Loop


async def test_a_client_that_waits_is_accepted_without_a_turn(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()) as client:
            connection, address = await loop.sock_accept(listener)
            with connection:
                assert connection.gettimeout() == 0
                assert address == client.getsockname()
                assert connection.getsockname() == listener.getsockname()
                for each in ("family", "type", "proto"):
                    assert getattr(connection, each) == getattr(listener, each)
                assert not connection.get_inheritable()


async def test_clients_are_accepted_as_they_come(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        for _ in range(5):
            accepting = loop.create_task(loop.sock_accept(listener))
            await turns(2)
            assert not accepting.done()
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, listener.getsockname())
                connection, address = await accepting
                with connection:
                    assert address == client.getsockname()
                    await loop.sock_sendall(client, b"hello")
                    assert await loop.sock_recv(connection, 100) == b"hello"


async def test_a_cancelled_accept_loses_no_client(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await turns(2)
        client = socket.create_connection(listener.getsockname())
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        connection, address = await loop.sock_accept(listener)
        assert address == client.getsockname()
        connection.close()
        client.close()


async def test_nobody_listening_is_a_refusal(loop: Loop) -> None:
    with socket.socket() as held, socket.socket() as sock:
        held.bind(("127.0.0.1", 0))  # so that nobody else will listen there
        address = held.getsockname()
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as raised:
            await loop.sock_connect(sock, address)
    assert raised.value.errno == errno.ECONNREFUSED
    assert str(raised.value) == f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}"


async def test_a_name_is_resolved_before_connecting(loop: Loop) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET) as sock,
    ):
        sock.setblocking(False)
        await loop.sock_connect(sock, ("localhost", listener.getsockname()[1]))
        assert sock.getpeername() == listener.getsockname()


async def test_unix_sockets_connect_and_accept(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as client,
    ):
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await turns(2)
        await loop.sock_connect(client, path)
        connection, address = await accepting
        with connection:
            assert (connection.family, address) == (socket.AF_UNIX, "")


async def test_ipv6_clients_have_all_four_parts(loop: Loop) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()[:2]) as client:
            connection, address = await loop.sock_accept(listener)
            with connection:
                assert address == client.getsockname()
                assert len(address) == 4


async def test_a_client_may_have_an_abstract_name(loop: Loop) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        listener.bind("")
        listener.listen()
        listener.setblocking(False)
        client.bind("")
        client.connect(listener.getsockname())
        connection, address = await loop.sock_accept(listener)
        with connection:
            assert address == client.getsockname()
            assert connection.type == socket.SOCK_SEQPACKET


async def test_a_blocking_listener_makes_non_blocking_connections(loop: Loop) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        connection, _ = await loop.sock_accept(listener)
        with connection:
            assert connection.gettimeout() == 0


async def test_what_does_not_listen_is_an_error(loop: Loop) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OSError, match="Invalid argument"):
            await loop.sock_accept(sock)
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await loop.sock_accept(sock)


async def test_a_subclass_has_its_own_way(loop: Loop) -> None:
    class Counting(socket.socket):
        accepted = 0

        def accept(self) -> tuple[socket.socket, object]:
            connection = super().accept()
            self.accepted += 1
            return connection

    with Counting() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await turns(2)
        with socket.create_connection(listener.getsockname()) as client:
            connection, address = await accepting
            with connection:
                assert address == client.getsockname()
                assert connection.gettimeout() == 0
    assert listener.accepted == 1


async def test_a_transport_takes_a_socket_over_that_was_waited_for(loop: Loop) -> None:
    """Whatever stays registered for the next wait is no hindrance to a transport."""

    def waited_for() -> tuple[socket.socket, socket.socket]:
        return ours, theirs

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    receiving = loop.create_task(loop.sock_recv(ours, 100))
    await turns(2)
    theirs.send(b"first")
    assert await receiving == b"first"
    cancelled = loop.create_task(loop.sock_recv(ours, 100))
    await turns(2)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    async with linked(loop, Recorder, waited_for) as (protocol, peer):
        peer.sendall(b"second")
        assert await protocol.received(6) == b"second"
        protocol.transport.write(b"third")
        await until(lambda: peer.recv(100, socket.MSG_PEEK) == b"third")
