"""``create_server``: addresses, socket options, given sockets and errors."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from typing import Any

import pytest

from .harness.leaks import descriptors
from .harness.links import at_a_free_port
from .harness.protocols import Recorder
from .harness.turns import until
from .harness.types import Loop


def addresses(server: asyncio.Server) -> list[str]:
    """Return the addresses that the server listens at."""
    return sorted(sock.getsockname()[0] for sock in server.sockets)


async def test_port_zero_is_a_port_of_the_systems_choice(loop: Loop) -> None:
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
        assert server.sockets[0].getsockname()[1] > 0


async def test_no_host_means_every_interface_of_both_families(loop: Loop) -> None:
    for host in (None, ""):
        async with await loop.create_server(asyncio.Protocol, host, 0) as server:
            assert addresses(server) == ["0.0.0.0", "::"]


async def test_several_hosts_are_all_served(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder(loop))
        return made[-1]

    hosts = ["127.0.0.1", "127.0.0.2", "::1", "127.0.0.1"]
    async with await loop.create_server(factory, hosts, 0) as server:
        assert addresses(server) == ["127.0.0.1", "127.0.0.2", "::1"]
        for sock in server.sockets:
            with socket.create_connection(sock.getsockname()[:2]):
                pass
        await until(lambda: len(made) == 3)
        for each in made:
            await each.lost


async def test_several_hosts_share_a_given_port(loop: Loop) -> None:
    async def serve(port: int) -> None:
        async with await loop.create_server(asyncio.Protocol, ["127.0.0.1", "::1"], port) as server:
            assert {sock.getsockname()[1] for sock in server.sockets} == {port}

    await at_a_free_port(serve)


async def test_the_family_can_be_chosen(loop: Loop) -> None:
    async with await loop.create_server(asyncio.Protocol, None, 0, family=socket.AF_INET) as server:
        assert addresses(server) == ["0.0.0.0"]


async def test_ipv6_sockets_are_for_ipv6_only(loop: Loop) -> None:
    async with await loop.create_server(asyncio.Protocol, "::", 0) as server:
        (sock,) = server.sockets
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


async def test_a_given_socket_is_served(loop: Loop) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    protocol = Recorder(loop)
    server = await loop.create_server(lambda: protocol, sock=sock)
    async with server:
        assert server.sockets[0].fileno() == sock.fileno()
        assert sock.gettimeout() == 0
        with socket.create_connection(sock.getsockname()) as client:
            client.sendall(b"x")
            assert await protocol.received(1) == b"x"
        await protocol.lost
    assert sock.fileno() == -1


class Within:
    """A listening socket within an object that is none itself, as gunicorn hands to its workers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


async def test_a_socket_within_an_object_is_closed_with_its_server(loop: Loop) -> None:
    sock: Any = Within(socket.create_server(("127.0.0.1", 0)))
    address = sock.getsockname()
    server = await loop.create_server(asyncio.Protocol, sock=sock)
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_who_comes_when_a_server_is_closed_is_left_to_those_who_share_its_socket(
    loop: Loop,
) -> None:
    """Another process may have the socket, too: the next worker has whom the last one leaves."""
    sock: Any = Within(socket.create_server(("127.0.0.1", 0)))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with sock.dup() as shared, ours, theirs:
        server = await loop.create_server(asyncio.Protocol, sock=sock)
        server.close()
        await server.wait_closed()
        received = asyncio.ensure_future(loop.sock_recv(ours, 1))
        await asyncio.sleep(0)
        with socket.create_connection(shared.getsockname()) as client:
            # The kernel is asked for this, and would tell of the client as well.
            theirs.send(b"x")
            assert await received == b"x"
            shared.setblocking(False)
            accepted, address = shared.accept()
            accepted.close()
            assert address == client.getsockname()


async def test_the_address_may_be_reused_by_default(loop: Loop) -> None:
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
        sock = server.sockets[0]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


async def test_reuse_address_can_be_refused(loop: Loop) -> None:
    async with await loop.create_server(
        asyncio.Protocol, "127.0.0.1", 0, reuse_address=False
    ) as server:
        assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0


async def test_reuse_port_lets_two_servers_share_an_address(loop: Loop) -> None:
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, reuse_port=True) as first:
        sock = first.sockets[0]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        async with await loop.create_server(
            asyncio.Protocol, *sock.getsockname(), reuse_port=True
        ) as second:
            assert second.sockets[0].getsockname() == sock.getsockname()


if sys.version_info >= (3, 13):  # keep_alive is new in 3.13

    async def test_keep_alive_is_set(loop: Loop) -> None:
        async with await loop.create_server(
            asyncio.Protocol, "127.0.0.1", 0, keep_alive=True
        ) as server:
            assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def queue_of(sock: Any) -> int:
    """Return how many may wait to be accepted, which the kernel tells as `tcpi_sacked`."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    length: int = struct.unpack_from("I", info, 28)[0]
    return length


async def test_backlog_is_passed_on(loop: Loop) -> None:
    for backlog in (5, 50):
        async with await loop.create_server(
            asyncio.Protocol, "127.0.0.1", 0, backlog=backlog
        ) as server:
            assert queue_of(server.sockets[0]) == backlog
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
        assert queue_of(server.sockets[0]) == 100


async def test_as_many_as_the_backlog_are_accepted_at_once(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder(loop))
        return made[-1]

    async with await loop.create_server(factory, "127.0.0.1", 0, backlog=5) as server:
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(5)]
        await until(lambda: len(made) == 5)
        for client in clients:
            client.close()
        for each in made:
            await each.lost


async def test_an_address_in_use_is_an_error(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = descriptors()
        address = taken.getsockname()
        with pytest.raises(OSError, match="error while attempting to bind on address") as raised:
            await loop.create_server(asyncio.Protocol, *address)
        assert raised.value.errno == errno.EADDRINUSE
        assert f"{address!r}: " in str(raised.value)
        assert "address already in use" in str(raised.value)
        assert descriptors() == before


async def test_one_address_in_use_of_several_leaves_no_socket(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = descriptors()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="error while attempting to bind"):
            await loop.create_server(asyncio.Protocol, ["127.0.0.2", "127.0.0.1"], port)
        assert descriptors() == before


async def test_an_address_that_is_not_ours_is_an_error(loop: Loop) -> None:
    # Since 3.13 an address of a family that is not enabled is passed over, if another is left.
    text = (
        "could not bind on any address out of"
        if sys.version_info >= (3, 13)
        else "error while attempting to bind on address"
    )
    with pytest.raises(OSError, match=text):
        await loop.create_server(asyncio.Protocol, "192.0.2.1", 0)


if sys.version_info >= (3, 13):

    async def test_an_address_that_is_not_ours_is_passed_over_if_another_is(loop: Loop) -> None:
        hosts = ["192.0.2.1", "127.0.0.1"]
        async with await loop.create_server(asyncio.Protocol, hosts, 0) as server:
            assert addresses(server) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, "^Neither host/port nor sock were specified$"),
        (
            {"host": "127.0.0.1", "port": 0, "ssl": True},
            TypeError,
            "^ssl argument must be an SSLContext or None$",
        ),
        (
            {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1},
            ValueError,
            "^ssl_handshake_timeout is only meaningful with ssl$",
        ),
        (
            {"host": "127.0.0.1", "port": 0, "ssl_shutdown_timeout": 1},
            ValueError,
            "^ssl_shutdown_timeout is only meaningful with ssl$",
        ),
        ({"host": "127.0.0.1", "port": 0, "unknown": 1}, TypeError, "unknown"),
    ],
)
async def test_arguments_that_contradict_are_refused(
    loop: Loop, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await loop.create_server(asyncio.Protocol, **arguments)


async def test_host_and_sock_contradict(loop: Loop) -> None:
    options: dict[str, Any] = {"host": "127.0.0.1", "port": 1}
    with socket.socket() as sock:
        text = r"^host/port and sock can not be specified at the same time$"
        with pytest.raises(ValueError, match=text):
            await loop.create_server(asyncio.Protocol, sock=sock, **options)


async def test_a_datagram_socket_is_refused(loop: Loop) -> None:
    text = r"^A Stream Socket was expected, got <socket"
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(ValueError, match=text):
        await loop.create_server(asyncio.Protocol, sock=sock)


async def test_an_unknown_name_is_a_gaierror(loop: Loop) -> None:
    options: dict[str, Any] = {"flags": socket.AI_NUMERICHOST}
    with pytest.raises(socket.gaierror):
        await loop.create_server(asyncio.Protocol, "no number", 0, **options)


async def test_an_empty_answer_is_an_error(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [])
    with pytest.raises(OSError, match=r"^getaddrinfo\('some.example'\) returned empty list$"):
        await loop.create_server(asyncio.Protocol, "some.example", 0)


async def test_each_connection_gets_a_protocol_of_its_own(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder(loop))
        return made[-1]

    async with await loop.create_server(factory, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(10)]
        for n, client in enumerate(clients):
            client.sendall(bytes([n]) * 3)
            client.close()
        await until(lambda: len(made) == 10)
        for each in made:
            await each.lost
        assert sorted(bytes(each.data) for each in made) == [bytes([n]) * 3 for n in range(10)]


@pytest.mark.only("cloverleaf")  # asyncio's server cannot be closed then
async def test_a_server_leaves_alone_who_has_the_number_of_a_socket_that_was_closed(
    loop: Loop,
) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    number = sock.fileno()
    server = await loop.create_server(asyncio.Protocol, sock=sock)
    sock.close()
    other = socket.create_server(("127.0.0.1", 0))
    assert other.fileno() == number
    made = loop.create_future()
    async with await loop.create_server(lambda: Made(made), sock=other):
        server.close()
        with socket.create_connection(other.getsockname()):
            await asyncio.wait_for(made, 10)


class Made(asyncio.Protocol):
    def __init__(self, made: asyncio.Future[None]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.set_result(None)
        transport.close()
