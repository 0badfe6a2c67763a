"""`Server`: what `create_server` returns. It owns the listening sockets and knows its clients.

Closing a server ends listening at once and leaves the clients alone. The native half accepts
clients, and keeps count of them as their transports come and go.
"""

import asyncio
import contextvars
import functools
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Sequence

from . import _transports  # noqa: F401  # the classes of what is made here
from ._base import LoopBase
from ._cloverleaf import Clients
from ._releases import SERVERS_CLOSE_CLIENTS
from ._streams import making_ours
from ._tls import TLSOptions


class Server(asyncio.AbstractServer):
    """Listening sockets, and the connections that came of them."""

    def __init__(
        self,
        loop: LoopBase,
        sockets: Sequence[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        tls: TLSOptions | None,
        backlog: int,
        after_close: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._sockets: list[socket.socket] | None = list(sockets)
        self._protocol_factory = protocol_factory
        # Programs, among them the tests of libraries, ask by these names of asyncio's for how the
        # server encrypts.
        self._ssl_context = None if tls is None else tls.context
        self._ssl_handshake_timeout = None if tls is None else tls.handshake_timeout
        self._ssl_shutdown_timeout = None if tls is None else tls.shutdown_timeout
        self._tls = tls
        self._backlog = backlog
        self._after_close = after_close
        self._serving = False
        # From Python 3.15 on, clients get copies of the context in which the server was made;
        # before, of the one in which it began to listen.
        self._context = contextvars.copy_context() if sys.version_info >= (3, 15) else None
        # By what the loop knows the listeners: numbers of descriptors, which the sockets no longer
        # tell when the program closes them, or never did when they are within other objects.
        self._numbers: list[int] = []
        # It keeps none of them alive: one that nobody holds any more is seen to be forgotten.
        self._clients = Clients(self._wake_waiters)
        # None once the server is closed and its last client is gone.
        self._waiters: list[asyncio.Future[None]] | None = []
        self._forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that the server belongs to."""
        return self._loop

    def is_serving(self) -> bool:
        """Tell whether the server accepts connections now."""
        return self._serving

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listening sockets, in wrappers that cannot close them; none after `close`."""
        return tuple(TransportSocket(sock) for sock in self._sockets or ())

    async def start_serving(self) -> None:
        """Start to accept connections, if the server does not do so already."""
        self._listen()
        await asyncio.tasks.sleep(0)

    async def _start_or_end(self, *, owns_sockets: bool) -> None:
        """Start to accept connections; where that fails or is cancelled, be as if never made.

        Nobody has the server by then, so nobody else could close it.
        """
        try:
            await self.start_serving()
        except BaseException:
            if not owns_sockets:
                self._sockets = []  # whoever gave them has them still, and their paths
                self._after_close = None
            self.close()
            raise

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, then close the server and wait until it is.

        Where asyncio does so too, being cancelled also closes the connections.
        """
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._listen()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            if SERVERS_CLOSE_CLIENTS:
                self.close_clients()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Stop to listen, which also ends `serve_forever`; connections stay as they are."""
        self._stop_listening()
        self._end_forever()
        if not self._clients:
            self._wake_waiters()

    def close_clients(self) -> None:
        """Close every connection, after what is written has been sent."""
        self._clients.give_up()
        for transport in self._clients.alive():
            transport.close()

    def abort_clients(self) -> None:
        """Close every connection at once."""
        self._clients.give_up()
        for transport in self._clients.alive():
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its last connection is gone.

        On Python 3.11 it returns at once if the server is closed, as asyncio's does there.
        """
        if self._waiters is None or (sys.version_info < (3, 12) and self._sockets is None):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _listen(self) -> None:
        if self._serving:
            return
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._serving = True
        factory = making_ours(self._protocol_factory)
        if self._tls is not None:
            factory = self._tls.factory(self._loop, factory)
        for sock in self._sockets:
            sock.listen(self._backlog)
            start = functools.partial(
                self._loop._start_serving,
                factory,
                sock,
                self._clients,
                self._backlog,
            )
            context = self._context
            number = start() if context is None else context.copy().run(start)
            self._numbers.append(number)

    def _stop_listening(self) -> None:
        sockets, self._sockets = self._sockets, None
        if sockets is None:
            return
        self._clients.close()
        for number in self._numbers:
            self._loop._stop_serving(number, self._clients)
        self._numbers.clear()
        for sock in sockets:
            sock.close()
        self._serving = False
        if self._after_close is not None:
            self._after_close()

    def _end_forever(self) -> None:
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
            self._forever = None

    async def _wait_until_gone(self, seconds: float | None) -> None:
        """Wait until a server that listens no more has no connection left, or for so long."""
        if not self._clients or self._waiters is None:
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await asyncio.tasks.wait([waiter], timeout=seconds)
        finally:
            if self._waiters is not None:
                self._waiters.remove(waiter)

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
