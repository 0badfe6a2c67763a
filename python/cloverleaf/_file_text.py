"""`TextFile`: a file of text that is awaited.

`io.TextIOWrapper` cannot be told that there is nothing yet. So what it may ask for is brought into
memory before it reads; much at a time, and what comes from a pipe, a thread reads. Nor does it keep
what its buffer did not take: so that buffer holds what has to wait, and says that it has it.
"""

import asyncio
import functools
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from ._file import File
from ._file_arguments import size_or_all
from ._file_flight import OnThread, forget
from ._file_pieces import LINE_BYTES_AT_ONCE, ends_lines_as_ascii
from ._file_raw import AT_ONCE_BYTES, RawFile
from ._file_turns import Turn

# What the text layer reads at a time, or the buffer below it: the larger of the two.
_TEXT_CHUNK = max(8192, io.DEFAULT_BUFFER_SIZE)

# How much is seen to at a time when many lines are read.
_LINES_SEEN_TO = max(LINE_BYTES_AT_ONCE, 8 * _TEXT_CHUNK)

# Whether reads of text first write what is unwritten, as `tell` does in every version.
_READS_WRITE_FIRST = sys.version_info >= (3, 13)


class TextFile(File[str, str]):
    """A file of text."""

    __slots__ = (
        *("_landed", "_left", "_newlines", "_return_to", "_seen_from", "_seen_to", "_warmth"),
        "newline",
    )

    def __init__(self, raw: RawFile, stack: Any, mode: str) -> None:
        super().__init__(raw, stack, mode)
        # The text layer cannot be told that there is nothing yet; what it needs is seen to before.
        raw.reads_block = True
        # When and how it writes before a read differs between versions of Python.
        raw.blocks = raw.is_read
        #: From where and up to where the file was last found in memory.
        self._seen_from = self._seen_to = 0
        #: What the read waits for that brings it there.
        self._warmth: asyncio.Future[Any] | None = None
        #: Where a read began that was given up while a thread was at it.
        self._return_to: int | None = None
        #: What was read from a stream for somebody who gave up, and what a thread has just read.
        self._left = ""
        self._landed: list[str] = []
        #: What ends a line, as `open` takes it.
        self.newline: str | None = None
        #: What ended lines that the stack itself has not read, up to where it would forget them.
        self._newlines: set[str] = set()

    @property
    def encoding(self) -> str:
        """The encoding's name."""
        return str(self._file.encoding)

    @property
    def errors(self) -> str | None:
        """What happens to what cannot be encoded or decoded."""
        found: str | None = self._file.errors
        return found

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The line ends that were met so far."""
        found: str | tuple[str, ...] | None = self._file.newlines
        if not self._newlines:
            return found
        met = self._newlines.union((found,) if isinstance(found, str) else found or ())
        ends = tuple(end for end in ("\r", "\n", "\r\n") if end in met)
        return ends if len(ends) > 1 else ends[0]

    @property
    def line_buffering(self) -> bool:
        """Whether a line's end flushes."""
        return bool(self._file.line_buffering)

    @property
    def write_through(self) -> bool:
        """Whether what is written is given to the system at once."""
        return bool(self._file.write_through)

    async def reconfigure(self, **settings: Any) -> None:
        """Change what `io.TextIOWrapper.reconfigure` can change."""
        turn = self._take() or await self._enter()
        try:
            await self._do(lambda: self._file.reconfigure(**settings))
            self.newline = settings.get("newline", self.newline)
            if "newline" in settings or settings.get("encoding") or settings.get("errors"):
                self._newlines.clear()  # there is another decoder
        finally:
            self._turns.leave(turn)

    async def read(self, size: int | None = -1, /) -> str:
        """Return `size` characters, fewer only at the end of the file; all without it."""
        turn = self._take() or await self._enter()
        try:
            text = await self._read("read", size_or_all(size))
        finally:
            self._turns.leave(turn)
        return text

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; return where it is then."""
        place = await super().seek(offset, whence)
        if place == 0 or whence == os.SEEK_END:
            # The decoder begins anew.
            self._newlines.clear()
        return place

    async def readline(self, size: int = -1, /) -> str:
        """Return the next line, with its end, or at most `size` of it; empty at the end."""
        turn = self._take() or await self._enter()
        try:
            if not self._seen_from <= self._raw.position <= self._seen_to - _TEXT_CHUNK:
                return await self._read("readline", size)
            line: str = self._file.readline(size)
            return line
        finally:
            self._turns.leave(turn)

    async def __anext__(self) -> str:
        turn = self._take() or await self._enter()
        try:
            if not self._seen_from <= self._raw.position <= self._seen_to - _TEXT_CHUNK:
                line = await self._read("readline", -1)
            else:
                line = self._file.readline()
        finally:
            self._turns.leave(turn)
        if line:
            return line
        raise StopAsyncIteration

    def _comes_back_to(self, place: int) -> bool:
        # `tell` does not always know the state of a decoder; at 0 there is none.
        has_no_state = place == 0 or ends_lines_as_ascii(self._file.encoding)
        return has_no_state and super()._comes_back_to(place)

    def _piece_text(self) -> tuple[tuple[str, str | None] | None, bool]:
        encoding = self._file.encoding
        is_plain = self._file.errors == "strict" and ends_lines_as_ascii(encoding)
        return (encoding, self.newline), is_plain and self.newline in (None, "", "\n")

    def _note_newlines(self, newlines: set[str]) -> None:
        self._newlines |= newlines

    def _sees_to_lines(self) -> bool:
        raw, position = self._raw, self._raw.position
        if not self._seen_from <= position <= self._seen_to - 3 * _TEXT_CHUNK:
            if not (raw.is_seekable and raw.is_read) or raw.may_ask:
                return False
            wanted = min(raw.rest() + 1, _LINES_SEEN_TO)
            found = raw.native._at_hand(wanted, position)
            if found < min(wanted, 3 * _TEXT_CHUNK):
                return False
            self._note_seen(position, found)
            if found == wanted < _LINES_SEEN_TO:
                # That is all, with the end.
                raw.stops_at = self._seen_to
                return True
        # One piece that begins before there, and one more that ends the line.
        raw.stops_at = self._seen_to - 2 * _TEXT_CHUNK
        return True

    def _note_seen(self, position: int, size: int) -> None:
        if not self._seen_from <= position <= self._seen_to:
            self._seen_from = position
        self._seen_to = position + size

    def _telling_readline(self) -> Callable[[], str]:
        readline: Callable[[], str] = self._file.readline
        return readline

    async def _return_telling(self, place: int) -> None:
        self._return_to = place
        await self._return()

    async def _return(self) -> None:
        """Go back to where a read began that was given up, or has failed."""
        self._follow_others()
        self._raw.left_at = None
        await self._fly("seek", self._return_to or 0, forget)
        self._return_to = None

    def _follow_others(self) -> None:
        """Return to where others have moved the descriptor since it was left, if they have."""
        raw = self._raw
        if raw.is_shared and raw.left_at is not None:
            place = os.lseek(raw._own, 0, os.SEEK_CUR)
            if place != raw.left_at:
                self._return_to = place

    async def _next_line(self) -> str:
        return await self._read("readline", -1)

    def _is_left(self, error: BaseException) -> bool:
        warmth = self._warmth
        if warmth is None:
            return super()._is_left(error)
        return not warmth.done() or warmth.cancelled() or warmth.exception() is not error

    async def _place(self) -> int | None:
        self._warmth = None  # of one that was given up
        # To tell would write what is unwritten, and what comes of a read then would be another's.
        if self._is_dirty and self._raw._access and not _READS_WRITE_FIRST:
            return None
        met: str | tuple[str, ...] | None = self._file.newlines
        try:
            return await super()._place()
        except (OverflowError, UnicodeError):
            return None  # as of iso2022_kr, whose decoder's state is too large a number
        finally:
            if met is not None and self._file.newlines != met:
                # To tell has the decoder begin anew within the first piece: it forgets them.
                self._newlines.update((met,) if isinstance(met, str) else met)

    def _take_back(self, lines: list[str], began_at: int | None, stood: int) -> None:
        if self._raw.is_seekable:
            self._return_to = began_at
            if began_at is not None and not self._turns.is_parents:
                self._raw.note_given_up(min(stood, began_at))
        else:
            self._left = "".join(lines) + self._left

    def _keeps_bytes(self) -> bool:
        return bool(self._left or self._landed) or super()._keeps_bytes()

    def _take(self) -> Turn | None:
        return super()._take() if self._return_to is None else None

    async def _enter(self) -> Turn:
        turn = await super()._enter()
        if self._return_to is not None:
            try:
                await self._return()
            except BaseException:
                self._turns.leave(turn)
                raise
        return turn

    def _go_back_now(self) -> None:
        super()._go_back_now()
        if self._return_to is not None:
            self._follow_others()
            self._raw.left_at = None
            self._file.seek(self._return_to)
            self._return_to = None

    @property
    def _buffer(self) -> Any:
        return self._file.buffer

    def _begin_write(self, data: Any) -> int:
        raw = self._raw
        is_blocking, raw.blocks = raw.blocks, False
        try:
            count = int(self._file.write(data))
        finally:
            raw.blocks = is_blocking
        if self._newlines:
            self._newlines.clear()  # the decoder begins anew
        return count

    def _drop_pending(self) -> None:
        self._raw.drops = True
        try:
            self._file.flush()
        finally:
            self._raw.drops = False

    async def _flush_last(self) -> None:
        try:
            await self._flush()
        except Exception:
            # Closing the layer flushes, and closing its buffer does so again.
            await self._do(self._buffer.flush)
            raise

    async def _read(self, method: str, size: int) -> str:
        """Read by a method of the stack, with what it may ask for in memory."""
        if self._file.closed or not self._file.readable():
            # Which says so in its own words, when it has written what it has.
            return str(await self._do(getattr(self._file, method), size))
        if not self._raw.is_seekable:
            return await self._read_stream(method, size)
        if self._raw.may_ask:
            return await self._read_in_thread(method, size)
        # What is buffered the text layer writes itself, before it reads: when and how differs
        # between versions of Python, and programs can tell.
        need = _TEXT_CHUNK
        self._raw._follow()
        if method == "read":
            # No encoding has more than four bytes for a character.
            need = self._raw.rest() + 1 if size < 0 else 4 * size + _TEXT_CHUNK
            if need > AT_ONCE_BYTES and (rest := self._raw.rest()):
                need = min(need, rest + 1)
        if need > AT_ONCE_BYTES:
            return await self._read_in_thread(method, size)
        position = self._raw.position
        if not self._seen_from <= position <= self._seen_to - need:
            if self._raw.native._at_hand(need, position) < need:
                self._warmth = self._raw.perform(self._warming(need, position))
                await self._warmth
                self._warmth = None
            self._note_seen(position, need)
        return str(getattr(self._file, method)(size))

    async def _read_in_thread(self, method: str, size: int) -> str:
        """Read much: decoding alone would take the loop's thread for long."""
        raw = self._raw
        began_at = await self._place()
        stood = raw._follow()
        if began_at is not None:
            raw.begun_at = min(stood, began_at)
        try:
            return str(await self._fly(method, size, forget))
        except BaseException as error:
            if began_at is not None and self._is_left(error):
                # The thread goes on, and the next operation first undoes what it has done.
                self._return_to = began_at
                raw.note_given_up(min(stood, began_at))
            raise
        finally:
            raw.begun_at = None

    async def _read_stream(self, method: str, size: int) -> str:
        """Read what has no position, and may keep a thread waiting for ever."""
        text = self._take_left(method, size)
        is_enough = len(text) == size or (method == "readline" and bool(self._line_end(text)))
        if is_enough:
            return text
        rest = size - len(text) if size >= 0 else -1
        try:
            text += str(await self._fly(method, rest, self._landed.append))
        except BaseException:
            # The next read begins with this, and with what the thread brings.
            self._left = text + self._left
            raise
        self._landed.clear()
        return text

    def _take_left(self, method: str, size: int) -> str:
        self._left += "".join(self._landed)
        self._landed.clear()
        end = len(self._left) if size < 0 else size
        if method == "readline":
            end = self._line_end(self._left[:end]) or end
        text, self._left = self._left[:end], self._left[end:]
        return text

    def _line_end(self, text: str) -> int:
        """Return where the first line of a text ends, behind what ends it; 0 if nothing does."""
        ends = ("\r\n", "\n", "\r") if self.newline == "" else (self.newline or "\n",)
        # Of those at the same place, the longest.
        found = [(at, -len(end)) for end in ends if (at := text.find(end)) >= 0]
        if not found:
            return 0
        at, length = min(found)
        return at - length

    async def _fly(self, method: str, size: int, land: Callable[[Any], object]) -> Any:
        loop = asyncio.get_running_loop()
        call = OnThread(functools.partial(getattr(self._file, method), size), land)
        begin = functools.partial(loop.run_in_executor, None, call)
        return await self._raw.fly(begin, land, call.has_ended, call)
