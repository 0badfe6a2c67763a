"""`create_datagram_endpoint`: sockets for datagrams, bound, connected, both or neither."""

import asyncio
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from . import _transports  # noqa: F401  # the classes of what is made here
from ._serve import switch_on
from ._sockets import SocketOperations
from ._unix import remove_stale_socket

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

# ((family, protocol), (local address, remote address))
_Candidate = tuple[tuple[int, int], tuple[Any, Any]]


class Datagrams(SocketOperations):
    """Endpoints for datagrams."""

    async def create_datagram_endpoint(  # type: ignore[override]  # reuse_address went with 3.11
        self,
        protocol_factory: Callable[[], _P],
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: "socket.socket | None" = None,
    ) -> tuple[asyncio.DatagramTransport, _P]:
        """Make an endpoint, or adopt `sock`; return (transport, protocol)."""
        if sock is not None:
            _check_socket(sock)
            _refuse_modifiers(
                local_addr=local_addr,
                remote_addr=remote_addr,
                family=family,
                proto=proto,
                flags=flags,
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
            )
            sock.setblocking(False)
            endpoint, peer = sock, None
        else:
            endpoint, peer = await self._first_endpoint(
                await self._candidates(local_addr, remote_addr, family, proto, flags),
                is_bound=bool(local_addr),
                has_peer=bool(remote_addr),
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
            )
        try:
            protocol = protocol_factory()
            if sock is not None:
                self._refuse_served(sock)
            met = self.create_future()
            transport = self._make_datagram_transport(endpoint, protocol, peer, met)
            if sock is not None:
                # Tells the transport that the program knows its socket.
                transport.get_extra_info("socket")
        except BaseException:
            if sock is None:
                endpoint.close()
            raise
        if self.get_debug():
            _log_made(local_addr, remote_addr, transport, protocol)
        try:
            await met
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _candidates(
        self, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
    ) -> list[_Candidate]:
        """The pairs of addresses to try, one after the other."""
        if not (local_addr or remote_addr):
            if family == 0:
                raise ValueError("unexpected address family")
            return [((family, proto), (None, None))]
        if family == socket.AF_UNIX:
            for address in (local_addr, remote_addr):
                if address is not None and not isinstance(address, str):
                    raise TypeError("string is expected")
            if local_addr and not local_addr.startswith("\0"):
                remove_stale_socket(local_addr)
            return [((family, proto), (local_addr, remote_addr))]
        return await self._resolved_pairs((local_addr, remote_addr), (family, proto, flags))

    async def _resolved_pairs(
        self, addresses: tuple[Any, Any], hints: tuple[int, int, int]
    ) -> list[_Candidate]:
        """The pairs in each family and protocol in which every address has been found."""
        family, proto, flags = hints
        pairs: dict[tuple[int, int], list[Any]] = {}
        for place, address in enumerate(addresses):
            if address is None:
                continue
            if not (isinstance(address, tuple) and len(address) == 2):
                raise TypeError("2-tuple is expected")
            found = await self._resolve(
                address, family=family, kind=socket.SOCK_DGRAM, proto=proto, flags=flags
            )
            if not found:
                raise OSError("getaddrinfo() returned empty list")
            for found_family, _, found_proto, _, resolved in found:
                pairs.setdefault((found_family, found_proto), [None, None])[place] = resolved

        complete = [
            (key, (local, remote))
            for key, (local, remote) in pairs.items()
            if not (addresses[0] and local is None) and not (addresses[1] and remote is None)
        ]
        if not complete:
            raise ValueError("can not get address information")
        return complete

    async def _first_endpoint(
        self,
        candidates: list[_Candidate],
        *,
        is_bound: bool,
        has_peer: bool,
        reuse_port: bool | None,
        allow_broadcast: bool | None,
    ) -> tuple[socket.socket, Any]:
        """The first socket that the system grants, and the one address that it may send to."""
        errors: list[OSError] = []
        for (family, proto), (local, remote) in candidates:
            sock: socket.socket | None = None
            try:
                sock = socket.socket(family=family, type=socket.SOCK_DGRAM, proto=proto)
                if reuse_port:
                    switch_on(sock, socket.SO_REUSEPORT)
                if allow_broadcast:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.setblocking(False)
                if is_bound:
                    sock.bind(local)
                # A socket that is connected to a broadcast address would hear no answer.
                if has_peer and not allow_broadcast:
                    await self.sock_connect(sock, remote)
            except BaseException as error:
                if sock is not None:
                    sock.close()
                if not isinstance(error, OSError):
                    raise
                errors.append(error)
            else:
                return sock, remote if has_peer else None
        try:
            raise errors[0]
        finally:
            # The errors' tracebacks refer to this frame.
            del errors


def _check_socket(sock: socket.socket) -> None:
    version = sys.version_info
    if version >= (3, 12, 2) or (3, 11, 8) <= version < (3, 12):
        if sock.type == socket.SOCK_STREAM:
            raise ValueError(f"A datagram socket was expected, got {sock!r}")
    elif sock.type != socket.SOCK_DGRAM:
        raise ValueError(f"A UDP Socket was expected, got {sock!r}")


def _refuse_modifiers(**modifiers: Any) -> None:
    given = ", ".join(f"{name}={value}" for name, value in modifiers.items() if value)
    if given:
        raise ValueError(
            f"socket modifier keyword arguments can not be used when sock is specified. ({given})"
        )


def _log_made(local_addr: Any, remote_addr: Any, transport: object, protocol: object) -> None:
    if local_addr:
        logger.info(
            "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
            local_addr,
            remote_addr,
            transport,
            protocol,
        )
    else:
        logger.debug(
            "Datagram endpoint remote_addr=%r created: (%r, %r)", remote_addr, transport, protocol
        )
