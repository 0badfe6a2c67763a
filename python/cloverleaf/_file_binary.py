"""`BinaryFile`: a file of bytes that is awaited.

A read that had to stop because the rest needs a wait goes on when that has been fetched; one that
is given up puts back what it had.
"""

import contextlib
import errno
import functools
import io
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from . import _cloverleaf
from ._file import File
from ._file_arguments import Buffer, room_for, size_or_all
from ._file_held import Held, Waits
from ._file_pieces import LINE_BYTES_AT_ONCE
from ._file_raw import RawFile

_T = TypeVar("_T")

# What is looked through at a time for the end of a line, where no buffer keeps the rest.
_LINE_BYTES = 1024


class BinaryFile(File[bytes, Buffer]):
    """A file of bytes."""

    __slots__ = ("_has_taken_ahead", "_is_empty", "_passes_on")

    def __init__(self, raw: RawFile, stack: Any, mode: str) -> None:
        super().__init__(raw, stack, mode)
        is_plain = raw.is_seekable and not (raw.is_unbuffered or raw._appends or raw.is_shared)
        #: What is larger than the buffer goes past it, as soon as that is empty.
        self._passes_on = is_plain and raw._access == os.O_WRONLY
        #: The buffer is known to be empty, and passes on.
        self._is_empty = self._passes_on
        #: The read that is under way has had bytes that had been read ahead.
        self._has_taken_ahead = False

    async def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end of the file; all up to the end without it."""
        turn = self._take() or await self._enter()
        try:
            data: bytes | None
            if self._is_dirty:
                data = await self._returning(self._read_dirty(size))
            else:
                data = self._file.read(size)
            if self._raw.starved:
                data = await self._read_on("read", data, size_or_all(size))
        finally:
            self._turns.leave(turn)
        return data or b""

    async def read1(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, as many as one read of the system brings."""
        turn = self._take() or await self._enter()
        try:
            data: bytes | None = await self._do(self._file.read1, size)
            while self._raw.starved and not data:
                self._raw.starved = False
                await self._raw.fetch(self._raw.wanted)
                data = self._file.read1(size)
        finally:
            self._raw.end_read()
            self._turns.leave(turn)
        return data or b""

    async def peek(self, size: int = 0, /) -> bytes:
        """Return bytes that come next, which stay there."""
        turn = self._take() or await self._enter()
        try:
            data: bytes = await self._do(self._file.peek, size)
            while self._raw.starved and not data:
                self._raw.starved = False
                await self._raw.fetch(self._raw.wanted)
                data = self._file.peek(size)
        finally:
            self._raw.end_read()
            self._turns.leave(turn)
        return data

    async def readall(self) -> bytes:
        """Return all bytes up to the end."""
        return await self.read()

    async def readline(self, size: int = -1, /) -> bytes:
        """Return the next line, with its end, or at most `size` bytes of it; empty at the end."""
        turn = self._take() or await self._enter()
        try:
            if self._is_dirty or self._raw.is_unbuffered:
                return await self._next_line(size)
            line: bytes = self._file.readline(size)
            if self._raw.starved:
                line = await self._read_on("readline", line, size_or_all(size))
            return line
        finally:
            self._turns.leave(turn)

    async def __anext__(self) -> bytes:
        turn = self._take() or await self._enter()
        try:
            if self._is_dirty or self._raw.is_unbuffered:
                line = await self._next_line()
            else:
                line = self._file.readline()
                if self._raw.starved:
                    line = await self._go_on_with_line(line)
        finally:
            self._turns.leave(turn)
        if line:
            return line
        raise StopAsyncIteration

    async def readinto(self, buffer: Buffer, /) -> int:
        """Fill a buffer; return how much of it, less than all only at the end of the file."""
        with room_for(buffer, self._file) as room:
            return await self._read_for(room)

    async def _read_for(self, room: memoryview) -> int:
        turn = self._take() or await self._enter()
        filled = 0
        try:
            if self._is_dirty:
                filled = await self._returning(self._readinto_dirty(room))
                if filled == len(room):
                    return filled  # to ask for nothing more would write what is buffered
            while True:
                self._raw.starved = False
                filled += self._file.readinto(room[filled:]) or 0
                if not self._raw.starved:
                    return filled
                await self._raw.fetch(max(len(room) - filled, self._raw.wanted))
        except BaseException:
            self._put_back(bytes(room[:filled]))
            raise
        finally:
            self._raw.end_read()
            self._turns.leave(turn)

    async def _returning(self, read: Coroutine[Any, Any, _T]) -> _T:
        """Have the next operation first go back to where a read began that is given up."""
        place = self._file.tell() if self._raw.is_seekable and not self._file.closed else None
        self._has_taken_ahead = False
        try:
            return await read
        except BaseException as error:
            # It had to write first. What is appended goes to the end, and there the read begins.
            begins_here = self._has_taken_ahead or not self._raw._appends
            if begins_here and (not isinstance(error, Exception) or self._raw._flight is not None):
                self._raw.back_to = place
            raise

    async def _read_dirty(self, size: int | None) -> bytes | None:
        """Read where something may have to be written before all that was not read ahead."""
        if self._reads_whole(size):
            found: bytes | None = await self._do(self._file.read, size)
            return found
        most = -1 if size is None else size
        ahead = self._take_ahead(most)
        if len(ahead) == most:
            return ahead
        rest: bytes | None = await self._do(self._file.read, _rest(most, ahead))
        self._is_dirty = False
        return ahead + rest if rest else ahead or rest

    async def _readline_dirty(self, size: int | None) -> bytes:
        if size is None or self._reads_whole(size):
            return await self._do(self._file.readline, size)
        line = b""
        while byte := self._take_ahead(1):
            line += byte
            if byte == b"\n" or len(line) == size:
                return line
        rest: bytes = await self._do(self._file.readline, _rest(size, line))
        self._is_dirty = False
        return line + rest

    async def _readinto_dirty(self, room: memoryview) -> int:
        """Write what must be written before more can be read; return what was read ahead."""
        if not room:
            await self._do(self._file.readinto, room)
        if self._reads_whole(len(room)):
            return 0
        ahead = self._take_ahead(len(room))
        room[: len(ahead)] = ahead
        if len(ahead) < len(room):
            await self._flush()
        return len(ahead)

    def _begin_write(self, data: Any) -> int:
        if type(data) is not bytes or len(data) <= self._raw.passed_on_above:
            self._is_empty = False
        return super()._begin_write(data)

    def _write_first(self, held: Held, buffer: Any) -> bool:
        is_taken = super()._write_first(held, buffer)
        if is_taken and self._passes_on:
            # What went past the buffer went after all that was in it.
            self._is_empty = held.done + self._raw.passed == len(held.data or b"")
        return is_taken

    async def _write_held(self) -> None:
        """Hand what is held to the buffer, or past it if that is empty and would pass it on."""
        raw, held = self._raw, self._raw.held
        first = held[0]
        data = first.data or b""
        is_whole = not (first.done or raw.is_answered) and len(data) > raw.passed_on_above

        def land(count: int) -> None:
            raw.position += count
            first.done = count
            if count == len(data):
                held.popleft()

        if self._is_empty and is_whole:
            try:
                if raw.writes_at_once and (count := raw.try_write(data, 0)):
                    land(count)
                else:
                    request = self._writing(data, 0, raw.position)
                    await raw.carry_out(request, land, changes=True)
            except Exception:
                raw.drop_held()
                raise
        if held:
            await super()._write_held()

    def _reads_whole(self, size: Any) -> bool:
        """Whether the stack reads nothing before it has written, or says what is wrong."""
        raw = self._raw
        is_wrong = size is not None and (type(size) is not int or size < -1)
        is_plain = raw.is_unbuffered or raw._access != os.O_RDWR or self._file.closed
        return is_plain or size == 0 or is_wrong

    def _take_ahead(self, size: int) -> bytes:
        """Take at most so much of what was read ahead, and call the system for nothing."""
        raw = self._raw
        most = min(size, raw.passed_on_above) if size >= 0 else raw.passed_on_above
        raw.is_apart = True
        ahead = b""
        try:
            if _read1_writes_first():
                ahead = bytes(self._file.read1(most))
            else:
                parts: list[bytes] = []
                with contextlib.suppress(Waits):
                    while len(parts) < most:
                        parts.append(self._file.read(1))
                ahead = b"".join(parts)
        except Waits:
            pass
        finally:
            raw.is_apart = False
        self._has_taken_ahead |= bool(ahead)
        return ahead

    async def _read_on(self, method: str, data: bytes | None, size: int) -> bytes:
        """Go on with a read that had to stop for want of bytes."""
        parts = [data] if data else []
        seen = len(data or b"")
        try:
            while self._raw.starved:
                self._raw.starved = False
                rest = size - seen if size >= 0 else -1
                await self._raw.fetch(self._want(method, rest))
                more: bytes | None = getattr(self._file, method)(rest)
                if more:
                    parts.append(more)
                    seen += len(more)
                    if method == "readline" and more.endswith(b"\n"):
                        break
        except BaseException:
            self._put_back(b"".join(parts))
            raise
        finally:
            self._raw.end_read()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _want(self, method: str, rest: int) -> int:
        """Return how many bytes to fetch: what the stack will take, as the rest is dropped.

        The rest of a stream may be somebody else's.
        """
        if self._raw.is_unbuffered and rest >= 0:
            return rest
        is_one_piece = rest <= self._raw.wanted or self._raw.is_shared or not self._raw.is_seekable
        if method == "readline" or (rest >= 0 and is_one_piece):
            return self._raw.wanted
        if rest < 0:
            rest = self._raw.rest()
        return max(rest, self._raw.wanted, io.DEFAULT_BUFFER_SIZE)

    def _put_back(self, data: bytes) -> None:
        """Undo a read that nobody got."""
        if not data or self._turns.is_parents:
            return
        if not self._raw.is_seekable:
            self._raw.put_back(data)
            return
        try:
            self._file.seek(-len(data), os.SEEK_CUR)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._raw.is_shared:
                raise
            # Others have moved the descriptor to where there is less before it than was read.
            self._drain()
            self._file.seek(0)

    def _sees_to_lines(self) -> bool:
        raw = self._raw
        if self._is_dirty or raw.is_unbuffered:
            return False
        raw.stops_at = raw.position + LINE_BYTES_AT_ONCE
        return True

    async def _go_on_with_line(self, line: bytes) -> bytes:
        return await self._read_on("readline", line, -1)

    async def _next_line(self, size: int | None = -1) -> bytes:
        if self._raw.is_unbuffered:
            return await self._next_line_unbuffered(size_or_all(size))
        line: bytes
        if self._is_dirty:
            line = await self._returning(self._readline_dirty(size))
        else:
            line = self._file.readline(size)
        if self._raw.starved:
            line = await self._read_on("readline", line, size_or_all(size))
        return line

    async def _next_line_unbuffered(self, most: int) -> bytes:
        """Read a line; of a stream no byte is taken that comes after it."""
        raw = self._raw
        parts: list[bytes] = []
        rest = most
        try:
            while rest and not (parts and parts[-1].endswith(b"\n")):
                wanted = min(rest, _LINE_BYTES) if rest > 0 else _LINE_BYTES
                piece = raw.read(wanted)
                raw.starved = False
                if piece is None:
                    await raw.fetch(wanted if raw.is_seekable else 1)
                    continue
                if not piece:
                    break
                end = piece.find(b"\n") + 1 or len(piece)
                self._put_back(piece[end:])
                parts.append(piece[:end])
                rest -= end if rest > 0 else 0
                if self._pauses():
                    await raw.let_others_run()
        except BaseException:
            self._put_back(b"".join(parts))
            raise
        return b"".join(parts)

    async def _place(self) -> int | None:
        # To ask would have the buffer look where others have moved the descriptor, as that of
        # `open` does not. What was read tells how far to go back.
        return None if self._raw.is_shared and not self._is_dirty else await super()._place()

    def _take_back(self, lines: list[bytes], began_at: int | None, _stood: int) -> None:
        if self._turns.is_parents:
            return
        data = b"".join(lines)
        if began_at is None and self._raw.is_seekable:
            self._put_back(data)
        elif began_at is None:
            # What the buffer has read ahead comes behind it.
            self._raw.put_back(data + self._drain())
        elif self._is_dirty and not self._raw.is_unbuffered:
            # To go back may have to write before.
            self._raw.back_to = began_at
        else:
            self._file.seek(began_at)

    def _drain(self) -> bytes:
        """Take all that a buffer has read ahead."""
        parts: list[bytes] = []
        if not self._raw.is_unbuffered:
            self._raw.is_apart = True
            try:
                while True:
                    parts.append(self._file.read1(io.DEFAULT_BUFFER_SIZE))
            except Waits:
                pass
            finally:
                self._raw.is_apart = False
        return b"".join(parts)


def _rest(size: int, found: bytes) -> int:
    return size - len(found) if size >= 0 else -1


_cloverleaf.attach_file_methods(BinaryFile)


class _Refusing(io.RawIOBase):
    """Raises `Waits` for the first write."""

    has_refused = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return 0

    def tell(self) -> int:
        return 0

    def readinto(self, buffer: Any, /) -> int:
        return 0

    def write(self, data: Any, /) -> int:
        if self.has_refused:
            return len(data)
        self.has_refused = True
        raise Waits


@functools.cache
def _read1_writes_first() -> bool:
    """Whether `read1` writes what it must before it forgets what was read ahead, as all else does.

    Python 3.11 forgets first, so that nothing but reads of what is surely there may be tried.
    """
    raw = _Refusing()
    with io.BufferedRandom(raw) as file:
        file.write(b"unwritten")
        with contextlib.suppress(Waits):
            file.read1(1)
        writes_first, raw.has_refused = raw.has_refused, True
    return writes_first
