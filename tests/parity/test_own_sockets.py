"""What programs put in the place of asyncio's: sockets with methods of their own, and pretences."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import Any
from unittest.mock import patch

import pytest

from .harness.certificates import HOST, client_context, server_context
from .harness.links import accepted, linked
from .harness.protocols import Recorder
from .harness.types import Loop


class Quiet(asyncio.Protocol):
    """Takes what comes."""


class Counting(socket.socket):
    """Counts the bytes that pass."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received = 0
        self.sent = 0

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self.received += len(data)
        return data

    def recv_into(self, *args: Any) -> int:
        count = super().recv_into(*args)
        self.received += count
        return count

    def send(self, data: Any, *args: Any) -> int:
        count = super().send(data, *args)
        self.sent += count
        return count

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        count = super().sendmsg(buffers, *args)
        self.sent += count
        return count


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_a_sockets_own_methods_are_used(loop: Loop, encrypted: bool) -> None:
    context = server_context() if encrypted else None
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    sock = Counting(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    if not encrypted:  # too little for the payload, so that the transport must wait for room
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await loop.sock_connect(sock, server.sockets[0].getsockname())
    protocol = Recorder(loop)
    arguments: dict[str, Any] = {"ssl": client_context(), "server_hostname": HOST}
    transport, _ = await loop.create_connection(
        lambda: protocol, sock=sock, **(arguments if encrypted else {})
    )
    payload = b"all of it" * 100_000
    transport.write(payload)
    assert encrypted or transport.get_write_buffer_size() > 0
    assert await protocol.received(len(payload)) == payload
    assert sock.sent >= len(payload)
    assert sock.received >= len(payload)
    assert "OwnSocketTransport" in repr(transport) or not type(loop).__module__.startswith("clover")
    transport.close()
    assert await protocol.lost is None
    assert sock.fileno() == -1
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("paused", [False, True])
async def test_a_transports_descriptor_is_not_for_others_to_watch(loop: Loop, paused: bool) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        sock = Counting(fileno=ours.detach())
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        if paused:
            transport.pause_reading()
        number = sock.fileno()
        for refused in (
            lambda: loop.add_reader(number, print),
            lambda: loop.add_writer(sock, print),
            lambda: loop.remove_reader(sock),
            lambda: loop.remove_writer(number),
        ):
            with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport "):
                refused()
        transport.resume_reading()
        theirs.send(b"still heard")
        assert await protocol.received(11) == b"still heard"
        transport.close()
        assert await protocol.lost is None
        assert not loop.remove_reader(number), "the number is free for others"


async def test_a_socket_that_is_closed_before_its_turn_is_reported(loop: Loop) -> None:
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    ours, theirs = socket.socketpair()
    with theirs:
        sock = Counting(fileno=ours.detach())
        sock.setblocking(False)

        def factory() -> Quiet:
            sock.close()
            return Quiet()

        transport, _ = await loop.create_connection(factory, sock=sock)
        assert [repr(context["exception"]) for context in told] == [
            "ValueError('Invalid file descriptor: -1')"
        ]
        transport._call_connection_lost(None)  # type: ignore[attr-defined]


async def test_a_socket_of_a_class_that_changes_nothing_is_a_socket(loop: Loop) -> None:
    class Named(socket.socket):
        """A socket with a name."""

    ours, theirs = socket.socketpair()
    with theirs:
        named = Named(fileno=ours.detach())
        protocol = Recorder(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=named)
        transport.write(b"one")
        theirs.settimeout(60)
        assert theirs.recv(3) == b"one"
        transport.close()
        assert await protocol.lost is None


async def test_what_a_program_pretends_about_transports_is_believed(loop: Loop) -> None:
    async with linked(loop, Recorder) as (protocol, _):
        transport = protocol.transport
        with patch("asyncio.BaseTransport.get_extra_info", return_value="anything") as pretence:
            assert transport.get_extra_info("peername") == "anything"
            pretence.assert_called_with("peername")

        def told(self: object, name: str, default: object = None) -> object:
            return self, name, default

        with patch("asyncio.BaseTransport.get_extra_info", told):
            assert transport.get_extra_info("peername", 1) == (transport, "peername", 1)
        assert isinstance(transport.get_extra_info("socket").fileno(), int)
        assert transport.get_extra_info("nothing", pickle) is pickle


@pytest.mark.parametrize("sort", ["stream", "tls", "datagram", "pipe"])
async def test_a_pretence_may_ask_asyncios_own_method(loop: Loop, sort: str) -> None:
    genuine = asyncio.BaseTransport.get_extra_info
    asked: list[str] = []

    def told(self: Any, name: str, default: object = None) -> object:
        asked.append(name)
        return genuine(self, name, default)

    transport: Any
    async with AsyncExitStack() as stack:
        if sort == "stream":
            protocol, _ = await stack.enter_async_context(accepted(loop, Recorder))
            transport = protocol.transport
        elif sort == "tls":
            server = await loop.create_server(Quiet, HOST, 0, ssl=server_context())
            stack.callback(server.close)
            address = server.sockets[0].getsockname()[:2]
            transport, _ = await loop.create_connection(
                Quiet, *address, ssl=client_context(), server_hostname=HOST
            )
        elif sort == "datagram":
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
        else:
            ours, theirs = os.pipe()
            stack.callback(os.close, theirs)
            transport, _ = await loop.connect_read_pipe(
                asyncio.Protocol, os.fdopen(ours, "rb", buffering=0)
            )
        names = ("socket", "sockname", "peername", "pipe", "nothing")
        before = [str(transport.get_extra_info(name, "none")) for name in names]
        with patch("asyncio.BaseTransport.get_extra_info", told):
            assert [str(transport.get_extra_info(name, "none")) for name in names] == before
        assert set(asked) <= set(names)
        if sort != "tls":
            transport._extra["more"] = 1
            assert transport.get_extra_info("more") == 1
        transport.close()
        await asyncio.sleep(0)
        assert str(transport.get_extra_info("sockname", "none")) == before[1]


def test_a_pretence_from_before_the_import_ends_when_it_is_taken_back() -> None:
    source = """
from unittest.mock import patch

with patch("asyncio.BaseTransport.get_extra_info", return_value="pretended"):
    import asyncio, cloverleaf

async def main():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    print(writer.get_extra_info("peername") == address)
    with patch("asyncio.BaseTransport.get_extra_info", return_value="pretended"):
        print(writer.get_extra_info("peername"))
    writer.close()
    server.close()

cloverleaf.run(main())
"""
    said = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["True", "pretended"]


@pytest.mark.parametrize("where", ["tcp", "unix"])
async def test_a_server_tells_how_it_encrypts_by_asyncios_names(
    loop: Loop, where: str, tmp_path: Any
) -> None:
    async def serve(context: ssl.SSLContext | None, seconds: float | None) -> Any:
        options: Any = {"ssl": context, "ssl_handshake_timeout": seconds}
        if where == "unix":
            return await loop.create_unix_server(asyncio.Protocol, tmp_path / "s", **options)
        return await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, **options)

    context = server_context()
    for chosen, seconds in (context, 7.5), (None, None):
        server = await serve(chosen, seconds)
        assert server._ssl_context is chosen
        assert server._ssl_handshake_timeout == seconds
        assert server._ssl_shutdown_timeout is None
        server.close()
        await server.wait_closed()
        (tmp_path / "s").unlink(missing_ok=True)
