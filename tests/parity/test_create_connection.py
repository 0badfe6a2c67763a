"""``create_connection`` and ``connect_accepted_socket``: every parameter and every error."""

from __future__ import annotations

import asyncio
import errno
import gc
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .harness.leaks import descriptors
from .harness.links import at_a_free_port, wait_for_a_client
from .harness.protocols import Recorder
from .harness.turns import until
from .harness.types import Loop

Address = tuple[str, int]


@pytest.fixture
def refusing() -> Iterator[Address]:
    """Return an address at which nobody listens, held so that nobody else will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()


@asynccontextmanager
async def listening(
    loop: Loop, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Address, list[Recorder]]]:
    """Serve, and give the address and the protocols of what connects."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder(loop))
        return made[-1]

    server = await loop.create_server(factory, host, 0)
    try:
        yield server.sockets[0].getsockname()[:2], made
    finally:
        server.close()
        for each in made:
            each.transport.abort()
            await each.lost
        await server.wait_closed()


async def ended(*protocols: Recorder) -> None:
    """Close connections and wait for their end."""
    for each in protocols:
        each.transport.close()
        await each.lost


async def test_the_result_is_transport_and_protocol(loop: Loop) -> None:
    async with listening(loop) as (address, made):
        protocol = Recorder(loop)
        transport, returned = await loop.create_connection(lambda: protocol, *address)
        assert returned is protocol
        assert protocol.calls == ["connection_made"]
        assert protocol.transport is transport
        await until(lambda: made)
        await ended(protocol)


async def test_a_host_name_is_resolved(loop: Loop) -> None:
    async with listening(loop) as ((_, port), _made):
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, "localhost", port, family=socket.AF_INET)
        await ended(protocol)


async def test_a_port_may_be_a_string(loop: Loop) -> None:
    async with listening(loop) as ((host, port), _made):
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, host, str(port))  # type: ignore[call-overload]
        await ended(protocol)


async def test_ipv6_works(loop: Loop) -> None:
    async with listening(loop, "::1") as ((host, port), _made):
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, host, port)
        assert protocol.transport.get_extra_info("socket").family == socket.AF_INET6
        await ended(protocol)


async def test_local_addr_is_bound(loop: Loop) -> None:
    async with listening(loop) as (address, made):
        protocol = Recorder(loop)

        async def connect(port: int) -> int:
            local = ("127.0.0.1", port)
            await loop.create_connection(lambda: protocol, *address, local_addr=local)
            return port

        port = await at_a_free_port(connect)
        assert protocol.transport.get_extra_info("sockname") == ("127.0.0.1", port)
        await until(lambda: made)
        assert made[0].transport.get_extra_info("peername") == ("127.0.0.1", port)
        made[0].transport.abort()
        await ended(protocol)


async def test_a_local_addr_in_use_is_an_error(loop: Loop) -> None:
    async with listening(loop) as (address, _made):
        with pytest.raises(OSError, match="error while attempting to bind on address") as raised:
            await loop.create_connection(asyncio.Protocol, *address, local_addr=address)
        assert raised.value.errno == errno.EADDRINUSE


async def test_a_local_addr_of_another_family_is_an_error(loop: Loop) -> None:
    async with listening(loop) as (address, _made):
        with pytest.raises(
            OSError,
            match=r"no matching local address with family=.*AF_INET.* found|"
            r"address family",
        ):
            await loop.create_connection(asyncio.Protocol, *address, local_addr=("::1", 0))


async def test_sock_is_used_as_it_is(loop: Loop) -> None:
    async with listening(loop) as (address, _made):
        ours = socket.create_connection(address)
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, sock=ours)
        sock = protocol.transport.get_extra_info("socket")
        assert sock.fileno() == ours.fileno()
        assert ours.gettimeout() == 0
        await ended(protocol)
        assert ours.fileno() == -1


async def test_a_refused_connection_is_the_callers_error(loop: Loop, refusing: Address) -> None:
    before = descriptors()
    with pytest.raises(ConnectionRefusedError) as raised:
        await loop.create_connection(asyncio.Protocol, *refusing)
    assert raised.value.errno == errno.ECONNREFUSED
    assert raised.value.strerror == f"Connect call failed {refusing}"
    assert descriptors() == before


async def test_an_unknown_name_is_a_gaierror(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.create_connection(asyncio.Protocol, "no number", 1, flags=socket.AI_NUMERICHOST)


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: Any) -> None:
    """Make every name resolve to these addresses."""
    found = [
        (
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            address,
        )
        for address in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: list(found))


async def test_no_address_at_all_is_an_error(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)
    with pytest.raises(OSError, match=r"^getaddrinfo\(.*\) returned empty list$"):
        await loop.create_connection(asyncio.Protocol, "some.example", 1)


@pytest.mark.parametrize("delay", [None, 0.05, 0.25])
async def test_the_next_address_is_tried_when_one_refuses(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, refusing: Address, delay: float | None
) -> None:
    async with listening(loop) as (address, _made):
        answers(monkeypatch, refusing, refusing, address)
        protocol = Recorder(loop)
        await loop.create_connection(
            lambda: protocol, "some.example", 1, happy_eyeballs_delay=delay
        )
        assert protocol.transport.get_extra_info("peername") == address
        await ended(protocol)


async def test_different_errors_are_told_together(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, refusing: Address
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        second = other.getsockname()
        answers(monkeypatch, refusing, second)
        with pytest.raises(
            OSError, match=r"^Multiple exceptions: \[Errno 111\] Connect call"
        ) as raised:
            await loop.create_connection(asyncio.Protocol, "some.example", 1)
    assert str(refusing) in str(raised.value)
    assert str(second) in str(raised.value)


async def test_equal_errors_are_told_once(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, refusing: Address
) -> None:
    answers(monkeypatch, refusing, refusing)
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(asyncio.Protocol, "some.example", 1)


if sys.version_info >= (3, 12):  # all_errors is new in 3.12

    async def test_all_errors_are_told_as_a_group(
        loop: Loop, monkeypatch: pytest.MonkeyPatch, refusing: Address
    ) -> None:
        answers(monkeypatch, refusing, refusing)
        with pytest.raises(ExceptionGroup, match="create_connection failed") as raised:
            await loop.create_connection(asyncio.Protocol, "some.example", 1, all_errors=True)
        assert [type(each) for each in raised.value.exceptions] == [ConnectionRefusedError] * 2


async def test_interleave_alternates_the_families(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, refusing: Address
) -> None:
    port = refusing[1]
    odd: Any = 0.5
    answers(
        monkeypatch,
        ("::1", port, 0, 0),
        ("::1", port, 0, 0),
        ("127.0.0.1", port),
        ("127.0.0.1", port),
    )
    for first, families in (
        (1, ["::1", "127.0.0.1"] * 2),
        (2, ["::1", "::1", "127.0.0.1", "127.0.0.1"]),
        (-1, ["::1", "127.0.0.1"] * 2),
        (odd, ["::1", "127.0.0.1"] * 2),
    ):
        with pytest.raises(OSError, match="Multiple exceptions") as raised:
            await loop.create_connection(asyncio.Protocol, "some.example", 1, interleave=first)
        assert re.findall(r"\('([^']+)'", str(raised.value)) == families


async def test_interleave_must_be_a_number_whatever_the_host(loop: Loop, refusing: Address) -> None:
    wrongs: list[Any] = ["x", [1], 1.5]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            await loop.create_connection(asyncio.Protocol, *refusing, interleave=wrong)


@pytest.mark.parametrize(
    ("hint", "error", "message"),
    [
        ({"family": 1 << 31}, OverflowError, "signed integer is greater than maximum"),
        ({"family": 1 << 70}, OverflowError, "Python int too large to convert to C long"),
        ({"family": "4"}, TypeError, "'str' object cannot be interpreted as an integer"),
        ({"proto": 1 << 31}, OverflowError, "signed integer is greater than maximum"),
        ({"proto": []}, TypeError, "unhashable type: 'list'"),
        (
            {"local_addr": ("127.0.0.1", 0, 0, 0, 0)},
            TypeError,
            "_ipaddr_info() takes from 5 to 7 positional arguments but 8 were given",
        ),
    ],
)
async def test_wrong_hints_for_a_number_are_refused_as_asyncio_does(
    loop: Loop, refusing: Address, hint: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        await loop.create_connection(asyncio.Protocol, *refusing, **hint)


@pytest.mark.parametrize("flags", [1 << 31, 1 << 70, "x", None, 1.5])
async def test_flags_are_not_looked_at_for_a_number(
    loop: Loop, refusing: Address, flags: Any
) -> None:
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(asyncio.Protocol, *refusing, flags=flags)


async def test_happy_eyeballs_starts_the_next_attempt_while_one_hangs(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_listener() as hanging:
        async with listening(loop) as (address, _made):
            answers(monkeypatch, hanging, address)
            protocol = Recorder(loop)
            await loop.create_connection(
                lambda: protocol, "some.example", 1, happy_eyeballs_delay=0.01
            )
            assert protocol.transport.get_extra_info("peername") == address
            await ended(protocol)
        gc.collect()


class full_listener:  # noqa: N801 - used as a context manager
    """An address whose queue is full: to connect takes until somebody accepts."""

    def __enter__(self) -> Address:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        address: Address = self._listener.getsockname()
        # The kernel takes one connection more than the backlog says.
        self._waiting = socket.create_connection(address)
        wait_for_a_client(self._listener)
        return address

    def __exit__(self, *_: object) -> None:
        self._waiting.close()
        self._listener.close()


async def test_a_cancelled_connect_closes_its_socket(loop: Loop) -> None:
    with full_listener() as hanging:
        before = descriptors()
        task = loop.create_task(loop.create_connection(asyncio.Protocol, *hanging))
        await until(lambda: len(descriptors()) > len(before))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(descriptors()) == len(before)


async def test_identity_cancelling_a_connect_with_a_given_socket_touches_no_other(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    task = loop.create_task(loop.create_connection(asyncio.Protocol, sock=ours))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    one, other = socket.socketpair()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    with one, other, theirs:
        one.send(b"x")
        assert other.recv(1) == b"x"
    ours.close()


async def test_a_connect_in_progress_does_not_block_the_loop(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    real = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        free.wait(60)
        return real(*args, **kwargs)

    async with listening(loop) as ((_, port), _made):
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        protocol = Recorder(loop)
        task = loop.create_task(
            loop.create_connection(lambda: protocol, "localhost", port, family=socket.AF_INET)
        )
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        free.set()
        await task
        await ended(protocol)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "host and port was not specified and no sock specified"),
        (
            {"host": "127.0.0.1", "port": 1, "server_hostname": "x"},
            "server_hostname is only meaningful with ssl",
        ),
        (
            {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1},
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
        (
            {"host": "127.0.0.1", "port": 1, "ssl_shutdown_timeout": 1},
            "ssl_shutdown_timeout is only meaningful with ssl",
        ),
        ({"ssl": True}, "You must set server_hostname when using ssl without a host"),
    ],
)
async def test_arguments_that_contradict_are_refused(
    loop: Loop, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        await loop.create_connection(asyncio.Protocol, **arguments)


async def test_host_and_sock_contradict(loop: Loop) -> None:
    with socket.socket() as sock:
        text = r"^host/port and sock can not be specified at the same time$"
        with pytest.raises(ValueError, match=text):
            await loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, sock=sock)  # type: ignore[call-overload]


async def test_a_datagram_socket_is_refused(loop: Loop) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        for connect in (
            loop.create_connection(asyncio.Protocol, sock=sock),
            loop.connect_accepted_socket(asyncio.Protocol, sock),
        ):
            with pytest.raises(ValueError, match=r"^A Stream Socket was expected, got <socket"):
                await connect


async def test_unknown_keywords_are_refused(loop: Loop) -> None:
    unknown: dict[str, Any] = {"unknown": 1}
    with pytest.raises(TypeError):
        await loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, **unknown)


async def test_connect_accepted_socket_serves_a_socket_accepted_elsewhere(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client:
        protocol = Recorder(loop)
        transport, returned = await loop.connect_accepted_socket(lambda: protocol, accepted)
        assert returned is protocol
        assert protocol.calls == ["connection_made"]
        assert transport.get_extra_info("peername") == client.getsockname()
        client.sendall(b"hello")
        assert await protocol.received(5) == b"hello"
        await ended(protocol)


@pytest.mark.parametrize("keyword", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
async def test_connect_accepted_socket_refuses_timeouts_without_ssl(
    loop: Loop, keyword: str
) -> None:
    ours, theirs = socket.socketpair()
    options: dict[str, Any] = {keyword: 1}
    with ours, theirs, pytest.raises(ValueError, match=f"^{keyword} is only meaningful with ssl$"):
        await loop.connect_accepted_socket(asyncio.Protocol, ours, **options)


async def test_a_socket_that_a_transport_uses_cannot_be_used_again(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, sock=ours)
        if sys.version_info >= (3, 12):
            # asyncio looks when it reads or connects; a second transport is a fault of the program.
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(ours, print)
        await ended(protocol)
