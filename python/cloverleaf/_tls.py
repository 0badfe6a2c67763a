"""TLS arguments: what they may be, and the transports that are made of them.

A TLS transport is the protocol of the transport that carries its records, so a connection gets TLS
by putting one between its transport and its protocol.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from ._base import LoopBase
from ._transports import SSLTransport

try:
    import ssl
    from ssl import SSLSocket
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]

    class SSLSocket:  # type: ignore[no-redef]
        """Nothing is one of these."""


def refuse_tls_socket(sock: "socket.socket | None") -> None:
    """A socket that encrypts by itself cannot be driven by readiness alone."""
    if isinstance(sock, SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def refuse_timeouts_without_tls(
    ssl: object, handshake_timeout: float | None, shutdown_timeout: float | None
) -> None:
    """Raise ValueError for a TLS timeout given without TLS, as asyncio does."""
    if handshake_timeout is not None and not ssl:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown_timeout is not None and not ssl:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


class TLSOptions:
    """How connections are to be encrypted."""

    __slots__ = (
        "context",
        "handshake_timeout",
        "server_hostname",
        "server_side",
        "shutdown_timeout",
    )

    def __init__(
        self,
        context: Any,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> None:
        self.context = context
        self.server_side = bool(server_side)  # whatever is true or false, as for asyncio
        self.server_hostname = server_hostname
        self.handshake_timeout = handshake_timeout
        self.shutdown_timeout = shutdown_timeout

    def transport(
        self,
        loop: LoopBase,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
        *,
        call_connection_made: bool = True,
    ) -> SSLTransport:
        """Make a TLS transport for `protocol`, to be the protocol of a transport itself."""
        made = loop._make_tls_transport(
            protocol,
            self.context or _default_context(self.server_side, self.server_hostname),
            waiter,
            self.server_side,
            self.server_hostname,
            self.handshake_timeout,
            self.shutdown_timeout,
            call_connection_made,
        )
        return cast(SSLTransport, made)

    def factory(
        self, loop: LoopBase, protocol_factory: Callable[[], asyncio.BaseProtocol]
    ) -> Callable[[], asyncio.BaseProtocol]:
        """For a server: a factory of protocols under TLS."""

        def make() -> SSLTransport:
            return self.transport(loop, protocol_factory(), None)

        return make


def tls_options(
    ssl: Any,
    *,
    server_hostname: str | None = None,
    server_side: bool = False,
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
) -> TLSOptions | None:
    """What the arguments of a method of the loop ask for; None for no TLS."""
    if not ssl:
        return None
    context = None if isinstance(ssl, bool) else ssl
    return TLSOptions(context, server_side, server_hostname, handshake_timeout, shutdown_timeout)


def _default_context(server_side: bool, server_hostname: str | None) -> Any:
    """The context of a client that has none of its own: strong, as Python knows it today."""
    if ssl is None:
        raise RuntimeError("stdlib ssl module not available")
    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context
