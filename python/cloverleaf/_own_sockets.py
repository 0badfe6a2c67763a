"""Streams over sockets that receive or send in a way of their own.

The native half makes its system calls by the descriptor. A socket whose class has methods of its
own for that, to count or to change what passes, would never see them called; so asyncio's own
transport drives such a socket, by these methods, on our loop.
"""

import asyncio
import functools
import socket
from asyncio.constants import _SendfileMode
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import Callable
from contextvars import Context
from typing import Any

from ._base import LoopBase
from ._cloverleaf import note_foreign, watch_foreign
from ._later import SOCKET, SOCKET_METHODS


def has_own_methods(sock: Any) -> bool:
    """Tell whether the socket's class has methods of its own for receiving or sending."""
    cls = type(sock)
    return cls is not SOCKET and any(
        getattr(cls, name, plain) is not plain for name, plain in SOCKET_METHODS.items()
    )


class _Watching:
    """Our loop with the private methods by which asyncio's transports watch descriptors."""

    def __init__(self, loop: LoopBase) -> None:
        self._loop = loop
        self._transports = _Noted(loop)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def _add_reader(
        self, fd: int, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> None:
        watch_foreign(self._loop, fd, False, _within(context, callback), *args)

    def _add_writer(
        self, fd: int, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> None:
        watch_foreign(self._loop, fd, True, _within(context, callback), *args)

    def _remove_reader(self, fd: int) -> bool:
        return watch_foreign(self._loop, fd, False, None)

    def _remove_writer(self, fd: int) -> bool:
        return watch_foreign(self._loop, fd, True, None)


class _Noted:
    """Where asyncio's transports enter themselves: in our loop, by weak references."""

    def __init__(self, loop: LoopBase) -> None:
        self._loop = loop

    def __setitem__(self, fd: int, transport: Any) -> None:
        note_foreign(self._loop, fd, transport)


def _within(context: Context | None, callback: Callable[..., Any]) -> Callable[..., Any]:
    return callback if context is None else functools.partial(context.run, callback)


class OwnSocketTransport(_SelectorSocketTransport):  # type: ignore[misc]
    """asyncio's transport over a socket with methods of its own, on our loop."""

    # The kernel would send a file past the socket's methods.
    _sendfile_compatible = _SendfileMode.FALLBACK

    def __init__(
        self,
        loop: LoopBase,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
        context: Context | None,
    ) -> None:
        # Transports have a context of their own from Python 3.15 on.
        keywords = {} if context is None else {"context": context}
        super().__init__(_Watching(loop), sock, protocol, waiter, **keywords)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        # The number is about to be free for another file.
        note_foreign(self._loop._loop, self._sock_fd, None)
        super()._call_connection_lost(exc)

    def __repr__(self) -> str:
        word = "closed" if self._sock is None else "closing" if self.is_closing() else "open"
        return f"<{type(self).__name__} {word} fd={self._sock_fd}>"
