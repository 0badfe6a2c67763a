"""`create_connection`: from a host's name, or a socket, to a connected transport."""

import asyncio
import functools
import itertools
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from ._accepted import Adopting
from ._cloverleaf import Connecting as NativeConnection
from ._later import SOCKET
from ._race import first_connected
from ._resolve import AddressInfo
from ._tls import TLSOptions, refuse_timeouts_without_tls, refuse_tls_socket, tls_options

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

# A local address, the head start of attempts, how to interleave families, all errors or one.
_How: TypeAlias = tuple[tuple[Any, ...] | None, float | None, int | None, bool]

_OWN_SOCK_CONNECT = Adopting.sock_connect


class Connecting(Adopting):
    """Outgoing TCP connections."""

    if sys.version_info >= (3, 12):

        async def create_connection(
            self,
            protocol_factory: Callable[[], _P],
            host: Any = None,
            port: Any = None,
            *,
            ssl: Any = None,
            family: int = 0,
            proto: int = 0,
            flags: int = 0,
            sock: "socket.socket | None" = None,
            local_addr: tuple[str, int] | None = None,
            server_hostname: str | None = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            happy_eyeballs_delay: float | None = None,
            interleave: int | None = None,
            all_errors: bool = False,
        ) -> tuple[asyncio.Transport, _P]:
            """Connect to a TCP server, or adopt `sock`; return (transport, protocol)."""
            if (
                ssl is None
                and sock is None
                and local_addr is None
                and server_hostname is None
                and ssl_handshake_timeout is None
                and ssl_shutdown_timeout is None
                and happy_eyeballs_delay is None
                and interleave is None
                and all_errors is False
            ):
                # Most ask for no more than a host by its number.
                met = self._meet(protocol_factory, host, port, family, proto, flags)
                if met is not None:
                    await met
                    return met.result()
            tls = _tls_of(host, ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
            hints = (family, proto, flags)
            how = (local_addr, happy_eyeballs_delay, interleave, all_errors)
            return await self._create_connection(
                protocol_factory, host, port, hints, how, sock, tls
            )

    else:

        async def create_connection(
            self,
            protocol_factory: Callable[[], _P],
            host: Any = None,
            port: Any = None,
            *,
            ssl: Any = None,
            family: int = 0,
            proto: int = 0,
            flags: int = 0,
            sock: "socket.socket | None" = None,
            local_addr: tuple[str, int] | None = None,
            server_hostname: str | None = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            happy_eyeballs_delay: float | None = None,
            interleave: int | None = None,
        ) -> tuple[asyncio.Transport, _P]:
            """Connect to a TCP server, or adopt `sock`; return (transport, protocol)."""
            if (
                ssl is None
                and sock is None
                and local_addr is None
                and server_hostname is None
                and ssl_handshake_timeout is None
                and ssl_shutdown_timeout is None
                and happy_eyeballs_delay is None
                and interleave is None
            ):
                # Most ask for no more than a host by its number.
                met = self._meet(protocol_factory, host, port, family, proto, flags)
                if met is not None:
                    await met
                    return met.result()
            tls = _tls_of(host, ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
            hints = (family, proto, flags)
            how = (local_addr, happy_eyeballs_delay, interleave, False)
            return await self._create_connection(
                protocol_factory, host, port, hints, how, sock, tls
            )

    async def _create_connection(
        self,
        protocol_factory: Callable[[], _P],
        host: Any,
        port: Any,
        hints: tuple[int, int, int],
        how: _How,
        sock: "socket.socket | None",
        tls: TLSOptions | None,
    ) -> tuple[asyncio.Transport, _P]:
        refuse_tls_socket(sock)
        connected: socket.socket | NativeConnection | None = sock
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            *unusual, all_errors = how
            if unusual == [None] * 3 and self._connects_natively():
                connected = await self._connect_at_once(host, port, hints, all_errors)
            if connected is None:
                connected = await self._connect_to(host, port, hints, how)
        elif sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        assert connected is not None

        transport, protocol = await self._adopt(
            connected, protocol_factory, tls, is_ours=sock is None
        )
        if self.get_debug():
            self._log_connected(host, port, transport, protocol)
        return transport, protocol

    async def _connect_at_once(
        self, host: Any, port: Any, hints: tuple[int, int, int], all_errors: bool
    ) -> NativeConnection | None:
        """Connect to a host that is given by its number; None if it is not."""
        connection: NativeConnection | None = None
        try:
            connection = self._connect_literal(host, port, *hints)
            if connection is not None and connection.future is not None:
                await connection.future
        except BaseException as error:
            if connection is not None:
                connection.close()
                # The error's traceback refers to this frame, and its future to the error.
                connection = None
            if all_errors and isinstance(error, OSError):
                raise _failure([error], all_errors) from None
            raise
        return connection

    async def _connect_to(
        self, host: Any, port: Any, hints: tuple[int, int, int], how: _How
    ) -> "socket.socket | NativeConnection":
        """Resolve, and try address after address until one answers."""
        local_addr, head_start, interleave, all_errors = how
        addresses = await self._addresses((host, port), hints)
        local = None if local_addr is None else await self._addresses(local_addr, hints)
        if interleave is None and head_start is not None:
            interleave = 1
        if interleave:
            addresses = interleaved(addresses, interleave)

        errors: list[list[OSError]] = []
        attempts = [
            functools.partial(self._attempt, errors, address, local) for address in addresses
        ]
        sock: socket.socket | NativeConnection | None = None
        if head_start is not None:
            sock = await first_connected(self, attempts, head_start)
        else:
            for attempt in attempts:
                try:
                    sock = await attempt()
                except OSError:
                    continue
                break
        if sock is not None:
            return sock
        try:
            raise _failure([error for one in errors for error in one], all_errors)
        finally:
            # The errors' tracebacks refer to this frame, and the attempts to the lists.
            errors.clear()
            del errors, attempts

    async def _addresses(
        self, address: tuple[Any, ...], hints: tuple[int, int, int]
    ) -> list[AddressInfo]:
        family, proto, flags = hints
        found = await self._resolve(
            address, family=family, kind=socket.SOCK_STREAM, proto=proto, flags=flags
        )
        if not found:
            raise OSError("getaddrinfo() returned empty list")
        return found

    def _connects_natively(self) -> bool:
        """Whether the program leaves `socket.socket` and `sock_connect` to themselves."""
        return (
            socket.socket is SOCKET
            and getattr(self.sock_connect, "__func__", None) is _OWN_SOCK_CONNECT
            and not self.get_debug()
        )

    def _log_connected(
        self, host: Any, port: Any, transport: asyncio.Transport, protocol: Any
    ) -> None:
        kept = transport.get_extra_info("socket")
        logger.debug("%r connected to %s:%r: (%r, %r)", kept, host, port, transport, protocol)

    async def _attempt(
        self,
        errors: list[list[OSError]],
        address: AddressInfo,
        local: Sequence[AddressInfo] | None,
    ) -> "socket.socket | NativeConnection":
        """Connect to one address; what goes wrong is also noted, in order of the attempts."""
        noted: list[OSError] = []
        errors.append(noted)
        family, kind, proto, _, remote = address
        sock: socket.socket | NativeConnection | None = None
        try:
            if local is None and self._connects_natively():
                sock = self._connect(family, kind, proto, remote)
                if sock is not None:
                    if sock.future is not None:
                        await sock.future
                    return sock
            sock = socket.socket(family, kind, proto)
            sock.setblocking(False)
            if local is not None:
                _bind_to_first(sock, family, local, noted)
            await self.sock_connect(sock, remote)
        except BaseException as error:
            if isinstance(error, OSError):
                noted.append(error)
            if sock is not None:
                sock.close()
                # The error's traceback refers to this frame, and its future to the error.
                sock = None
            raise
        finally:
            # The errors' tracebacks refer to this frame.
            del errors, noted
        return sock


def interleaved(addresses: Sequence[AddressInfo], lead: int) -> list[AddressInfo]:
    """Alternate between families, after `lead` addresses of the first."""
    families: dict[int, list[AddressInfo]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    first, *others = families.values()
    head, rest = (first[: lead - 1], first[lead - 1 :]) if lead > 1 else ([], first)
    rounds = itertools.zip_longest(rest, *others)
    return head + [address for turn in rounds for address in turn if address is not None]


def reason(error: OSError) -> str:
    """What the system said, in the words that the running Python's asyncio repeats it in."""
    if sys.version_info < (3, 13) and error.strerror:
        return error.strerror.lower()
    return str(error).lower()


def _bind_to_first(
    sock: socket.socket, family: int, local: Sequence[AddressInfo], noted: list[OSError]
) -> None:
    """Bind to the first local address that the system grants."""
    for local_family, _, _, _, address in local:
        if local_family != family:
            continue
        try:
            sock.bind(address)
        except OSError as error:
            text = f"error while attempting to bind on address {address!r}: {reason(error)}"
            noted.append(OSError(error.errno, text))
        else:
            return
    if noted:
        raise noted.pop()
    raise OSError(f"no matching local address with {family=} found")


def _failure(errors: list[OSError], all_errors: bool) -> BaseException:
    """The one exception that tells why no attempt has succeeded."""
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    texts = [str(error) for error in errors]
    if len(set(texts)) == 1:
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(texts)}")


def _tls_of(
    host: Any,
    ssl: Any,
    server_hostname: str | None,
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
) -> TLSOptions | None:
    if server_hostname is not None and not ssl:
        raise ValueError("server_hostname is only meaningful with ssl")
    if server_hostname is None and ssl:
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = host
    refuse_timeouts_without_tls(ssl, handshake_timeout, shutdown_timeout)
    return tls_options(
        ssl,
        server_hostname=server_hostname,
        handshake_timeout=handshake_timeout,
        shutdown_timeout=shutdown_timeout,
    )
