"""Outgoing connections whose sockets Python does not see until somebody asks for them."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import weakref
from typing import Any

import pytest

from .harness.links import wait_for_a_client
from .harness.turns import turns
from .harness.types import Loop


class Quiet(asyncio.Protocol):
    """Takes what comes."""


def refusing() -> tuple[socket.socket, tuple[str, int]]:
    """A bound socket that does not listen, so that nobody else gets its port."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()


async def test_the_socket_is_there_when_asked_for(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        transport, _ = await loop.create_connection(Quiet, host, port)
        peer, address = listener.accept()
        with peer:
            sock = transport.get_extra_info("socket")
            assert (sock.family, sock.type, sock.proto) == (
                socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
            )
            assert sock.getsockname() == transport.get_extra_info("sockname") == address
            assert sock.getpeername() == transport.get_extra_info("peername") == (host, port)
            assert sock.gettimeout() == 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not sock.get_inheritable()
            transport.close()
            await asyncio.sleep(0)
            assert transport.get_extra_info("sockname") == address


@pytest.mark.parametrize(
    ("host", "met"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::ffff:0.0.0.0", "::ffff:127.0.0.1")],
)
async def test_who_asks_for_any_host_is_told_which_it_was(loop: Loop, host: str, met: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    own = met if family == socket.AF_INET else "::"
    try:
        listener = socket.create_server((own, 0), family=family, dualstack_ipv6=own == "::")
    except (OSError, ValueError) as error:
        pytest.skip(f"no IPv6 here: {error}")
    with listener:
        port = listener.getsockname()[1]
        transport, _ = await loop.create_connection(Quiet, host, port)
        peer, _ = listener.accept()
        with peer:
            assert transport.get_extra_info("peername")[:2] == (met, port)
            transport.close()
            await asyncio.sleep(0)
            assert transport.get_extra_info("peername")[:2] == (met, port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_refusal_names_the_address(loop: Loop, host: str) -> None:
    sock, (_, port) = refusing()
    with sock, pytest.raises(ConnectionRefusedError) as caught:
        await loop.create_connection(Quiet, host, port, family=socket.AF_INET)
    assert caught.value.args[1] == f"Connect call failed ('127.0.0.1', {port})"


async def test_a_listener_with_a_full_backlog_is_waited_for(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        host, port = listener.getsockname()
        # The kernel takes one connection more than the backlog says.
        with socket.create_connection((host, port)):
            wait_for_a_client(listener)
            connecting = loop.create_task(loop.create_connection(Quiet, host, port))
            await turns(10)
            assert not connecting.done()
            first, _ = listener.accept()
            first.close()
            transport, _ = await connecting
            second, address = listener.accept()
            with second:
                assert transport.get_extra_info("sockname") == address
            transport.close()


async def test_an_unreachable_address_is_refused_at_once(loop: Loop) -> None:
    with pytest.raises(OSError, match=r"unreachable|permitted|Permission|refused|argument"):
        await loop.create_connection(Quiet, "255.255.255.255", 9)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors is new in 3.12")
async def test_all_errors_are_told_as_a_group(loop: Loop) -> None:
    sock, (host, port) = refusing()
    with sock, pytest.raises(ExceptionGroup) as caught:
        await loop.create_connection(Quiet, host, port, all_errors=True)  # type: ignore[call-overload]
    assert caught.value.message == "create_connection failed"
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError]


async def test_a_cancelled_attempt_leaves_nothing(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        for turns in range(4):
            task = loop.create_task(loop.create_connection(Quiet, host, port))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.cancel():
                task.result()[0].close()
            await asyncio.wait([task])


async def test_a_factory_that_raises_leaves_nothing(loop: Loop) -> None:
    def factory() -> asyncio.Protocol:
        raise LookupError("no protocol")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(LookupError, match="no protocol"):
            await loop.create_connection(factory, *listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(60)
            if sys.version_info >= (3, 14) or "cloverleaf" in type(loop).__module__:
                assert peer.recv(1) == b""


class Factory:
    """Makes protocols, or raises; who keeps a frame of the attempt keeps it alive."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    def __call__(self) -> asyncio.Protocol:
        if self.fails:
            raise LookupError("no protocol")
        return Quiet()


@pytest.mark.parametrize("end", ["refused", "cancelled", "no protocol"])
async def test_a_failure_leaves_no_cycle_behind(loop: Loop, end: str) -> None:
    factory = Factory(fails=end == "no protocol")
    known = weakref.ref(factory)
    sock, (host, port) = refusing()
    gc.disable()
    try:
        with sock:
            if end != "refused":
                sock.listen()
            task = loop.create_task(loop.create_connection(factory, host, port))
            del factory
            if end == "cancelled":
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or isinstance(task.exception(), OSError | LookupError)
            del task
            await turns(3)
            assert known() is None
    finally:
        gc.enable()


async def test_many_connect_at_once(loop: Loop) -> None:
    def echo() -> asyncio.Protocol:
        return Echo()

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            self.transport.close()

    server = await loop.create_server(echo, "127.0.0.1", 0, backlog=200)
    address = server.sockets[0].getsockname()

    async def call(n: int) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"%d" % n)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async with server:
        answers = await asyncio.gather(*(call(n) for n in range(100)))
    assert answers == [b"%d" % n for n in range(100)]


async def test_a_replaced_socket_class_is_used(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Watched(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(self)
            super().__init__(*args, **kwargs)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(socket, "socket", Watched)
        transport, _ = await loop.create_connection(Quiet, *listener.getsockname())
        monkeypatch.undo()
        fd = transport.get_extra_info("socket").fileno()
        assert fd in [each.fileno() for each in made]
        transport.close()


async def test_a_replaced_sock_connect_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    original = loop.sock_connect

    async def instead(sock: socket.socket, address: Any) -> None:
        called.append(address)
        await original(sock, address)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(loop, "sock_connect", instead)
        transport, _ = await loop.create_connection(Quiet, *listener.getsockname())
        transport.close()
        assert called == [listener.getsockname()]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_audit_hooks_are_told_of_the_socket_that_connects(program: Any, host: str) -> None:
    printed = program.output(
        f"""
import asyncio, socket, sys
seen = []
def hear(event, args):
    if event in ("socket.__new__", "socket.connect"):
        seen.append((event, args))
async def main():
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        sys.addaudithook(hear)
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "{host}", address[1], family=socket.AF_INET
        )
        sock = transport.get_extra_info("socket")._sock
        (made, (_, *sort)), (connected, (_, to)) = [each for each in seen if each[1][0] is sock]
        print(made, connected, to == address, sort[:2] == [socket.AF_INET, socket.SOCK_STREAM])
        transport.close()
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    )
    assert printed.split() == ["socket.__new__", "socket.connect", "True", "True"]


def test_an_audit_hook_can_refuse_a_connection(program: Any) -> None:
    printed = program.output(
        """
import asyncio, socket, sys
def hear(event, args):
    if event == "socket.connect":
        raise LookupError("on purpose")
async def main():
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.addaudithook(hear)
        try:
            await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        except LookupError as error:
            print(error)
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    )
    assert printed == "on purpose"


@pytest.mark.parametrize("then", ["pause", "close", "end and pause"])
async def test_what_is_written_at_once_is_sent_whatever_comes_next(loop: Loop, then: str) -> None:
    payload = bytes(range(256)) * (1 << 15)

    class Eager(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(payload)
            if then == "close":
                transport.close()
                return
            if then == "end and pause":
                transport.write_eof()
            transport.pause_reading()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, _ = await loop.create_connection(Eager, *listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            peer.setblocking(False)
            received = bytearray()
            while len(received) < len(payload):
                piece = await loop.sock_recv(peer, 1 << 20)
                assert piece, f"the end after {len(received)} bytes"
                received += piece
            assert received == payload
            if then != "pause":
                assert await loop.sock_recv(peer, 1) == b""
            if then != "close":
                transport.abort()


def nothing() -> Any:
    """Make no protocol."""


@pytest.mark.only("cloverleaf")  # asyncio keeps such connections until they are collected
@pytest.mark.parametrize("end", ["client", "server"])
async def test_a_connection_without_a_protocol_is_closed(loop: Loop, end: str) -> None:
    complaints: list[Any] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    if end == "client":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with pytest.raises(AttributeError, match="connection_made"):
                await loop.create_connection(nothing, *listener.getsockname())
            peer, _ = listener.accept()
    else:
        server = await loop.create_server(nothing, "127.0.0.1", 0)
        peer = socket.create_connection(server.sockets[0].getsockname())
    with peer:
        peer.setblocking(False)
        assert await loop.sock_recv(peer, 1) == b""
    if end == "server":
        server.close()
        await server.wait_closed()
        assert "connection_made" in str(complaints)
