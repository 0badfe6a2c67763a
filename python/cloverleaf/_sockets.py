"""`sock_recv` to `sock_connect`: operations on sockets that the program keeps for itself.

Each tries the call first, and then waits until the socket is ready to try it again. Waiting takes
nothing from the socket, so an operation that is cancelled has lost no byte and no connection. The
native half makes the attempts that matter for speed, and all of the waits: `_sock_readable` and
`_sock_writable` may be awaited only when the socket has just been found to block.
"""

import asyncio
import errno
import socket
from typing import Any

from ._resolve import Resolving
from ._tls import refuse_tls_socket

# A full Unix listener says EAGAIN to connect(2), and nothing tells when there is room again.
_FIRST_RETRY_DELAY_S = 0.001
_LONGEST_RETRY_DELAY_S = 0.05


class SocketOperations(Resolving):
    """The `sock_*` methods, but for `sock_sendfile`."""

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to `n` bytes, which is what asyncio's own loop calls them."""
        while (received := self._sock_recv(sock, n)) is None:
            await self._sock_readable(sock)
        return received

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into `buf`, and return how many bytes came."""
        while (count := self._sock_recv_into(sock, buf)) is None:
            await self._sock_readable(sock)
        return count

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram, and return it with the address that it came from."""
        self._check_socket(sock)
        while True:
            try:
                return sock.recvfrom(bufsize)
            except (BlockingIOError, InterruptedError):
                await self._sock_readable(sock)

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> tuple[int, Any]:
        """Receive a datagram into `buf`, and return its size and the address it came from."""
        self._check_socket(sock)
        if not nbytes:
            nbytes = len(buf)
        while True:
            try:
                return sock.recvfrom_into(buf, nbytes)
            except (BlockingIOError, InterruptedError):
                await self._sock_readable(sock)

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of `data`; after an error, nobody can tell how much of it has gone."""
        sent = self._sock_send(sock, data, 0)
        if sent is None:
            return
        with memoryview(data) as given, given.cast("B") as view:
            while sent is not None:
                await self._sock_writable(sock)
                sent = self._sock_send(sock, view, sent)

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """Send a datagram to `address`, and return how many bytes have gone."""
        self._check_socket(sock)
        while True:
            try:
                return sock.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                await self._sock_writable(sock)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection, and return its non-blocking socket with the peer's address."""
        while (accepted := self._sock_accept(sock)) is None:
            await self._sock_readable(sock)
        return accepted

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to `address`; a host's name is resolved first."""
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            found = await self._resolve(
                address, family=sock.family, kind=sock.type, proto=sock.proto
            )
            address = found[0][4]

        delay = _FIRST_RETRY_DELAY_S
        while True:
            try:
                sock.connect(address)
            except (BlockingIOError, InterruptedError) as error:
                if sock.family != socket.AF_UNIX or error.errno != errno.EAGAIN:
                    break  # the kernel goes on with it
            else:
                return
            await asyncio.tasks.sleep(delay)
            delay = min(2 * delay, _LONGEST_RETRY_DELAY_S)

        await self._sock_connected(sock, address)

    async def _sock_connected(self, sock: socket.socket, address: Any) -> None:
        """Wait until the kernel has connected a socket, and raise what has gone wrong."""
        await self._sock_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"Connect call failed {address}")

    def _check_socket(self, sock: socket.socket) -> None:
        refuse_tls_socket(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
