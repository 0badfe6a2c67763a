"""``get_extra_info``, types and reprs of stream transports."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from .harness.links import both_ends, linked
from .harness.protocols import Recorder
from .harness.types import Loop


async def test_a_transport_is_an_asyncio_transport(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        assert isinstance(ours.transport, asyncio.Transport)


async def test_extra_info_names_both_addresses(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        client, server = ends.client.transport, ends.server.transport
        assert client.get_extra_info("sockname") == server.get_extra_info("peername")
        assert client.get_extra_info("peername") == server.get_extra_info("sockname")
        host, port = client.get_extra_info("sockname")
        assert host == "127.0.0.1"
        assert type(port) is int


async def test_extra_info_of_ipv6_has_four_parts(loop: Loop) -> None:
    server = await loop.create_server(lambda: Recorder(loop), "::1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        protocol = Recorder(loop)
        await loop.create_connection(lambda: protocol, "::1", address[1])
        assert protocol.transport.get_extra_info("peername") == address
        assert len(address) == 4
        protocol.transport.close()
        await protocol.lost


async def test_extra_info_is_asked_for_by_what_a_dict_takes(loop: Loop) -> None:
    names: list[Any] = ["\udc80", "peer\0name", "", b"socket", None, 5, ("socket",)]
    async with linked(loop, Recorder) as (ours, _):
        for name in names:
            assert ours.transport.get_extra_info(name, "unknown") == "unknown"
        unhashable: Any = []
        with pytest.raises(TypeError, match="unhashable type: 'list'"):
            ours.transport.get_extra_info(unhashable)


async def test_extra_info_of_a_pair_has_empty_names(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        assert ours.transport.get_extra_info("sockname") == ""
        assert ours.transport.get_extra_info("peername") == ""


async def test_extra_info_gives_a_socket_to_look_at(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        sock = ends.client.transport.get_extra_info("socket")
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert sock.fileno() >= 0
        assert sock.getsockname() == ends.client.transport.get_extra_info("sockname")
        assert sock.gettimeout() == 0
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for method in ("recv", "send", "close", "detach", "connect"):
            assert not hasattr(sock, method)


async def test_extra_info_of_what_there_is_not_is_the_default(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        get = ours.transport.get_extra_info
        assert get("no such thing") is None
        assert get("no such thing", 42) == 42
        for name in ("sslcontext", "ssl_object", "cipher", "peercert", "pipe", "subprocess"):
            assert get(name) is None
        assert get(name="sockname", default=1) == ""


async def test_extra_info_is_kept_after_the_end(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        peername = ends.client.transport.get_extra_info("peername")
        ends.client.transport.close()
        await ends.client.lost
        assert ends.client.transport.get_extra_info("peername") == peername


async def test_extra_info_is_what_a_program_has_put_in_its_place(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        transport: Any = ours.transport
        transport._extra["more"] = 1
        assert transport.get_extra_info("more") == 1
        transport._extra = {"alone": 2}
        for _ in range(2):
            assert transport._extra == {"alone": 2}
            assert transport.get_extra_info("alone") == 2
            for name in ("socket", "sockname", "peername", "more"):
                assert transport.get_extra_info(name, "none") == "none"
        transport._extra = None
        assert transport._extra is None
        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'get'"):
            transport.get_extra_info("alone")


async def test_repr_shows_descriptor_and_state(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        number = ours.transport.get_extra_info("socket").fileno()
        text = repr(ours.transport)
        assert f" fd={number} " in text
        assert "read=polling" in text
        assert "write=<idle, bufsize=0>" in text
        ours.transport.pause_reading()
        assert "read=idle" in repr(ours.transport)
        ours.transport.close()
        assert " closing " in repr(ours.transport)
        await ours.lost
        name = type(ours.transport).__name__
        assert repr(ours.transport) == f"<{name} closed fd={number}>"


async def test_repr_shows_what_waits_to_be_written(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        while ours.transport.get_write_buffer_size() == 0:
            ours.transport.write(bytes(1 << 20))
        size = ours.transport.get_write_buffer_size()
        assert f"write=<polling, bufsize={size}>" in repr(ours.transport)


@pytest.mark.parametrize("call", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
async def test_a_descriptor_used_by_a_transport_cannot_be_watched(loop: Loop, call: str) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        sock = ours.transport.get_extra_info("socket")
        rest = (print,) if call.startswith("add") else ()
        with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <.*>$"):
            getattr(loop, call)(sock.fileno(), *rest)
        peer.sendall(b"undisturbed")
        assert await ours.received(11) == b"undisturbed"


async def test_a_descriptor_is_free_to_watch_after_connection_lost(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        number = ours.transport.get_extra_info("socket").fileno()
        ours.transport.close()
        await ours.lost
        one, other = socket.socketpair()
        with one, other:
            assert number in (one.fileno(), other.fileno())
            seen = loop.create_future()
            loop.add_writer(number, seen.set_result, None)
            await seen
            loop.remove_writer(number)
