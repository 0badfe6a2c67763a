"""`RawFile`: the bottom of a file's stack: gives what is at hand, and takes what takes no wait.

Python's own buffers and text layers stand on it as they stand on `io.FileIO`, and never wait: a
read that would have to gives None and leaves the mark `starved`, and a write raises `Waits`, which
leaves the stack as a write that failed would. Whoever drives the stack then awaits `fetch` or
`perform_asked` and calls the stack again, which is answered then. So it is always in the state in
which `open` would have it, also when the system refuses a write in the midst of a call.

The position is the file's own: it counts what has reached the stack, so no operation that was
given up moves it.
"""

import io
import operator
import os
import sys
from collections import deque
from typing import Any

from . import _cloverleaf
from ._file_arguments import size_or_all
from ._file_flight import forget, perform
from ._file_held import Held, Waits
from ._file_left import Left

# What the loop's own thread reads and writes at most.
AT_ONCE_BYTES = 1024 * 1024

# Seeks whose end depends on the file's length.
FROM_LENGTH = (os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE)


class RawFile(Left, io.RawIOBase):
    """One open descriptor, for the stack above it."""

    # Found by a shorter way than other attributes of a class whose base is C's.
    __slots__ = (
        "_access",
        "_fetched",
        "_flight",
        "back_to",
        "closed",
        "held",
        "is_answered",
        "is_apart",
        "is_seekable",
        "is_unbuffered",
        "may_ask",
        "native",
        "position",
        "reads_block",
        "starved",
        "stops_at",
        "until_read",
    )

    def __init__(
        self,
        native: _cloverleaf.FileBase,
        name: Any,
        flags: int,
        *,
        is_seekable: bool,
        may_ask: bool,
        appends: bool,
    ) -> None:
        super().__init__()
        #: Asked for each line of text: the base's own looks through the instance and finds nothing.
        self.closed = False  # type: ignore[misc]  # the base has a property
        self.native = native
        self.name = name
        #: The descriptor's number as the program knows it; ours may be a copy.
        self.number = self._own = native._fileno()
        self.position = 0
        #: Set when a read gave None, or less than it was asked for, because more needs a wait.
        self.starved = False
        #: How much was asked for then, by a buffer.
        self.wanted = 0
        #: Emptied by a buffer's read that gives nothing, or begins there or beyond: the line for
        #: which it reads is the last of those that are read in a row.
        self.until_read: list[None] = []
        self.stops_at = 0
        #: Reads may block: whoever drives the stack has seen to it that they will not.
        self.reads_block = False
        self.is_seekable = is_seekable
        #: It takes a seek all the same, as an eventfd does; whether it can read nothing, it says.
        self.seeks_nowhere = False
        #: A server may have to be asked for what else the system knows of itself.
        self.may_ask = may_ask
        #: Where the next seek leads that depends on the length, if it was asked for.
        self.sought: int | None = None
        #: Up to where a seek need not ask the system; -1 if always.
        self.known_to = -1
        #: There is no buffer above.
        self.is_unbuffered = False
        #: Writes of more bytes are passed on whole by the buffer above.
        self.passed_on_above = sys.maxsize
        #: Writes go to the system at once, and may block.
        self.blocks = False
        #: Nothing is read or written: it raises `Waits`.
        self.is_apart = False
        #: Writes go nowhere: what they bring has failed before.
        self.discards = False
        self._access = flags & os.O_ACCMODE
        #: The mode has an "a": it begins at the end.
        self._is_added_to = bool(flags & os.O_APPEND)
        #: The system writes at the end, wherever the descriptor stands.
        self._appends = appends
        self.writes_at_once = True
        #: What `fetch` has brought, from the position on; empty at the end of the file.
        self._fetched: bytes | None = None
        #: What waits before the stack, in its order; a buffer below a text layer adds to it
        #: and says nothing if `holds` is set, and takes nothing if `drops` is.
        self.held: deque[Held] = deque()
        self.holds, self.drops = True, False
        #: What of the first of them the stack is writing, and how much went past its buffer.
        self.source: Held | None = None
        self.passed = 0
        #: What the stack has asked for: bytes from where on and the offset, or a length.
        self._asked: tuple[bytes, int, int | None] | int | None = None
        #: What it will be told when it asks again; None says that the system would block.
        self._answer: int | None = None
        self.is_answered = self._answers_truncate = False
        #: Where a read began that was given up while the stack wrote before it.
        self.back_to: int | None = None
        if is_seekable:
            whence = os.SEEK_END if self._is_added_to and not may_ask else os.SEEK_CUR
            self.position = self._stands = os.lseek(self._own, 0, whence)

    # -- what the stack calls ------------------------------------------------------------------

    def close(self) -> None:
        """Have all that is asked of it from now on fail; the descriptor stays open."""
        super().close()
        self.closed = True  # type: ignore[misc]

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
        return self.is_seekable or self.seeks_nowhere

    def is_terminal(self) -> bool:
        """Tell whether it is a terminal."""
        return not self.may_ask and os.isatty(self._own)

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer with what is at hand; None if that is nothing."""
        self._check_readable()
        if self.is_apart:
            raise Waits
        if self.position >= self.stops_at:
            self.until_read.clear()
        if self._fetched is not None:
            with memoryview(buffer).cast("B") as room:
                data = self._take_fetched(len(room))
                room[: len(data)] = data
                self._note_short(len(data), len(room))
            return len(data)
        place = self._place
        if self.is_seekable and not self.reads_block:
            count = self.native._try_readinto(buffer, place)
            if self._access and count and not self.is_unbuffered:
                count = self._filled(buffer, count, place)
        else:
            count = self._readinto_now(buffer) if self.reads_block else None
        if count is None:
            self.wanted = memoryview(buffer).nbytes
            if not (self.wanted or self.is_seekable or self.seeks_nowhere):
                return 0  # nothing of a stream needs no wait, and takes nothing
            self.starved = True
            self.until_read.clear()
            return None
        self._read_on(count, place)
        if count and self.is_unbuffered and self.is_seekable:
            count = self._fill_on(buffer, count)
        return count

    def read(self, size: int | None = -1, /) -> bytes | None:
        """Return what is at hand, at most `size` bytes; None if that is nothing."""
        if type(size) is not int or not 0 <= size <= sys.maxsize:
            size = size_or_all(size)
        if size < 0:
            return self.readall()
        self._check_readable()
        data: bytes | None = None
        if self._fetched is not None:
            data = self._take_fetched(size)
            self._note_short(len(data), size)
            return data
        place = self._place
        if self.reads_block:
            data = self._read_now(size)
        elif self.is_seekable:
            data = self.native._try_read(size, place)
        elif not (size or self.seeks_nowhere):
            data = b""
        if data is None:
            self.starved = True
        else:
            self._read_on(len(data), place)
        return data

    def readall(self) -> bytes | None:  # type: ignore[override]  # what is at hand may be nothing
        """Return what is at hand up to the end of the file; None if that is nothing."""
        self._check_readable()
        if self.is_shared and self._fetched is None:
            self._follow()
        parts: list[bytes] = []
        rest = self.rest()
        while data := self.read(rest or io.DEFAULT_BUFFER_SIZE):
            parts.append(data)
            # Where the file was said to end it most likely does: a little is asked for to see that.
            rest = self.rest() if len(data) != rest else 0
        if data is None and not parts:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, data: Any, /) -> int | None:
        """Write once, if that takes no wait, or has been waited for; return how much.

        Raises `Waits` if it needs a wait, with nothing changed.
        """
        with memoryview(data) as view:
            size = view.nbytes
            self._check_writable()
            if not size or self.discards:
                return size
            if self.is_apart:
                raise Waits
            self._fetched = None
            if self.is_answered:
                self.is_answered = False
                return self._advance(self._answer, size)
            if self.blocks or not (self.is_seekable or os.get_blocking(self._own)):
                return self._advance(self._write_now(view), size)
            if size <= self.passed_on_above:
                content, start = bytes(view), 0
            elif self.source is not None and self.source.data is not None:
                # The buffer lends what it was given; that itself needs no copy.
                content = self.source.data
                start = len(content) - size
            else:
                raise Waits
        if count := self.try_write(content, start):
            return self._advance(count, size)
        self._asked = content, start, self._offset
        raise Waits

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position."""
        if type(whence) is not int:
            whence = operator.index(whence)
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if type(offset) is not int:
            offset = operator.index(offset)
        if not self.is_seekable:
            return os.lseek(self._own, offset, whence)  # says what is wrong, or goes nowhere
        moved: int | None = None
        if whence == os.SEEK_CUR:
            moved = self._move_on(offset)
            offset, whence = offset + self.position, os.SEEK_SET
        if moved is not None:
            position = moved
        elif whence == os.SEEK_SET and 0 <= offset <= self.known_to:
            position = offset
        elif whence != os.SEEK_SET and self.sought is not None:
            position = self.sought
        else:
            position = os.lseek(self._own, offset, whence)
        if position != self.position:
            # A buffer for both directions seeks to where it is before each read.
            self._fetched = None
        self.position = self._stands = position
        return position

    def tell(self) -> int:
        """Return the position."""
        self._check_open()
        if not self.is_seekable:
            return os.lseek(self._own, 0, os.SEEK_CUR)
        return self._follow()

    def truncate(self, size: int | None = None, /) -> int:
        """Change the file's length, if that has been waited for; raises `Waits` otherwise."""
        self._check_writable()
        if size is None:
            size = self.tell()
        size = operator.index(size)
        self._fetched = None
        if self.is_answered:
            self.is_answered = False
        elif self.blocks:
            os.ftruncate(self._own, size)
        else:
            self._asked = size
            raise Waits
        return size

    # -- what the stack's driver calls ---------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, or has ended without the stack's knowing."""
        return self._flight is None and not (self.is_answered or self.held) and self.back_to is None

    @property
    def is_read(self) -> bool:
        """Whether it was opened to be read; also once it is closed."""
        return self._access != os.O_WRONLY

    def rest(self) -> int:
        """Return how many bytes there are from the position on; 0 also where nobody knows.

        What may have to be asked for may be more by now.
        """
        if not self.is_seekable:
            return 0
        return max(self.native._length() - self.position, 0)

    def put_back(self, data: bytes) -> None:
        """Take bytes back that the stack was given last, and that have not reached anybody."""
        if self.is_seekable:
            self.position -= len(data)
        self._fetched = data + (self._fetched or b"")

    async def fetch(self, size: int) -> None:
        """Wait for the next bytes, about `size` of them, which the stack will find at hand."""
        if self._fetched is not None:
            return
        place = self._place if self.is_seekable else None
        size = max(size, 0 if self.seeks_nowhere or self.is_unbuffered else 1)
        request = self.native._reading(size, place)
        if not self.is_seekable:
            await self.carry_on(request, self._land_fetched if size else forget)
            if not size and self._fetched is None:
                self._fetched = b""
        elif place is None:
            self._fetched = await self._fetch_along(request)
        else:
            # It is for whoever waits: by the time of another read it may be something else.
            self._fetched = await self.carry_out(request, forget)

    def end_read(self) -> None:
        """Have the next read look anew: what is read ahead the buffer has, as that of `open`."""
        self.starved = False
        if self.is_seekable:
            self._fetched = None

    async def ask_where(self, offset: int, whence: int) -> None:
        """Have a thread find out where a seek leads that depends on the length."""
        request = self.native._seeking(offset, whence)
        self.sought = await self.fly(lambda: perform(request), lambda _: None)

    async def perform_asked(self) -> None:
        """Wait for what the stack has asked for; it is answered when it asks again."""
        asked, self._asked = self._asked, None
        if asked is None:
            return
        self._answers_truncate = isinstance(asked, int)
        if isinstance(asked, int):
            request = self.native._truncating(asked)
        else:
            content, start, offset = asked
            request = self.native._writing(content, start, offset)
            self._unplaced = len(content) - start if offset is None else 0
        try:
            await self.carry_out(request, self._note_answer, changes=True)
        except BlockingIOError:
            self._note_answer(None)
        finally:
            if self._flight is None:
                self._unplaced = 0

    async def write_once(self, content: bytes) -> int | None:
        """Write without a buffer above, as one call of the system would, and say how much."""
        self._check_writable()
        self._fetched = None
        done = self.try_write(content, 0) if content else 0
        if done:
            self._advance(done, 0)
            if done == len(content):
                return done
        if not content or not (self.is_seekable or os.get_blocking(self._own)):
            return self._advance(self._write_now(memoryview(content)), 0)
        request = self.native._writing(content, done, self._offset)
        try:
            count: int = await self.carry_out(
                request, lambda count: self._advance(count, 0), changes=True
            )
        except BlockingIOError:
            return done or None
        except OSError:
            if not done:
                raise
            return done
        return done + count

    def try_write(self, content: bytes, start: int) -> int:
        """Write what takes no wait, if anything; return how much."""
        offset = self._offset
        if offset is None or not self.writes_at_once:
            return 0
        count = self.native._try_write(content, start, offset)
        # Few file systems can, and those that can will not soon again.
        self.writes_at_once = count > 0
        return count

    # -- parts ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_readable(self) -> None:
        # Once for each read: without the calls of the methods that say the same.
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if self._access == os.O_WRONLY:
            raise io.UnsupportedOperation("File not open for reading")

    def _check_writable(self) -> None:
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")

    def _take_fetched(self, size: int) -> bytes:
        fetched = self._fetched or b""
        data, self._fetched = fetched[:size], fetched[size:] or None
        self.position += len(data)
        return data

    def _filled(self, buffer: Any, filled: int, place: int | None) -> int | None:
        """Fill the rest, for a buffer that keeps what it reads ahead; None if that needs a wait."""
        with memoryview(buffer).cast("B") as room:
            while filled < len(room):
                at = None if place is None else place + filled
                count = self.native._try_readinto(room[filled:], at)
                if not count:
                    return None if count is None and at is not None else filled
                filled += count
        return filled

    def _fill_on(self, buffer: Any, filled: int) -> int:
        """Fill the rest as well, up to the end of the file: no buffer above asks again."""
        with memoryview(buffer).cast("B") as room:
            while filled < len(room):
                place = self._place
                count = self.native._try_readinto(room[filled:], place)
                if count is None:
                    self.starved = True
                if not count:
                    break
                self._read_on(count, place)
                filled += count
        return filled

    def _note_short(self, count: int, wanted: int) -> None:
        # A buffer above asks again by itself.
        if self.is_unbuffered and self.is_seekable and 0 < count < wanted:
            self.starved = True

    def _readinto_now(self, buffer: Any) -> int:
        # Not by `os.preadv`, which calls `preadv2(2)`, of which a filter may know nothing.
        with memoryview(buffer).cast("B") as room:
            data = self._read_now(len(room))
            room[: len(data)] = data
        return len(data)

    def _read_now(self, size: int) -> bytes:
        if self.is_seekable and (place := self._place) is not None:
            return os.pread(self._own, size, place)
        return os.read(self._own, size)

    def _land_fetched(self, data: bytes) -> None:
        # Behind what somebody has put back meanwhile.
        self._fetched = (self._fetched or b"") + data

    def _advance(self, count: int | None, size: int) -> int | None:
        """Note that so much of so much was written."""
        if not count:
            return count
        if self.is_seekable and (self._appends or self.is_shared):
            # Where the descriptor stands others decide, too.
            self.position = self._stands = os.lseek(self._own, 0, os.SEEK_CUR)
        else:
            self.position += count
        if size > self.passed_on_above:
            self.passed += count
        return count
