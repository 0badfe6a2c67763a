"""`sock_recv` to `sock_connect`: operations on sockets that the program keeps for itself.

Each tries the call first, and then waits until the socket is ready to try it again. Waiting takes
nothing from the socket, so an operation that is cancelled has lost no byte and no connection; and
it has given up its registration before its caller hears of the cancellation, so the caller may
close the socket at once.
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

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        """Receive up to `nbytes` bytes."""
        self._check_socket(sock)
        while True:
            try:
                return sock.recv(nbytes)
            except (BlockingIOError, InterruptedError):
                await self._readable(sock)

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into `buf`, and return how many bytes came."""
        self._check_socket(sock)
        while True:
            try:
                return sock.recv_into(buf)
            except (BlockingIOError, InterruptedError):
                await self._readable(sock)

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram, and return it with the address that it came from."""
        self._check_socket(sock)
        while True:
            try:
                return sock.recvfrom(bufsize)
            except (BlockingIOError, InterruptedError):
                await self._readable(sock)

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
                await self._readable(sock)

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of `data`; after an error, nobody can tell how much of it has gone."""
        self._check_socket(sock)
        try:
            sent = sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        view = memoryview(data).cast("B")
        while sent < len(view):
            await self._writable(sock)
            try:
                sent += sock.send(view[sent:])
            except (BlockingIOError, InterruptedError):
                continue

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """Send a datagram to `address`, and return how many bytes have gone."""
        self._check_socket(sock)
        while True:
            try:
                return sock.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                await self._writable(sock)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection, and return its non-blocking socket with the peer's address."""
        self._check_socket(sock)
        while True:
            try:
                connection, address = sock.accept()
            except (BlockingIOError, InterruptedError):
                await self._readable(sock)
            else:
                connection.setblocking(False)
                return connection, address

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
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_RETRY_DELAY_S)

        await self._writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"Connect call failed {address}")

    def _check_socket(self, sock: socket.socket) -> None:
        refuse_tls_socket(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    async def _readable(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        self.remove_reader(fd)  # raises if the descriptor belongs to a transport
        ready = self.create_future()
        handle = self._add_internal_reader(fd, _tell, ready)
        try:
            await ready
        finally:
            # Somebody else may have taken the descriptor over meanwhile.
            if not handle.cancelled():
                self._remove_internal_reader(fd)

    async def _writable(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        self.remove_writer(fd)  # raises if the descriptor belongs to a transport
        ready = self.create_future()
        handle = self._add_internal_writer(fd, _tell, ready)
        try:
            await ready
        finally:
            # Somebody else may have taken the descriptor over meanwhile.
            if not handle.cancelled():
                self._remove_internal_writer(fd)


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
