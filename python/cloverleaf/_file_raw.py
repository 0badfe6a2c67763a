"""`RawFile`: the bottom of a file's stack: gives what is at hand, and writes behind its caller.

Python's own buffers and text layers stand on it as they stand on `io.FileIO`, and never wait: a
read that would have to gives None and leaves the mark `starved`, and a write is queued. Whoever
drives the stack then awaits `fetch` and `settle`, and nothing of the stack's work is lost
meanwhile.

The position is the file's own: it counts what has reached the stack, so no operation that was
given up moves it.
"""

import asyncio
import io
import operator
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from . import _cloverleaf

_T = TypeVar("_T")

# What the loop's own thread reads and writes at most.
AT_ONCE_BYTES = 1024 * 1024


def perform(request: _cloverleaf.Request) -> asyncio.Future[Any]:
    """Have the running loop make a request; a loop of another kind gives it to its executor."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, _cloverleaf.Loop):
        return loop._perform(request)
    return loop.run_in_executor(None, request.run)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _bytes(data: Any) -> bytes:
    if type(data) is bytes:
        return data
    try:
        view = memoryview(data)
    except TypeError:
        kind = type(data).__name__
        raise TypeError(f"a bytes-like object is required, not '{kind}'") from None
    with view:
        return bytes(view)


class _Write:
    """Bytes that are to be written at an offset, or where the descriptor stands."""

    __slots__ = ("began_at", "data", "done", "offset")

    def __init__(self, data: bytes, offset: int | None, began_at: int) -> None:
        self.data = data
        self.done = 0
        self.offset = offset
        #: The file's position before it.
        self.began_at = began_at

    @property
    def next_offset(self) -> int | None:
        return None if self.offset is None else self.offset + self.done


class RawFile(io.RawIOBase):
    """One open descriptor, for the stack above it."""

    def __init__(
        self, native: _cloverleaf.FileBase, name: Any, flags: int, *, is_seekable: bool
    ) -> None:
        self.native = native
        self.name = name
        #: The descriptor's number as the program knows it; ours may be a copy.
        self.number = self._own = native._fileno()
        self.position = 0
        #: Set when a read gave None, or less than it was asked for, because more needs a wait.
        self.starved = False
        #: Reads may block: whoever drives the stack has seen to it that they will not.
        self.reads_block = False
        self.is_seekable = is_seekable
        #: There is no buffer above.
        self.is_unbuffered = False
        #: Writes of more bytes are passed on whole by the buffer above.
        self.passed_on_above = sys.maxsize
        self._access = flags & os.O_ACCMODE
        self._appends = bool(flags & os.O_APPEND)
        self.writes_at_once = True
        #: Where the position must be after the last append.
        self._appended = -1
        #: What `fetch` has brought, from the position on; empty at the end of the file.
        self._fetched: bytes | None = None
        self._queue: deque[_Write | int] = deque()
        #: How many bytes wait to be written.
        self.queued_bytes = 0
        self._flight: asyncio.Future[Any] | None = None
        self._flight_process = 0
        self._is_abandoned = False
        if is_seekable:
            whence = os.SEEK_END if self._appends else os.SEEK_CUR
            self.position = os.lseek(self._own, 0, whence)

    # -- what the stack calls ------------------------------------------------------------------

    def readable(self) -> bool:
        """Tell whether it was opened to be read."""
        self._check_open()
        return self.is_read

    def writable(self) -> bool:
        """Tell whether it was opened to be written."""
        self._check_open()
        return self._access != os.O_RDONLY

    def seekable(self) -> bool:
        """Tell whether it has a position."""
        self._check_open()
        return self.is_seekable

    def fileno(self) -> int:
        """Return the descriptor, which stands where this file does from now on."""
        self._check_open()
        if self.is_seekable and self.is_settled:
            os.lseek(self._own, self.position, os.SEEK_SET)
        return self.number

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        self._check_open()
        return os.isatty(self._own)

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer with what is at hand; None if that is nothing."""
        self._check_readable()
        if self._fetched is not None:
            with memoryview(buffer).cast("B") as room:
                data = self._take_fetched(len(room))
                room[: len(data)] = data
                self._note_short(len(data), len(room))
            return len(data)
        count = self._readinto_now(buffer) if self.reads_block else self._readinto_at_once(buffer)
        if count is None:
            self.starved = True
            return None
        self.position += count
        if count and self.is_unbuffered and self.is_seekable:
            count = self._fill_on(buffer, count)
        return count

    def read(self, size: int | None = -1, /) -> bytes | None:
        """Return what is at hand, at most `size` bytes; None if that is nothing."""
        if size is None or size < 0:
            return self.readall()
        self._check_readable()
        data: bytes | None = None
        if self._fetched is not None:
            data = self._take_fetched(size)
            self._note_short(len(data), size)
            return data
        if self.reads_block:
            data = self._read_now(size)
        elif self.is_seekable and not self._queue:
            data = self.native._try_read(size, self.position)
        if data is None:
            self.starved = True
        else:
            self.position += len(data)
        return data

    def readall(self) -> bytes | None:  # type: ignore[override]  # what is at hand may be nothing
        """Return what is at hand up to the end of the file; None if that is nothing."""
        self._check_readable()
        parts: list[bytes] = []
        rest = self.rest()
        while data := self.read(rest or io.DEFAULT_BUFFER_SIZE):
            parts.append(data)
            # Where the file was said to end it most likely does: a little is asked for to see that.
            rest = self.rest() if len(data) != rest else 0
        if data is None and not parts:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, data: Any, /) -> int:
        """Queue the bytes, all of them."""
        content = _bytes(data)
        self._check_writable()
        if not content:
            return 0
        self._fetched = None
        began_at = self.position
        offset = began_at if self.is_seekable and not self._appends else None
        if self.is_seekable and self._appends:
            # Where it will be when the system has appended this, unless others append as well.
            end = os.lseek(self._own, 0, os.SEEK_END) + self.queued_bytes
            self.position = self._appended = end + len(content)
        else:
            self.position += len(content)
        self._queue.append(_Write(content, offset, began_at))
        self.queued_bytes += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position."""
        self._check_open()
        if whence == os.SEEK_CUR and self.is_seekable:
            offset, whence = offset + self.position, os.SEEK_SET
        position = os.lseek(self._own, offset, whence)
        if position != self.position:
            # A buffer for both directions seeks to where it is before each read.
            self._fetched = None
        self.position = position
        self._appended = -1
        return position

    def tell(self) -> int:
        """Return the position."""
        self._check_open()
        if not self.is_seekable:
            os.lseek(self._own, 0, os.SEEK_CUR)  # says what is wrong
        return self.position

    def truncate(self, size: int | None = None, /) -> int:
        """Queue a change of the file's length."""
        self._check_writable()
        if size is None:
            size = self.tell()
        size = operator.index(size)
        self._fetched = None
        self._queue.append(size)
        return size

    # -- what the stack's driver calls ---------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, and nothing waits to be written."""
        return self._flight is None and not self._queue

    @property
    def owns_number(self) -> bool:
        """Whether closing the file closes the descriptor that the program knows."""
        return self.number == self._own

    @property
    def is_read(self) -> bool:
        """Whether it was opened to be read; also once it is closed."""
        return self._access != os.O_WRONLY

    @property
    def mode_below(self) -> str:
        """The mode in which Python's own takes the descriptor as it is."""
        is_both = self._access == os.O_RDWR
        if self._appends:
            return "ab+" if is_both else "ab"
        return "r+b" if is_both else "rb" if self._access == os.O_RDONLY else "wb"

    def rest(self) -> int:
        """Return how many bytes there are from the position on; 0 also where nobody knows."""
        if not self.is_seekable:
            return 0
        return max(os.fstat(self._own).st_size - self.position, 0)

    def put_back(self, data: bytes) -> None:
        """Take bytes back that the stack was given last, and that have not reached anybody."""
        if self.is_seekable:
            self.position -= len(data)
        self._fetched = data + (self._fetched or b"")

    async def fetch(self, size: int) -> None:
        """Wait for the next bytes, about `size` of them, which the stack will find at hand."""
        await self.settle()
        if self._fetched is None:
            offset = self.position if self.is_seekable else None
            request = self.native._reading(max(size, 1), offset)
            await self.fly(lambda: perform(request), lambda data: self._land_fetched(offset, data))

    async def settle(self) -> None:
        """Wait until nothing is under way and all that was queued is written, in its order.

        What a buffer has given and cannot be written stays in the queue, and is tried again the
        next time, as a buffer keeps it; what the program itself has asked for has failed then.
        """
        while not self.is_settled:
            await self.land()
            if self._queue:
                await self._write_first()

    async def land(self) -> None:
        """Wait until nothing is under way any more."""
        while self._flight is not None:
            await self._landing(self._flight)

    async def fly(
        self,
        begin: Callable[[], asyncio.Future[_T]],
        land: Callable[[_T], object],
        fail: Callable[[], object] = lambda: None,
    ) -> _T:
        """Wait for what `begin` begins.

        `land` gets its result, or `fail` is called, also if nobody waits any more.
        """
        loop = asyncio.get_running_loop()
        flight = begin()
        waiter = loop.create_future()

        def landed(flight: asyncio.Future[_T]) -> None:
            self._flight = None
            if not flight.cancelled():
                # Asking for the exception tells asyncio that somebody cares.
                if flight.exception() is None:
                    land(flight.result())
                else:
                    fail()
            _wake(waiter)
            if self._is_abandoned:
                self.abandon()

        self._flight, self._flight_process = flight, os.getpid()
        flight.add_done_callback(landed)
        await waiter
        return flight.result()

    def abandon(self) -> None:
        """Write what is queued and close the descriptor, now: nobody is left who could wait."""
        self._is_abandoned = True
        if self._flight is None:
            try:
                self.write_now()
            finally:
                self.native._close()

    # -- parts ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_readable(self) -> None:
        if not self.readable():
            raise io.UnsupportedOperation("File not open for reading")

    def _check_writable(self) -> None:
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")

    def _take_fetched(self, size: int) -> bytes:
        fetched = self._fetched or b""
        data, rest = fetched[:size], fetched[size:]
        self._fetched = rest or None
        self.position += len(data)
        return data

    def _fill_on(self, buffer: Any, filled: int) -> int:
        """Fill the rest as well, up to the end of the file: no buffer above asks again."""
        with memoryview(buffer).cast("B") as room:
            while filled < len(room):
                count = self.native._try_readinto(room[filled:], self.position)
                if count is None:
                    self.starved = True
                if not count:
                    break
                self.position += count
                filled += count
        return filled

    def _note_short(self, count: int, wanted: int) -> None:
        # A buffer above asks again by itself.
        if self.is_unbuffered and self.is_seekable and 0 < count < wanted:
            self.starved = True

    def _readinto_at_once(self, buffer: Any) -> int | None:
        if not self.is_seekable or self._queue:
            return None
        return self.native._try_readinto(buffer, self.position)

    def _readinto_now(self, buffer: Any) -> int:
        self.write_now()
        if self.is_seekable:
            return os.preadv(self._own, [buffer], self.position)
        return os.readv(self._own, [buffer])

    def _read_now(self, size: int) -> bytes:
        self.write_now()
        if self.is_seekable:
            return os.pread(self._own, size, self.position)
        return os.read(self._own, size)

    def _land_fetched(self, offset: int | None, data: bytes) -> None:
        if offset is None:
            # Behind what somebody has put back meanwhile.
            self._fetched = (self._fetched or b"") + data
        elif offset == self.position:
            self._fetched = data

    async def _landing(self, flight: asyncio.Future[Any]) -> None:
        """Wait for what somebody has begun who does not wait for it any more."""
        loop = asyncio.get_running_loop()
        if self._flight_process != os.getpid():
            self._forget_flight()  # the parent's, who will see it land
        elif flight.get_loop() is loop:
            waiter = loop.create_future()
            flight.add_done_callback(lambda _: _wake(waiter))
            await waiter
        elif flight.get_loop().is_closed():
            self._forget_flight()
            raise RuntimeError(
                f"the event loop was closed while an operation on {self.name!r} was under way"
            )
        else:
            raise RuntimeError(f"{self.name!r} is in use by another event loop")

    def _forget_flight(self) -> None:
        self._flight = None
        if self._queue and not isinstance(first := self._queue[0], int) and first.offset is None:
            # It may be written or not, and must not be written twice.
            self._queue.popleft()
            self.queued_bytes -= len(first.data) - first.done

    async def _write_first(self) -> None:
        first = self._queue[0]
        if isinstance(first, int):
            try:
                size = self.native._truncating(first)
            except OverflowError:
                self._fail_first()
                raise
            await self.fly(lambda: perform(size), lambda _: self._queue.popleft(), self._fail_first)
            return
        offset = first.next_offset
        if offset is not None and self.writes_at_once:
            count = self.native._try_write(first.data, first.done, offset)
            if count:
                self._written(count)
                return
            # Few file systems can, and those that can will not soon again.
            self.writes_at_once = False
        request = self.native._writing(first.data, first.done, offset)
        await self.fly(lambda: perform(request), self._written, self._fail_first)

    def _fail_first(self) -> None:
        """Forget what cannot be done, unless it is a buffer's, which tries again."""
        first = self._queue[0]
        if isinstance(first, int):
            self._queue.popleft()
        elif self.is_unbuffered:
            # What was to follow it has not happened either.
            self._queue.clear()
            self.queued_bytes = 0
            self.position = first.began_at + first.done
            if self.is_seekable and self._appends and first.done:
                self.position = os.lseek(self._own, 0, os.SEEK_CUR)

    def _written(self, count: int) -> None:
        first = self._queue[0]
        if isinstance(first, int):
            return
        first.done += count
        self.queued_bytes -= count
        if first.done >= len(first.data):
            self._queue.popleft()
        if not self._queue and self.position == self._appended:
            self.position = os.lseek(self._own, 0, os.SEEK_CUR)

    def write_now(self) -> None:
        """Write what is queued, without a wait for others."""
        while self._queue:
            try:
                self._write_first_now(self._queue[0])
            except (OSError, OverflowError):
                self._fail_first()
                raise

    def _write_first_now(self, first: _Write | int) -> None:
        if isinstance(first, int):
            os.ftruncate(self._own, first)
            self._queue.popleft()
            return
        rest = memoryview(first.data)[first.done :]
        offset = first.next_offset
        if offset is None:
            self._written(os.write(self._own, rest))
        else:
            self._written(os.pwrite(self._own, rest, offset))
