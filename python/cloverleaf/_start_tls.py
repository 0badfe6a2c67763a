"""`start_tls`: TLS on a connection that has begun without."""

import asyncio
from typing import Any

from ._base import LoopBase
from ._tls import TLSOptions
from ._transports import SSLTransport

try:
    import ssl
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]


class StartTLS(LoopBase):
    """Upgrading a transport, which may be under TLS already."""

    async def start_tls(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Put TLS between `transport` and `protocol`; return what the protocol uses from now on.

        That is None if the connection was lost without an error before the handshake began.
        """
        if ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        assert isinstance(transport, asyncio.Transport)

        met = self.create_future()
        options = TLSOptions(
            sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        upgraded = options.transport(self, protocol, met, call_connection_made=False)

        # What the peer sends from now on is TLS, which nobody may see before the handshake begins.
        transport.pause_reading()
        if server_side:
            _hand_on(protocol, upgraded)
        transport.set_protocol(upgraded)
        begin = self.call_soon(upgraded.connection_made, transport)
        go_on = self.call_soon(transport.resume_reading)
        try:
            await met
        except BaseException:
            transport.close()
            begin.cancel()
            go_on.cancel()
            raise
        finally:
            # Its exception's traceback refers to this frame.
            del met
        return None if upgraded._get_inner() is None else upgraded


def _hand_on(protocol: asyncio.BaseProtocol, upgraded: SSLTransport) -> None:
    """Give TLS the records that a stream has taken in with the client's last plain bytes."""
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return
    reader = getattr(protocol, "_stream_reader", None)
    if reader is not None and (buffer := reader._buffer):
        upgraded.data_received(buffer)
        buffer.clear()
