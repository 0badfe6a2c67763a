"""`create_server`: from hosts and a port, or a socket, to a `Server`."""

import asyncio
import collections.abc
import errno
import itertools
import os
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from ._connect import Connecting, reason
from ._resolve import AddressInfo
from ._server import Server
from ._tls import TLSOptions, refuse_timeouts_without_tls, refuse_tls_socket, tls_options

_Factory = Callable[[], asyncio.BaseProtocol]


class Listening(Connecting):
    """TCP servers."""

    if sys.version_info >= (3, 13):

        async def create_server(  # type: ignore[override]
            self,
            protocol_factory: _Factory,
            host: Any = None,
            port: Any = None,
            *,
            family: int = socket.AF_UNSPEC,
            flags: int = socket.AI_PASSIVE,
            sock: "socket.socket | None" = None,
            backlog: int = 100,
            ssl: Any = None,
            reuse_address: bool | None = None,
            reuse_port: bool | None = None,
            keep_alive: bool | None = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            start_serving: bool = True,
        ) -> Server:
            """Serve TCP on each of the hosts, or on `sock`."""
            tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
            options = _socket_options(reuse_address, reuse_port, keep_alive)
            sockets = await self._listeners(host, port, family, flags, sock, options)
            server = self._server(sockets, protocol_factory, tls, backlog)
            return await self._begun(server, sock, start_serving)

    else:

        async def create_server(  # type: ignore[override]
            self,
            protocol_factory: _Factory,
            host: Any = None,
            port: Any = None,
            *,
            family: int = socket.AF_UNSPEC,
            flags: int = socket.AI_PASSIVE,
            sock: "socket.socket | None" = None,
            backlog: int = 100,
            ssl: Any = None,
            reuse_address: bool | None = None,
            reuse_port: bool | None = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            start_serving: bool = True,
        ) -> Server:
            """Serve TCP on each of the hosts, or on `sock`."""
            tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
            options = _socket_options(reuse_address, reuse_port, None)
            sockets = await self._listeners(host, port, family, flags, sock, options)
            server = self._server(sockets, protocol_factory, tls, backlog)
            return await self._begun(server, sock, start_serving)

    def _server(
        self,
        sockets: list[socket.socket],
        protocol_factory: _Factory,
        tls: TLSOptions | None,
        backlog: int,
    ) -> Server:
        for sock in sockets:
            sock.setblocking(False)
        return Server(self, sockets, protocol_factory, tls, backlog)

    async def _begun(
        self, server: Server, given: "socket.socket | None", start_serving: bool
    ) -> Server:
        if start_serving:
            await server._start_or_end(owns_sockets=given is None)
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _listeners(
        self,
        host: Any,
        port: Any,
        family: int,
        flags: int,
        sock: "socket.socket | None",
        options: list[int],
    ) -> list[socket.socket]:
        """Bound sockets, one for each address, or the one that was given."""
        refuse_tls_socket(sock)
        if host is None and port is None:
            if sock is None:
                raise ValueError("Neither host/port nor sock were specified")
            if sock.type != socket.SOCK_STREAM:
                raise ValueError(f"A Stream Socket was expected, got {sock!r}")
            return [sock]
        if sock is not None:
            raise ValueError("host/port and sock can not be specified at the same time")

        found = await asyncio.tasks.gather(
            *(self._addresses_to_bind(one, port, family, flags) for one in _hosts(host))
        )
        # Two names may lead to one address, on which there can be but one socket.
        addresses = list(dict.fromkeys(itertools.chain.from_iterable(found)))

        sockets: list[socket.socket] = []
        try:
            for address in addresses:
                bound = self._bind(address, options)
                if bound is not None:
                    sockets.append(bound)
            if not sockets and sys.version_info >= (3, 13):
                tried = [address[4] for address in addresses]
                raise OSError(f"could not bind on any address out of {tried!r}")
        except BaseException:
            for bound in sockets:
                bound.close()
            raise
        return sockets

    async def _addresses_to_bind(
        self, host: Any, port: Any, family: int, flags: int
    ) -> list[AddressInfo]:
        found = await self._resolve((host, port), family=family, flags=flags)
        if not found:
            raise OSError(f"getaddrinfo({host!r}) returned empty list")
        return found

    def _bind(self, address: AddressInfo, options: list[int]) -> "socket.socket | None":
        """Bind a new socket, or return None if this system cannot serve such an address."""
        family, kind, proto, _, local = address
        try:
            sock = socket.socket(family, kind, proto)
        except OSError:
            if self.get_debug():
                logger.warning(
                    "create_server() failed to create socket.socket(%r, %r, %r)",
                    family,
                    kind,
                    proto,
                    exc_info=True,
                )
            return None
        try:
            for option in options:
                switch_on(sock, option)
            if family == socket.AF_INET6:
                # Else the socket would serve IPv4 too, and keep the other socket from doing so.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            try:
                sock.bind(local)
            except OSError as error:
                text = f"error while attempting to bind on address {local!r}: {reason(error)}"
                if sys.version_info >= (3, 13) and error.errno == errno.EADDRNOTAVAIL:
                    # The family is known here, but not in use.
                    if self.get_debug():
                        logger.warning(text)
                    sock.close()
                    return None
                raise OSError(error.errno, text) from None
        except BaseException:
            sock.close()
            raise
        return sock


def _hosts(host: Any) -> list[Any]:
    """Every host that the argument names; None stands for all of this machine's addresses."""
    if host == "":
        return [None]
    if isinstance(host, str) or not isinstance(host, collections.abc.Iterable):
        return [host]
    return list(host)


def _socket_options(
    reuse_address: bool | None, reuse_port: bool | None, keep_alive: bool | None
) -> list[int]:
    if reuse_address is None:
        reuse_address = os.name == "posix" and sys.platform != "cygwin"
    wanted = {
        socket.SO_REUSEADDR: reuse_address,
        socket.SO_REUSEPORT: reuse_port,
        socket.SO_KEEPALIVE: keep_alive,
    }
    return [option for option, value in wanted.items() if value]


def switch_on(sock: socket.socket, option: int) -> None:
    """Set an option of the socket level; a kernel without SO_REUSEPORT is a ValueError."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    except OSError:
        if option != socket.SO_REUSEPORT:
            raise
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None


def server_tls(
    ssl: Any, handshake_timeout: float | None, shutdown_timeout: float | None
) -> TLSOptions | None:
    """What the arguments of a server ask for; None for no TLS."""
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    refuse_timeouts_without_tls(ssl, handshake_timeout, shutdown_timeout)
    return tls_options(
        ssl,
        server_side=True,
        handshake_timeout=handshake_timeout,
        shutdown_timeout=shutdown_timeout,
    )
