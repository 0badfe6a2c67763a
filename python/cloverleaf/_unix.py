"""Unix stream sockets: `create_unix_connection` and `create_unix_server`.

A server's path is cleared of the socket that an earlier server left there, and from Python 3.13 on
it is removed when the server closes, unless another server has taken it over. Abstract names,
which begin with a zero, are in no file system.
"""

import asyncio
import errno
import os
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from . import _cloverleaf
from ._serve import Listening, server_tls
from ._server import Server
from ._tls import TLSOptions, refuse_timeouts_without_tls, tls_options

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_Factory = Callable[[], asyncio.BaseProtocol]


class UnixSockets(Listening):
    """Unix stream connections and servers."""

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _P],
        path: Any = None,
        *,
        ssl: Any = None,
        sock: "socket.socket | None" = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _P]:
        """Connect to the server at `path`, or adopt `sock`; return (transport, protocol)."""
        if ssl and server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        refuse_timeouts_without_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        tls = tls_options(
            ssl,
            server_hostname=server_hostname,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        )

        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connected.setblocking(False)
                await self.sock_connect(connected, os.fspath(path))
            except BaseException:
                connected.close()
                raise
        elif sock is None:
            raise ValueError("no path and sock were specified")
        else:
            _require_unix_stream(sock)
            connected = sock
        return await self._adopt(connected, protocol_factory, tls, is_ours=sock is None)

    if sys.version_info >= (3, 13):

        async def create_unix_server(  # type: ignore[override]
            self,
            protocol_factory: _Factory,
            path: Any = None,
            *,
            sock: "socket.socket | None" = None,
            backlog: int = 100,
            ssl: Any = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            start_serving: bool = True,
            cleanup_socket: bool = True,
        ) -> Server:
            """Serve at `path`, or on `sock`; closing removes the path again if cleanup_socket."""
            tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
            bound = _bound_socket(path, sock)
            clean_up = _cleaner(bound) if cleanup_socket else None
            server = self._unix_server(bound, protocol_factory, tls, backlog, clean_up)
            if start_serving:
                await server._start_or_end(owns_sockets=sock is None)
            return server

    else:

        async def create_unix_server(  # type: ignore[override]
            self,
            protocol_factory: _Factory,
            path: Any = None,
            *,
            sock: "socket.socket | None" = None,
            backlog: int = 100,
            ssl: Any = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            start_serving: bool = True,
        ) -> Server:
            """Serve at `path`, or on `sock`."""
            tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
            bound = _bound_socket(path, sock)
            server = self._unix_server(bound, protocol_factory, tls, backlog, None)
            if start_serving:
                await server._start_or_end(owns_sockets=sock is None)
            return server

    def _unix_server(
        self,
        sock: socket.socket,
        protocol_factory: _Factory,
        tls: TLSOptions | None,
        backlog: int,
        clean_up: Callable[[], None] | None,
    ) -> Server:
        sock.setblocking(False)
        return Server(self, [sock], protocol_factory, tls, backlog, after_close=clean_up)


def _require_unix_stream(sock: socket.socket) -> None:
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")


def _is_abstract(path: str | bytes) -> bool:
    # An unbound socket has an empty path, which the system would fill with an abstract name.
    return not path or path[:1] == ("\0" if isinstance(path, str) else b"\0")


def _bound_socket(path: Any, sock: "socket.socket | None") -> socket.socket:
    """The socket to serve on: a new one bound to `path`, or the one that was given."""
    if path is None:
        if sock is None:
            raise ValueError("path was not specified, and no sock specified")
        _require_unix_stream(sock)
        return sock
    if sock is not None:
        raise ValueError("path and sock can not be specified at the same time")

    path = os.fspath(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not _is_abstract(path):
            remove_stale_socket(path)
        bound.bind(path)
    except BaseException as error:
        bound.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    return bound


def remove_stale_socket(path: str | bytes) -> None:
    """Remove a socket, whether or not somebody still listens there; leave other files alone."""
    file = os.fsencode(path)
    if b"\0" in file:
        os.stat(path)  # noqa: PTH116 - it refuses such paths, which `bind(2)` would cut off there
    try:
        if _cloverleaf.socket_inode(file) is not None:
            _cloverleaf.remove_socket(file)
    except FileNotFoundError:
        return  # another process has removed it just now
    except OSError as error:
        # We may be allowed to make a socket where we may not look or remove.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)


def _cleaner(sock: socket.socket) -> Callable[[], None] | None:
    """What removes the socket's path, if it still is the same file; None if there is no file."""
    path = sock.getsockname()
    if _is_abstract(path):
        return None
    file = os.fsencode(path)
    try:
        inode = _cloverleaf.socket_inode(file)
    except FileNotFoundError:
        return None

    def clean_up() -> None:
        try:
            if _cloverleaf.socket_inode(file) == inode:
                _cloverleaf.remove_socket(file)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)

    return clean_up
