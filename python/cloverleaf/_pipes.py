"""`connect_read_pipe` and `connect_write_pipe`.

The native half takes pipes, sockets and character devices for both directions. A regular file it
takes only to read, and only if it is the standard input, which asyncio refuses too. It says which
files cannot be taken, and those stay open: Cloverleaf's own are among them, since a transport
cannot await their `close`.
"""

import asyncio
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from . import _cloverleaf, _transports  # noqa: F401  # the classes of what is made here
from ._base import LoopBase

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class Pipes(LoopBase):
    """Transports on files that the program has opened, which are theirs from then on."""

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], _P], pipe: Any
    ) -> tuple[asyncio.ReadTransport, _P]:
        """Read `pipe`; return (transport, protocol). The transport closes the pipe."""
        _check(pipe)
        protocol = protocol_factory()
        met = self.create_future()
        transport = self._make_read_pipe_transport(pipe, protocol, met)
        await _meeting(met, transport)
        if self.get_debug():
            logger.debug("Read pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
        return transport, protocol

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], _P], pipe: Any
    ) -> tuple[asyncio.WriteTransport, _P]:
        """Write to `pipe`; return (transport, protocol). The transport closes the pipe."""
        _check(pipe)
        protocol = protocol_factory()
        met = self.create_future()
        transport = self._make_write_pipe_transport(pipe, protocol, met)
        await _meeting(met, transport)
        if self.get_debug():
            logger.debug("Write pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
        return transport, protocol


def _check(pipe: Any) -> None:
    """Refuse a file that is awaited: the transport would leave it open."""
    if isinstance(pipe, _cloverleaf.FileBase):
        raise TypeError(f"{pipe!r} is closed by an await; hand over what its detach() returns")


async def _meeting(met: asyncio.Future[None], transport: asyncio.BaseTransport) -> None:
    """Wait until protocol and transport know each other."""
    try:
        await met
    except BaseException:
        transport.close()
        raise
