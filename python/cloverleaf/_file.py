"""Files that are awaited: what all have in common.

Each drives a stack of Python's own: `io.BufferedReader` and its kin, and `io.TextIOWrapper`, on a
`RawFile` that never waits. So whatever takes no wait is done at once, by the code that `open()`
uses as well, and what is buffered, decoded and translated is exactly what `open()` makes of it.
A call that must write first is made again when that has been waited for: `Waits` leaves the stack
as a failed write would, and a write that does fail leaves it so.

Operations on one file run one after the other, in the order in which they were begun; `pread` and
`pwrite` run beside them. An operation that is cancelled has not moved the position; a write that is
cancelled may or may not have happened, and the next operation waits until that is decided. Bytes of
a descriptor that others move meanwhile go back by as much as was read, at most to the beginning.
"""

import asyncio
import operator
import os
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from . import _file_turns
from ._file_arguments import Buffer, as_bytes, check_offset, size_or_all
from ._file_closing import Closing, mode_below
from ._file_ends import ENDS_EARLY, note_open
from ._file_flight import perform
from ._file_held import Held, Waits, write_first
from ._file_lines import next_lines
from ._file_pieces import Pieces
from ._file_raw import AT_ONCE_BYTES, FROM_LENGTH, RawFile
from ._file_turns import HandingOver, Turn, Turns

_S = TypeVar("_S", str, bytes)
_D = TypeVar("_D")
_T = TypeVar("_T")


class File(Closing, Generic[_S, _D]):
    """What text and binary files have in common."""

    # Without a `__dict__` the interpreter finds methods by its shortest way.
    __slots__ = (
        "__weakref__",
        "_is_dirty",
        "mode",
        "name",
    )

    mode: str
    name: Any

    def __new__(cls, raw: RawFile, *args: Any, **kwargs: Any) -> Self:
        """Make one more object of the raw file's descriptor."""
        return super().__new__(cls, raw.native)

    def __init__(self, raw: RawFile, stack: Any, mode: str) -> None:
        self._raw = raw
        self._file = stack
        self._turns = (HandingOver if raw.is_shared else Turns)(raw)
        #: Something was written since the last flush.
        self._is_dirty = False
        self._finish = None
        self._is_closing = self._writes_last = False
        self.name = raw.name
        self.mode = mode
        if ENDS_EARLY:
            note_open(self)

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
        # As `readline`, but in one coroutine, not two.
        raise NotImplementedError

    # -- what needs no wait --------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        # A loop that was closed meanwhile does not close it any more.
        return bool(self._file.closed) or (self._is_closing and self._is_finishing())

    def fileno(self) -> int:
        """Return the descriptor's number; the descriptor stands where the file does then."""
        self._file.seekable()  # says if it is closed, or detached
        return self._raw.descriptor()

    def isatty(self) -> bool:
        """Tell whether the file is a terminal."""
        self._file.seekable()
        return self._raw.is_terminal()

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

        Nothing may be under way. What is buffered is written at once. What a read of a pipe has
        left that was given up must be read before: a file of Python's own cannot take it.
        """
        if self._turns.busy or self._raw._flight is not None:
            raise RuntimeError("an operation is under way")
        if not self._raw.is_seekable and self._keeps_bytes():
            raise RuntimeError("what a read has left that was given up must be read before")
        self._raw.write_held_now(self._buffer)
        self._flush_now()
        self._go_back_now()
        below = self._raw if self._buffer is self._file else self._buffer
        position = below.tell() if self._raw.is_seekable else None
        number = self._release()  # first: a `pwrite` that was given up may still have it
        if self._raw.is_unbuffered:
            self._raw.close()  # no layer would say that it is of no use any more
        else:
            self._file.detach()
        file = os.fdopen(number, mode_below(self._raw), 0 if below is self._raw else -1)
        self._raw.is_shared = False  # the descriptor is nobody's here any more
        if position is not None:
            file.seek(position)
        return file

    # -- in turn -------------------------------------------------------------------------------

    async def readline(self, size: int = -1, /) -> _S:
        """Return the next line, with its end, or at most `size` of it; empty at the end."""
        raise NotImplementedError

    async def readlines(self, hint: int | None = -1, /) -> list[_S]:
        """Return the lines up to the end, or until `hint` of them were read in all."""
        most = size_or_all(hint)
        turn = self._take() or await self._enter()
        try:
            if self._file.closed:
                raise ValueError("I/O operation on closed file.")
            return await next_lines(self, most)
        finally:
            self._turns.leave(turn)

    async def write(self, data: _D, /) -> int:
        """Write; return how much: all, unless there is no buffer and the system took less."""
        turn = self._take() or await self._enter()
        try:
            if self._raw.is_unbuffered:
                return await self._write(data)
            self._is_dirty = True
            count = self._begin_write(data)
            if self._raw.held:
                await self._write_held()
            return count
        finally:
            self._turns.leave(turn)

    async def writelines(self, lines: Iterable[_D], /) -> None:
        """Write each of the lines; line ends are not added."""
        turn = self._take() or await self._enter()
        try:
            if self._file.closed:
                raise ValueError("I/O operation on closed file.")
            for line in lines:
                await self._write(line)
                if self._pauses():
                    await self._raw.let_others_run()
        finally:
            self._turns.leave(turn)

    async def flush(self) -> None:
        """Give everything that is buffered to the system."""
        turn = self._take() or await self._enter()
        try:
            await self._flush()
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
        turn = self._take() or await self._enter()
        try:
            if self._raw.may_ask and whence in FROM_LENGTH and not self._file.closed:
                return await self._seek_asking(offset, whence)
            if not self._raw._access:
                # There is nothing to write before.
                return int(self._file.seek(offset, whence))
            return int(await self._do(self._file.seek, offset, whence))
        finally:
            self._turns.leave(turn)

    async def tell(self) -> int:
        """Return the position."""
        turn = self._take() or await self._enter()
        try:
            if not self._raw._access:
                return int(self._file.tell())
            return int(await self._do(self._file.tell))
        finally:
            self._turns.leave(turn)

    async def truncate(self, size: int | None = None, /) -> int:
        """Make the file so long, or end it at the position; return its length."""
        turn = self._take() or await self._enter()
        try:
            return int(await self._do(self._file.truncate, size))
        finally:
            self._turns.leave(turn)

    # -- beside the others ---------------------------------------------------------------------

    async def _pread_on(self, size: int, offset: int) -> bytes:
        """Go on with a `pread` that must wait for a disk."""
        found: bytes = await perform(self._reading(size, offset))
        return found

    async def pwrite(self, data: Buffer, offset: int, /) -> int:
        """Write at an offset, whatever the position, which stays; return how much, which is all.

        What is buffered is not looked at. A file that was opened to append is written at its end.
        """
        content, offset = as_bytes(data), operator.index(offset)
        if self._file.closed:
            raise ValueError("I/O operation on closed file.")
        check_offset(offset)
        self._check_write(offset)
        done = 0
        if self._raw.writes_at_once and 0 < len(content) <= AT_ONCE_BYTES:
            if self._pauses():
                await asyncio.tasks.sleep(0)
            done = self._try_write(content, 0, offset)
            # Few file systems can, and those that can will not soon again.
            self._raw.writes_at_once = done > 0
        while done < len(content):
            done += await perform(self._writing(content, done, offset + done))
        return done

    # -- parts ---------------------------------------------------------------------------------

    def _take(self) -> Turn | None:
        """Take our turn, if nothing has to be waited for."""
        turns, raw = self._turns, self._raw
        if turns.taken is not None or raw._flight is not None or raw.is_answered or raw.held:
            return None
        if raw.back_to is not None:
            return None
        if not self._spend():
            return None
        turns.taken = turn = _file_turns.at_once
        return turn

    async def _enter(self) -> Turn:
        """Take our turn, when what was given up before has come to its end."""
        turns = self._turns
        turn = await turns.wait()
        pauses = self._pauses()
        if pauses or not self._raw.is_settled:
            try:
                if pauses:
                    await asyncio.tasks.sleep(0)
                if not self._raw.is_settled:
                    await self._settle()
            except BaseException:
                turns.leave(turn)
                raise
        return turn

    @property
    def _buffer(self) -> Any:
        """What stands on the raw file, or that itself."""
        return self._file

    async def _settle(self) -> None:
        """Wait for what was given up before, and go on with what is left of it."""
        await self._raw.land()
        if self._raw.held:
            await self._write_held()
        elif self._raw.is_answered:
            self._raw.forget_answer(self._buffer.flush)
        if (place := self._raw.back_to) is not None:
            await self._do(self._file.seek, place)
            self._raw.back_to = None

    def _comes_back_to(self, place: int) -> bool:
        """Whether the stack, which stands there, is the same as now after a seek to there.

        Else it would read other pieces then, which what cannot be decoded shows.
        """
        return bool(self._raw.position == place)  # nothing is read ahead

    async def _add_pieces(self, lines: list[_S], place: int) -> bool:
        """Add the lines of what is at hand from the stack's place on; tell if those are all."""
        raw = self._raw
        text, is_plain = self._piece_text()
        if not is_plain or raw._access or raw.may_ask or raw.is_unbuffered:
            return False
        if raw.is_shared:
            return False  # others may move it meanwhile
        pieces = Pieces(raw, lines, place)
        try:
            is_all = await pieces.read(text)
        except UnicodeDecodeError:
            lines.clear()
            return False  # the stack will find that as well, and be where `open` has it then
        if pieces.place != place:
            self._file.seek(pieces.place)
            self._note_newlines(pieces.newlines)
        return is_all

    def _piece_text(self) -> tuple[tuple[str, str | None] | None, bool]:
        """Return encoding and newline of text, and whether its lines can be read by pieces."""
        return None, True

    def _note_newlines(self, newlines: set[str]) -> None:
        """Note what ended lines that the stack has not read."""

    def _sees_to_lines(self) -> bool:
        """Tell whether the next lines are at hand, and up to where the raw file may read for them.

        A line of bytes may still have to stop.
        """
        raise NotImplementedError

    def _telling_readline(self) -> Callable[[], _S] | None:
        """Return what reads a line and can tell its place then, if iterating cannot."""
        return None

    async def _return_telling(self, place: int) -> None:
        """Go back to a place from which on iterating has failed."""
        raise NotImplementedError

    async def _next_line(self) -> _S:
        """Return the next line, in a turn that was taken before."""
        raise NotImplementedError

    async def _go_on_with_line(self, line: _S) -> _S:
        """Return a whole line that had to stop for want of bytes."""
        raise NotImplementedError

    async def _place(self) -> int | None:
        """Return where the stack is, if it can go back there."""
        if not (self._raw.is_seekable and self._raw.is_read):
            return None
        try:
            return int(await self._do(self._file.tell))
        except OSError as error:
            if error.errno is not None:
                raise
            return None  # there are decoders whose state cannot be told

    def _keeps_bytes(self) -> bool:
        """Whether something of a stream waits for the next read, or a thread may still bring it."""
        return self._raw.may_bring_bytes() or bool(self._raw._fetched)

    def _is_left(self, error: BaseException) -> bool:
        """Whether it ended an operation that waited, and has not failed."""
        return self._raw._flight is not None or not isinstance(error, Exception)

    def _take_back(self, lines: list[_S], began_at: int | None, stood: int) -> None:
        """Undo the reading of lines that nobody got."""
        raise NotImplementedError

    async def _write(self, data: Any) -> int:
        self._is_dirty = True
        if self._raw.is_unbuffered:
            # None where `open` has it: the descriptor is one that never blocks.
            return await self._raw.write_once(as_bytes(data))  # type: ignore[return-value]
        count = self._begin_write(data)
        if self._raw.held:
            await self._write_held()
        return count

    def _begin_write(self, data: Any) -> int:
        """Hand data to the stack; what needs a wait is held then."""
        raw = self._raw
        if type(data) is bytes and len(data) > raw.passed_on_above and not self._file.closed:
            # The buffer would lend its memory, which has to be copied before anybody waits.
            raw.held.append(Held(data))
            return len(data)
        raw.passed = 0
        try:
            return int(self._file.write(data))
        except Waits:
            raw.held.append(Held(as_bytes(data), raw.passed))
            return len(raw.held[0].data or b"")

    async def _write_held(self) -> None:
        """Hand what is held to the buffer, and wait for what that must write before."""
        raw, held, buffer = self._raw, self._raw.held, self._buffer
        try:
            await raw.perform_asked()
            while held:
                if self._write_first(held[0], buffer):
                    held.popleft()
                else:
                    await raw.perform_asked()
        except Exception:
            # The stack is as `open` would have it, which takes no more of a call that has failed.
            if raw.drop_held():
                self._drop_pending()
            raise

    def _write_first(self, held: Held, buffer: Any) -> bool:
        """Hand it to the buffer; tell whether that took it without a wait."""
        raw = self._raw
        raw.source, raw.passed = held, 0
        is_blocking, raw.blocks = raw.blocks, False
        try:
            write_first(held, buffer)
        except Waits:
            held.done += raw.passed
            return False
        finally:
            raw.source, raw.blocks = None, is_blocking
        return True

    def _drop_pending(self) -> None:
        """Drop what a text layer has taken of the call that has failed."""

    async def _do(self, call: Callable[..., _T], *args: Any) -> _T:
        """Make a call on the stack which writes before it does anything else, if it writes."""
        raw = self._raw
        while True:
            is_blocking, raw.blocks, raw.holds = raw.blocks, False, False
            try:
                return call(*args)
            except Waits:
                pass
            finally:
                raw.blocks, raw.holds = is_blocking, True
            if raw.held:
                await self._write_held()
            else:
                await raw.perform_asked()

    def _flush_now(self) -> None:
        self._raw.blocks, is_blocking = True, self._raw.blocks
        try:
            self._file.flush()
        finally:
            self._raw.blocks = is_blocking

    def _go_back_now(self) -> None:
        """Go back to where a read began that was given up."""
        if (place := self._raw.back_to) is not None:
            self._file.seek(place)
            self._raw.back_to = None

    async def _seek_asking(self, offset: int, whence: int) -> int:
        await self._flush()
        await self._raw.ask_where(offset, whence)
        try:
            return int(self._file.seek(offset, whence))
        finally:
            self._raw.sought = None

    async def _flush(self) -> None:
        await self._do(self._file.flush)
        self._is_dirty = False

    async def _sync(self, *, only_data: bool) -> None:
        turn = self._take() or await self._enter()
        try:
            await self._flush()
            await self._raw.perform(self._syncing(only_data))
        finally:
            self._turns.leave(turn)
