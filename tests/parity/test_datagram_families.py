"""Datagrams beside plain UDP: Unix sockets, netlink, and broadcast."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from .harness.datagrams import LOCALHOST, Mailbox, endpoint, plain_udp, plain_unix
from .harness.types import Loop


async def test_unix_datagrams_by_path(loop: Loop, tmp_path: Path) -> None:
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    with plain_unix(theirs) as peer:
        async with endpoint(loop, ours, family=socket.AF_UNIX) as box:
            assert box.transport.get_extra_info("sockname") == ours
            for address in (theirs, theirs.encode()):
                box.transport.sendto(b"out", address)
                assert peer.recvfrom(10) == (b"out", ours)
            peer.sendto(b"in", ours)
            await box.received(1)
            assert box.mail == [(b"in", theirs)]


async def test_unix_datagrams_between_connected_endpoints(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    async with (
        endpoint(loop, path, family=socket.AF_UNIX) as server,
        endpoint(loop, remote_addr=path, family=socket.AF_UNIX) as client,
    ):
        assert client.transport.get_extra_info("peername") == path
        client.transport.sendto(b"from nobody")
        await server.received(1)
        assert server.mail == [(b"from nobody", None)]


async def test_unix_datagrams_by_abstract_name(loop: Loop, tmp_path: Path) -> None:
    ours, theirs = f"\0{tmp_path}/ours", f"\0{tmp_path}/theirs"
    with plain_unix(theirs) as peer:
        async with endpoint(loop, ours, family=socket.AF_UNIX) as box:
            assert box.transport.get_extra_info("sockname") == ours.encode()
            box.transport.sendto(b"out", theirs)
            assert peer.recvfrom(10) == (b"out", ours.encode())
            peer.sendto(b"in", ours)
            await box.received(1)
            assert box.mail == [(b"in", theirs.encode())]


async def test_a_large_unix_datagram_comes_whole(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "ours")
    large = bytes(range(256)) * 400
    async with endpoint(loop, path, family=socket.AF_UNIX) as box:
        with plain_unix(str(tmp_path / "peer")) as peer, plain_unix(b"\0" + path.encode()) as other:
            for _ in range(12):
                peer.sendto(large, path)
                other.sendto(b"small", path)
                await box.received(2)
                assert box.data == [large, b"small"]
                box.mail.clear()


async def test_a_stale_unix_socket_is_replaced(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "stale")
    plain_unix(path).close()
    async with endpoint(loop, path, family=socket.AF_UNIX) as box:
        with plain_unix(str(tmp_path / "peer")) as peer:
            peer.sendto(b"in", path)
        assert await box.received(1) == [b"in"]


async def test_another_file_is_not_replaced(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
        await loop.create_datagram_endpoint(
            lambda: Mailbox(loop), local_addr=str(path), family=socket.AF_UNIX
        )
    assert path.read_text() == "data"


async def test_a_socket_pair_can_be_adopted(loop: Loop) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.settimeout(60)
    with theirs:
        async with endpoint(loop, sock=ours) as box:
            assert box.transport.get_extra_info("peername") == ""
            theirs.send(b"in")
            await box.received(1)
            assert box.mail == [(b"in", None)]


async def test_netlink_is_served(loop: Loop) -> None:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
    sock.bind((0, 0))
    async with endpoint(loop, sock=sock) as box:
        # RTM_GETLINK for all links, with NLM_F_REQUEST | NLM_F_DUMP
        request = struct.pack("=IHHII", 20, 18, 0x301, 1, 0) + bytes(4)
        box.transport.sendto(request, (0, 0))
        await box.received(1)
        data, address = box.mail[0]
        assert address == (0, 0)
        assert struct.unpack_from("=IHH", data)[1] in {3, 16}  # NLMSG_DONE, RTM_NEWLINK


async def test_broadcast_has_to_be_allowed(loop: Loop) -> None:
    async with endpoint(loop, ("0.0.0.0", 0)) as box:
        port = box.transport.get_extra_info("sockname")[1]
        for number, address in enumerate(["255.255.255.255", "<broadcast>"]):
            box.transport.sendto(b"all", (address, port))
            # Without a network there is no way for it, which is looked for first.
            assert box.errors[number].errno in {errno.EACCES, errno.ENETUNREACH}  # type: ignore[attr-defined]


async def test_broadcast_by_number_and_by_name(loop: Loop) -> None:
    async with endpoint(loop, ("0.0.0.0", 0), allow_broadcast=True) as box:
        sock = box.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        port = box.transport.get_extra_info("sockname")[1]
        for address in ("127.255.255.255", "<broadcast>"):
            box.transport.sendto(b"all", (address, port))
        # Without a network there is no way for the second one.
        assert all(error.errno == errno.ENETUNREACH for error in box.errors)  # type: ignore[attr-defined]
        await box.received(1)
        assert box.data[0] == b"all"


async def test_a_broadcast_endpoint_with_a_peer_is_not_connected(loop: Loop) -> None:
    with plain_udp() as peer, plain_udp() as other:
        async with endpoint(
            loop, LOCALHOST, remote_addr=peer.getsockname(), allow_broadcast=True
        ) as box:
            assert box.transport.get_extra_info("peername") is None
            box.transport.sendto(b"out")
            assert peer.recv(10) == b"out"
            box.transport.sendto(b"out", peer.getsockname())
            assert peer.recv(10) == b"out"
            with pytest.raises(ValueError, match="Invalid address: must be None or "):
                box.transport.sendto(b"out", other.getsockname())
            other.sendto(b"in", box.transport.get_extra_info("sockname"))
            await box.received(1)
            assert box.mail == [(b"in", other.getsockname())]


class Silent(socket.socket):
    """Does not say how much it has sent."""

    def sendto(self, *args: Any) -> None:  # type: ignore[override]
        super().sendto(*args)


async def test_what_a_sockets_own_sendto_returns_is_not_looked_at(loop: Loop) -> None:
    with Silent(socket.AF_INET, socket.SOCK_DGRAM) as ours, plain_udp() as peer:
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        async with endpoint(loop, sock=ours) as box:
            # A name is Python's to look up.
            box.transport.sendto(b"sent", ("localhost", peer.getsockname()[1]))
            assert peer.recv(10) == b"sent"
            await asyncio.sleep(0)
            assert not box.transport.is_closing()
            assert not box.errors
