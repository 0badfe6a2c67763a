"""Names to addresses and back.

The native half asks the system's resolver on threads of its own, without the GIL; not once the
default executor is shut down, which would refuse it on asyncio. A program that has replaced
`socket.getaddrinfo` gets its own function called, in the default executor, as it does on asyncio;
so do arguments that only `socket.getaddrinfo` itself can judge.
"""

import socket
from asyncio.log import logger
from collections.abc import Callable
from sys import audit
from typing import Any, TypeAlias

from ._executor import Executing
from ._later import GETADDRINFO

# (family, kind, protocol, canonical name, address)
AddressInfo: TypeAlias = tuple[Any, socket.SocketKind, int, str, Any]

_MAX_C_LONG = 2**63 - 1
_LONGEST_LABEL = 63


class Resolving(Executing):
    """`getaddrinfo`, `getnameinfo`, and the short cut for numeric addresses."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  # the name is asyncio's
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """`socket.getaddrinfo` without blocking the loop."""
        self._check_executor()
        if socket.getaddrinfo is GETADDRINFO:
            numeric = self._numeric_getaddrinfo(host, port, family, type, proto, flags)
            if numeric is not None:
                return numeric
        if not self.get_debug():
            return await self._look_up(host, port, family, type, proto, flags)

        what = f"{host!s}:{port!r}"
        for name, value in (("family", family), ("type", type), ("proto", proto), ("flags", flags)):
            if value:
                what += f", {name}={value!r}"
        logger.debug("Get address info %s", what)
        began = self.time()
        found = await self._look_up(host, port, family, type, proto, flags)
        took = self.time() - began
        report = f"Getting address info {what} took {took * 1e3:.3f}ms: {found!r}"
        if took >= self.slow_callback_duration:
            logger.info(report)
        else:
            logger.debug(report)
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """`socket.getnameinfo` without blocking the loop."""
        return await self.run_in_executor(None, socket.getnameinfo, sockaddr, flags)

    async def _look_up(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        family: int,
        kind: int,
        proto: int,
        flags: int,
    ) -> list[AddressInfo]:
        if socket.getaddrinfo is not GETADDRINFO or not _native_can_judge(
            host, port, (family, kind, proto, flags)
        ):
            resolver: Callable[..., Any] = socket.getaddrinfo
            by_hand: list[AddressInfo] = await self.run_in_executor(
                None, resolver, host, port, family, kind, proto, flags
            )
            return by_hand
        self._check_open()
        family, kind, proto = int(family), int(kind), int(proto)
        encoded = _encoded(host) if isinstance(host, str) else host
        audit("socket.getaddrinfo", host, port, family, kind, proto)
        return await self._getaddrinfo(encoded, port, family, kind, proto, int(flags))

    async def _resolve(
        self,
        address: tuple[Any, ...],
        *,
        family: int = 0,
        kind: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """Addresses for (host, port, ...), without the resolver if the host is numeric."""
        host, port = address[:2]
        if not flags and len(address) == 2:
            found = self._numeric_address(host, port, family, kind, proto, 0)
            if found is not None:
                return found
        numeric = _ipaddr_info(host, port, family, kind, proto, *address[2:])
        if numeric is not None:
            return [numeric]
        return await self.getaddrinfo(
            host, port, family=family, type=kind, proto=proto, flags=flags
        )


# Named as asyncio's, for the message about an address of too many parts.
def _ipaddr_info(
    host: Any,
    port: Any,
    family: int,
    kind: int,
    proto: int,
    flowinfo: int = 0,
    scope_id: int = 0,
) -> AddressInfo | None:
    """The one address that `host` and `port` spell out, or None if a resolver must be asked."""
    if host is None or proto not in {0, socket.IPPROTO_TCP, socket.IPPROTO_UDP}:
        return None
    if kind == socket.SOCK_STREAM:
        proto = socket.IPPROTO_TCP
    elif kind == socket.SOCK_DGRAM:
        proto = socket.IPPROTO_UDP
    else:
        return None

    # Not compared, which `python -bb` forbids between bytes and what is none.
    if port is None or (isinstance(port, (str, bytes)) and not port):
        port = 0
    else:
        try:
            port = int(port)
        except (TypeError, ValueError):
            return None  # the name of a service

    if isinstance(host, bytes):
        host = host.decode("idna")
    if "%" in host:
        return None  # inet_pton(3) takes no zone after the address

    families = (socket.AF_INET, socket.AF_INET6) if family == socket.AF_UNSPEC else (family,)
    for candidate in families:
        try:
            socket.inet_pton(candidate, host)
        except OSError:
            continue
        end = (flowinfo, scope_id) if candidate == socket.AF_INET6 else ()
        return _as_family(candidate), _as_kind(kind), proto, "", (host, port, *end)
    return None


def _native_can_judge(host: Any, port: Any, numbers: tuple[Any, ...]) -> bool:
    """Whether the arguments are of the plain kinds that the native resolver takes."""
    if host is not None and type(host) not in (str, bytes):
        return False
    if host and (0 in host if isinstance(host, bytes) else "\0" in host):
        return False
    if type(port) is int:
        if not -_MAX_C_LONG <= port <= _MAX_C_LONG:
            return False
    elif type(port) is str:
        if not port.isascii() or "\0" in port:
            return False
    elif port is not None and (type(port) is not bytes or 0 in port):
        return False
    return all(isinstance(number, int) and abs(number) < 2**31 for number in numbers)


def _encoded(host: str) -> bytes:
    """The name as `getaddrinfo(3)` takes it."""
    if host.isascii() and len(host) <= _LONGEST_LABEL and "." not in (host[:1], host[-1:]):
        plain = host.encode("ascii")
        if b".." not in plain:
            return plain
    return host.encode("idna")  # which also refuses labels that are empty or too long


def _as_family(number: int) -> socket.AddressFamily:
    try:
        return socket.AddressFamily(number)
    except ValueError:
        return number  # type: ignore[return-value]  # as the socket module does


def _as_kind(number: int) -> socket.SocketKind:
    try:
        return socket.SocketKind(number)
    except ValueError:
        return number  # type: ignore[return-value]  # as the socket module does
