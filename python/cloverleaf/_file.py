"""Files that are awaited: what all have in common, and `BinaryFile`.

Each drives a stack of Python's own: `io.BufferedReader` and its kin, and `io.TextIOWrapper`, on a
`RawFile` that never waits. So whatever takes no wait is done at once, by the code that `open()`
uses as well, and what is buffered, decoded and translated is exactly what `open()` makes of it.

Operations on one file run one after the other, in the order in which they were begun; `pread` and
`pwrite` run beside them. An operation that is cancelled has not moved the position; a write that is
cancelled may or may not have happened, and the next operation waits until that is decided.
"""

import asyncio
import io
import os
import warnings
from collections.abc import AsyncIterator, Coroutine, Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from . import _cloverleaf, _file_turns
from ._file_raw import AT_ONCE_BYTES, RawFile, perform
from ._file_turns import Turns

_S = TypeVar("_S", str, bytes)

# How much a write may leave in the queue before it waits.
_QUEUE_BYTES = 1024 * 1024


class File(_cloverleaf.FileBase, Generic[_S]):
    """What text and binary files have in common."""

    # Without a `__dict__` the interpreter finds methods by its shortest way.
    __slots__ = ("__weakref__", "_file", "_finish", "_is_dirty", "_raw", "_turns", "mode", "name")

    #: Python's own file on ours.
    _file: Any
    mode: str
    name: Any

    def __new__(cls, raw: RawFile, *args: Any, **kwargs: Any) -> Self:
        """Make one more object of the raw file's descriptor."""
        return super().__new__(cls, raw.native)

    def __init__(self, raw: RawFile, stack: Any, mode: str) -> None:
        self._raw = raw
        self._file = stack
        self._turns = Turns()
        #: Something was written since the last flush.
        self._is_dirty = False
        self._finish: asyncio.Task[None] | None = None
        self.name = raw.name
        self.mode = mode

    def __repr__(self) -> str:
        word = "closed" if self.closed else "open"
        return f"<{type(self).__name__} {word} name={self.name!r} mode={self.mode!r}>"

    async def __aenter__(self) -> Self:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[_S]:
        return self

    async def __anext__(self) -> _S:
        if line := await self.readline():
            return line
        raise StopAsyncIteration

    def __del__(self) -> None:
        stack: Any = getattr(self, "_file", None)
        if stack is None or self._fileno() == -1:
            return
        if self._raw.owns_number:
            warnings.warn(f"unclosed file {self!r}", ResourceWarning, stacklevel=2, source=self)
        try:
            if not stack.closed:
                stack.close()
        finally:
            self._raw.abandon()

    # -- what needs no wait --------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return bool(self._file.closed)

    def fileno(self) -> int:
        """Return the descriptor's number; the descriptor stands where the file does then."""
        return int(self._file.fileno())

    def isatty(self) -> bool:
        """Tell whether the file is a terminal."""
        return bool(self._file.isatty())

    def readable(self) -> bool:
        """Tell whether the file can be read."""
        return bool(self._file.readable())

    def writable(self) -> bool:
        """Tell whether the file can be written."""
        return bool(self._file.writable())

    def seekable(self) -> bool:
        """Tell whether the file has a position that can be moved."""
        return bool(self._file.seekable())

    def detach(self) -> Any:
        """Give what is below the top layer, as a file of Python's own; this one is of no use then.

        A file without a buffer gives the same without a buffer: it has no other layer.

        Nothing may be under way. What is buffered is written at once.
        """
        if self._turns.busy or self._raw._flight is not None:
            raise RuntimeError("an operation is under way")
        self._file.flush()
        self._raw.write_now()
        below = self._raw if self._raw.is_unbuffered else self._file.detach()
        position = below.tell() if self._raw.is_seekable else None
        buffering = 0 if below is self._raw else -1
        file = os.fdopen(self._release(), self._raw.mode_below, buffering)
        if position is not None:
            file.seek(position)
        if self._raw.is_unbuffered:
            # There is no layer that would say that it is of no use any more.
            self._raw.close()
        return file

    # -- in turn -------------------------------------------------------------------------------

    async def readline(self, size: int = -1, /) -> _S:
        """Return the next line, with its end, or at most `size` of it; empty at the end."""
        raise NotImplementedError

    async def readlines(self, hint: int | None = -1, /) -> list[_S]:
        """Return the lines up to the end, or until `hint` of them were read in all."""
        lines = []
        seen = 0
        while line := await self.readline():
            lines.append(line)
            seen += len(line)
            if hint is not None and 0 < hint < seen:
                break
        return lines

    async def write(self, data: Any, /) -> int:
        """Write; return how much, which is all."""
        turn = await self._enter()
        self._is_dirty = True
        try:
            count = self._write(data)
            if not self._raw.is_settled:
                await self._raw.settle()
        finally:
            self._turns.leave(turn)
        return count

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Write each of the lines; line ends are not added."""
        turn = await self._enter()
        self._is_dirty = True
        try:
            for line in lines:
                self._file.write(line)
                if self._raw.queued_bytes > _QUEUE_BYTES:
                    await self._raw.settle()
            await self._raw.settle()
        finally:
            self._turns.leave(turn)

    async def flush(self) -> None:
        """Give everything that is buffered to the system."""
        turn = await self._enter()
        try:
            self._file.flush()
            await self._raw.settle()
        finally:
            self._turns.leave(turn)

    async def fsync(self) -> None:
        """Flush, and wait until the file and what is known of it are on the disk."""
        await self._sync(only_data=False)

    async def fdatasync(self) -> None:
        """Flush, and wait until the file's content is on the disk."""
        await self._sync(only_data=True)

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; return where it is then."""
        turn = await self._enter()
        try:
            if whence == os.SEEK_END:
                await self._flush_before()
            position = int(self._file.seek(offset, whence))
            if not self._raw.is_settled:
                await self._raw.settle()
            return position
        finally:
            self._turns.leave(turn)

    async def tell(self) -> int:
        """Return the position."""
        turn = await self._enter()
        try:
            await self._settle_before_tell()
            return int(self._file.tell())
        finally:
            self._turns.leave(turn)

    async def truncate(self, size: int | None = None, /) -> int:
        """Make the file so long, or end it at the position; return its length."""
        turn = await self._enter()
        try:
            await self._flush_before()
            length = int(self._file.truncate(size))
            await self._raw.settle()
            return length
        finally:
            self._turns.leave(turn)

    async def close(self) -> None:
        """Write what is buffered and close the file; more than once is fine.

        It is closed also if this is cancelled, or cannot write: the error is raised.
        """
        if not self._is_finishing():
            if self._turns.busy or self._raw._flight is not None:
                # Both the place in the line and the closing stay if the caller gives up.
                self._finish = self._turns.take(self._finish_in_turn)
            elif (rest := self._begin_finish()) is not None:
                self._finish = asyncio.get_running_loop().create_task(rest)
        if self._finish is not None and not self._finish.done():
            await asyncio.shield(self._finish)

    # -- beside the others ---------------------------------------------------------------------

    async def _pread_on(self, size: int, offset: int) -> bytes:
        """Go on with a `pread` that must wait for a disk."""
        found: bytes = await perform(self._reading(size, offset))
        return found

    async def pwrite(self, data: Any, offset: int, /) -> int:
        """Write at an offset, whatever the position, which stays; return how much, which is all.

        What is buffered is not looked at. A file that was opened to append is written at its end.
        """
        content = data if type(data) is bytes else bytes(memoryview(data))
        if offset < 0:
            raise OSError(22, os.strerror(22))
        done = 0
        if self._raw.writes_at_once and 0 < len(content) <= AT_ONCE_BYTES:
            if self._pauses():
                await asyncio.sleep(0)
            done = self._try_write(content, 0, offset)
            # Few file systems can, and those that can will not soon again.
            self._raw.writes_at_once = done > 0
        while done < len(content):
            done += await perform(self._writing(content, done, offset + done))
        return done

    # -- parts ---------------------------------------------------------------------------------

    async def _enter(self) -> int:
        """Take our turn, when what was given up before has come to its end; return its number."""
        turns = self._turns
        turn = _file_turns.process
        if turns.taken:
            await turns.wait()
        else:
            turns.taken = turn
        pauses = self._pauses()
        if pauses or not self._raw.is_settled:
            try:
                if pauses:
                    await asyncio.sleep(0)
                await self._raw.land()
            except BaseException:
                turns.leave(turn)
                raise
        return turn

    def _write(self, data: Any) -> int:
        """Hand data to the stack, or what a buffer would pass on whole to the raw file.

        The buffer would lend its memory, which has to be copied before anybody waits.
        """
        if type(data) is bytes and len(data) > self._raw.passed_on_above and not self.closed:
            self._file.flush()
            return self._raw.write(data)
        return int(self._file.write(data))

    async def _flush_before(self) -> None:
        """Write what is buffered, before something that must find it written."""
        if self._is_dirty and not self.closed:
            self._file.flush()
            await self._raw.settle()
            self._is_dirty = False

    async def _settle_before_tell(self) -> None:
        if not self._raw.is_settled:
            await self._raw.settle()

    async def _sync(self, *, only_data: bool) -> None:
        turn = await self._enter()
        try:
            self._file.flush()
            await self._raw.settle()
            await perform(self._syncing(only_data))
        finally:
            self._turns.leave(turn)

    def _is_finishing(self) -> bool:
        """Whether somebody has begun to close the file, and did not fail before it was closed."""
        finish = self._finish
        if finish is None or self.closed:
            return finish is not None
        return not (finish.done() or finish.get_loop().is_closed())

    async def _finish_in_turn(self, turn: int) -> None:
        try:
            await self._raw.land()
            finishing = self._begin_finish()
        finally:
            self._turns.leave(turn)
        if finishing is not None:
            await finishing

    def _begin_finish(self) -> Coroutine[Any, Any, None] | None:
        """Close the file for everybody; return what is left to wait for."""
        if self.closed:
            return None
        error = None
        try:
            self._file.close()
        except BaseException as raised:
            error = raised
        if self._raw.is_settled and not self._raw._access:
            # Nothing was written, so nothing is waited for.
            self._close()
            if error is not None:
                raise error
            return None
        return self._finish_closing(error)

    async def _finish_closing(self, error: BaseException | None) -> None:
        try:
            await self._raw.settle()
        finally:
            await perform(self._closing())
        if error is not None:
            raise error


class BinaryFile(File[bytes]):
    """A file of bytes."""

    __slots__ = ()

    async def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end of the file; all up to the end without it."""
        turn = await self._enter()
        try:
            data: bytes | None = self._file.read(size)
            if self._raw.starved:
                data = await self._read_on("read", data, -1 if size is None else size)
        finally:
            self._turns.leave(turn)
        return data or b""

    async def read1(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, as many as one read of the system brings."""
        turn = await self._enter()
        try:
            data: bytes | None = self._file.read1(size)
            while self._raw.starved and not data:
                self._raw.starved = False
                await self._raw.fetch(size if size >= 0 else io.DEFAULT_BUFFER_SIZE)
                data = self._file.read1(size)
            self._raw.starved = False
        finally:
            self._turns.leave(turn)
        return data or b""

    async def peek(self, size: int = 0, /) -> bytes:
        """Return bytes that come next, which stay there."""
        turn = await self._enter()
        try:
            data: bytes = self._file.peek(size)
            while self._raw.starved and not data:
                self._raw.starved = False
                await self._raw.fetch(io.DEFAULT_BUFFER_SIZE)
                data = self._file.peek(size)
            self._raw.starved = False
        finally:
            self._turns.leave(turn)
        return data

    async def readall(self) -> bytes:
        """Return all bytes up to the end."""
        return await self.read()

    async def readline(self, size: int = -1, /) -> bytes:
        """Return the next line, with its end, or at most `size` bytes of it; empty at the end."""
        if self._raw.is_unbuffered:
            return await self._readline_unbuffered(size)
        turn = await self._enter()
        try:
            line: bytes = self._file.readline(size)
            if self._raw.starved:
                line = await self._read_on("readline", line, size)
        finally:
            self._turns.leave(turn)
        return line

    async def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; return how much of it, less than all only at the end of the file."""
        with memoryview(buffer).cast("B") as room:
            return await self._read_for(room)

    async def _read_for(self, room: memoryview) -> int:
        turn = await self._enter()
        filled = 0
        try:
            while True:
                self._raw.starved = False
                filled += self._file.readinto(room[filled:]) or 0
                if not self._raw.starved:
                    return filled
                await self._raw.fetch(len(room) - filled)
        except BaseException:
            self._put_back(bytes(room[:filled]))
            raise
        finally:
            self._raw.starved = False
            self._turns.leave(turn)

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
            self._raw.starved = False
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _want(self, method: str, rest: int) -> int:
        """Return how many bytes to fetch."""
        if method == "readline":
            return io.DEFAULT_BUFFER_SIZE
        if self._raw.is_unbuffered and rest >= 0:
            return rest
        if rest < 0:
            rest = self._raw.rest()
        return max(rest, io.DEFAULT_BUFFER_SIZE)

    def _put_back(self, data: bytes) -> None:
        """Undo a read that nobody got."""
        if not data:
            return
        if self._raw.is_seekable:
            self._file.seek(-len(data), os.SEEK_CUR)
        else:
            self._raw.put_back(data)

    async def _readline_unbuffered(self, size: int) -> bytes:
        line = b""
        while (size < 0 or len(line) < size) and not line.endswith(b"\n"):
            byte = await self.read(1)
            if not byte:
                break
            line += byte
        return line
