"""From a connected socket to a transport and its protocol."""

import asyncio
import contextvars
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from . import _transports  # noqa: F401  # the classes of what is made here
from ._cloverleaf import Connecting
from ._own_sockets import OwnSocketTransport, has_own_methods
from ._sockets import SocketOperations
from ._tls import TLSOptions, refuse_timeouts_without_tls, refuse_tls_socket, tls_options

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

#: Whether a connection's callbacks share a context. Asked once: to compare tuples takes as long as
#: to call a method.
SHARES_CONTEXT = sys.version_info >= (3, 15)


class Adopting(SocketOperations):
    """`connect_accepted_socket`, and the last step of every `create_…_connection`."""

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], _P],
        sock: socket.socket,
        *,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _P]:
        """Serve a connection that the program has accepted by itself."""
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        refuse_timeouts_without_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        refuse_tls_socket(sock)

        tls = tls_options(
            ssl,
            server_side=True,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        )
        transport, protocol = await self._adopt(sock, protocol_factory, tls, is_ours=False)
        if self.get_debug():
            kept = transport.get_extra_info("socket")
            logger.debug("%r handled: (%r, %r)", kept, transport, protocol)
        return transport, protocol

    async def _adopt(
        self,
        sock: "socket.socket | Connecting",
        protocol_factory: Callable[[], _P],
        tls: TLSOptions | None,
        *,
        is_ours: bool,
    ) -> tuple[asyncio.Transport, _P]:
        """Make a protocol and a transport for `sock`, and wait until they have met.

        From the moment that there is a transport, the socket belongs to it. Before that, a failure
        closes the socket only if it `is_ours`, and from Python 3.14 on in any case, as on asyncio;
        but not if it is another transport's.
        """
        try:
            if not isinstance(sock, Connecting):
                sock.setblocking(False)
            # From Python 3.15 on, the connection's callbacks share a context.
            context = contextvars.copy_context() if SHARES_CONTEXT else None
            protocol = protocol_factory()
            if not is_ours and not isinstance(sock, Connecting):
                self._refuse_served(sock)
            met = self.create_future()
            transport: asyncio.Transport
            if tls is None:
                transport = self._transport_over(sock, protocol, met, context)
            else:
                transport = encrypted = tls.transport(self, protocol, met)
                self._transport_over(sock, encrypted, None, context)
        except BaseException:
            if is_ours or (sys.version_info >= (3, 14) and not self._is_anothers(sock)):
                sock.close()
            raise
        try:
            await met
        except BaseException:
            transport.close()
            raise
        finally:
            # Its exception's traceback refers to this frame.
            del met
        return transport, protocol

    def _is_anothers(self, sock: "socket.socket | Connecting") -> bool:
        """Tell whether a transport has the socket."""
        if isinstance(sock, Connecting):
            return False
        try:
            self._refuse_served(sock)
        except RuntimeError:
            return True
        except Exception:
            # It has no descriptor, or does not tell; whoever made it hears of what came first.
            return False
        return False

    def _transport_over(
        self,
        sock: "socket.socket | Connecting",
        protocol: asyncio.BaseProtocol,
        met: asyncio.Future[None] | None,
        context: contextvars.Context | None,
    ) -> asyncio.Transport:
        if not isinstance(sock, Connecting) and has_own_methods(sock):
            own: asyncio.Transport = OwnSocketTransport(self, sock, protocol, met, context)
            return own
        return self._make_stream_transport(sock, protocol, met, None, context)
