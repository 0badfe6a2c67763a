"""`sendfile` and `sock_sendfile`: a file's bytes from the kernel to the peer, not through Python.

Where the system cannot do that (no regular file, or TLS in between), the file is read in the
default executor and written as other bytes are, if the caller allows it.
"""

import asyncio
import errno
import functools
import io
import os
import socket
from asyncio.constants import SENDFILE_FALLBACK_READBUFFER_SIZE, _SendfileMode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from . import _cloverleaf
from ._releases import SENDFILE_ALWAYS_MOVES
from ._sockets import SocketOperations

_TRANSPORT_FALLBACK_BYTES = 16 * 1024
# The system refuses a count that would lead beyond the largest offset.
_LARGEST_PIECE = 2**62


# One attempt to send a piece of a file, by its number, offset and count; None if there was no room.
_WayOut: TypeAlias = Callable[[int, int, int], int | None]


class Sendfile(SocketOperations):
    """`sendfile` and `sock_sendfile`."""

    async def sock_sendfile(  # type: ignore[override]  # typeshed has no None for fallback
        self,
        sock: socket.socket,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send `file` from `offset` on, at most `count` bytes; return how many were sent."""
        self._check_socket(sock)
        _check_request(sock.type, file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._send_through_python(sock, file, offset, count)

    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send `file` over a transport, behind what was written; return how many bytes were sent.

        Nothing can be written to the transport meanwhile. The file's position is behind the last
        byte that was sent, after an error too.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", _SendfileMode.UNSUPPORTED)
        if mode is _SendfileMode.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is _SendfileMode.TRY_NATIVE:
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(
                "fallback is disabled and native sendfile is not supported for transport "
                f"{transport!r}"
            )
        return await self._write_through_python(transport, file, offset, count)

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        def attempt(number: int, start: int, size: int) -> int | None:
            return self._sock_sendfile(sock.fileno(), number, start, size)

        return await _sendfile(file, offset, count, attempt, lambda: self._sock_writable(sock))

    async def _sendfile_native(
        self, transport: Any, file: Any, offset: int, count: int | None
    ) -> int:
        if not isinstance(transport, _cloverleaf.StreamTransportBase):
            raise asyncio.SendfileNotAvailableError("sendfile syscall is not supported")
        _check_request(socket.SOCK_STREAM, file, offset, count)
        transport._begin_sendfile()
        resume_reading = transport.is_reading()
        transport.pause_reading()
        try:
            await transport._sendfile_turn()
            return await _sendfile(
                file, offset, count, transport._send_file, transport._sendfile_turn
            )
        finally:
            transport._end_sendfile()
            if resume_reading:
                transport.resume_reading()

    async def _send_through_python(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        async def send(piece: memoryview) -> None:
            await self.sock_sendall(sock, piece)

        return await self._read_and_send(
            file, offset, count, SENDFILE_FALLBACK_READBUFFER_SIZE, send
        )

    async def _write_through_python(
        self, transport: Any, file: Any, offset: int, count: int | None
    ) -> int:
        if not hasattr(transport, "_protocol_paused"):
            raise TypeError("transport should be _FlowControlMixin instance")
        stand_in = _StandIn(self, transport)

        async def send(piece: memoryview) -> None:
            await stand_in.drain()
            transport.write(bytes(piece))  # the buffer is filled again before all has gone

        try:
            return await self._read_and_send(file, offset, count, _TRANSPORT_FALLBACK_BYTES, send)
        finally:
            stand_in.restore()

    async def _read_and_send(
        self,
        file: Any,
        offset: int,
        count: int | None,
        most: int,
        send: Callable[[memoryview], Awaitable[None]],
    ) -> int:
        """Read the file in the default executor, and send what was read, piece by piece."""
        _seek(file, offset)
        size = min(count, most) if count else most
        buffer = memoryview(bytearray(size))
        sent = 0
        try:
            while not count or sent < count:
                room = buffer[: min(count - sent, size)] if count else buffer
                read = await self.run_in_executor(None, file.readinto, room)
                if not read:
                    break
                await send(room[:read])
                sent += read
            return sent
        finally:
            if sent > 0 and hasattr(file, "seek"):
                _seek(file, offset + sent)


class _StandIn(asyncio.Protocol):
    """Takes the place of a transport's protocol, so that a file waits as the protocol would."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._resume_reading = transport.is_reading()
        self._resume_writing: bool = transport._protocol_paused
        self._may_write = loop.create_future() if self._resume_writing else None
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self) -> None:
        """Wait until the transport has room."""
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._may_write is not None:
            await self._may_write

    def restore(self) -> None:
        """Give the protocol its place back, and tell it what it must know."""
        self._transport.set_protocol(self._protocol)
        if self._resume_reading:
            self._transport.resume_reading()
        if self._may_write is None:
            if self._resume_writing:
                self._protocol.resume_writing()
            return
        if self._may_write.done() and not self._may_write.cancelled():
            self._may_write.exception()  # the connection is lost, as the protocol knows
            return
        self._may_write.cancel()
        if not self._resume_writing:
            self._protocol.pause_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("Invalid state: connection should have been established already.")

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._may_write is not None and not self._may_write.done():
            # The file was still on its way, so that an end in order is an error as well.
            self._may_write.set_exception(exc or ConnectionError("Connection is closed by peer"))
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._may_write is None:
            self._may_write = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._may_write is not None:
            if not self._may_write.done():
                self._may_write.set_result(None)
            self._may_write = None

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> None:
        raise RuntimeError("Invalid state: reading should be paused")


async def _sendfile(
    file: Any,
    offset: int,
    count: int | None,
    attempt: _WayOut,
    room: Callable[[], Awaitable[None]],
) -> int:
    """Send a regular file by `attempt` after `attempt`, with a wait for `room` where needed."""
    try:
        number = file.fileno()
        size = os.fstat(number).st_size
    except (AttributeError, OSError, io.UnsupportedOperation) as error:
        raise asyncio.SendfileNotAvailableError("not a regular file") from error
    if not (count or size):
        return 0  # as asyncio, without a look at the file's position
    piece = functools.partial(_send_piece, attempt, file, number)
    sent = 0
    try:
        while (rest := count - sent if count else size) > 0:
            went = _attempt(piece, offset, sent, min(rest, _LARGEST_PIECE))
            if went is None:
                await room()
            elif went == 0:
                break
            else:
                sent += went
                if sent != count:
                    await asyncio.tasks.sleep(0)  # others may run between two pieces
    except asyncio.CancelledError:
        raise  # asyncio leaves the file's position alone
    except BaseException:
        _move_to(file, number, offset, sent)
        raise
    _move_to(file, number, offset, sent)
    return sent


def _send_piece(attempt: _WayOut, file: Any, number: int, start: int, most: int) -> int | None:
    if not _is_open(file, number):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return attempt(number, start, most)


def _is_open(file: Any, number: int) -> bool:
    """Whether the file has its number still, which another one may have when it is closed."""
    try:
        return bool(file.fileno() == number)
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def _attempt(
    piece: Callable[[int, int], int | None], offset: int, sent: int, rest: int
) -> int | None:
    """Send a piece; a refusal of the very first one means that the system cannot do this at all."""
    try:
        return piece(offset + sent, rest)
    except OSError as error:
        if sent == 0:
            raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from error
        if error.errno == errno.ENOTCONN:
            raise ConnectionError("socket is not connected", errno.ENOTCONN) from error
        raise


def _move_to(file: Any, number: int, offset: int, sent: int) -> None:
    """Leave the file's position behind what was sent, if anything was or asyncio would."""
    if (sent > 0 or SENDFILE_ALWAYS_MOVES) and _is_open(file, number):
        # Whatever cannot be sought in has no position.
        with suppress(OSError):
            os.lseek(number, offset + sent, os.SEEK_SET)


def _seek(file: Any, position: int) -> None:
    """Go to a position; what cannot be sought in is read from where it is, which is its start."""
    # A file without the method has the words for it.
    if position or hasattr(file, "seek"):
        try:
            file.seek(position)
        except OSError:
            if position:
                raise


def _check_request(kind: int, file: Any, offset: Any, count: Any) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if kind != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")
