"""Many lines read as one operation, which gives back what it has read when it is given up.

What is at hand is read line after line in one native call, until the stack has to ask for more than
was seen to: the raw file then empties the list that the call looks at.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from . import _cloverleaf
from ._file_pieces import LINES_AT_ONCE

_S = TypeVar("_S", str, bytes)


class _Liner(Protocol[_S]):
    """What is asked of a file whose turn it is."""

    _raw: Any
    _file: Any

    async def _place(self) -> int | None: ...
    def _comes_back_to(self, place: int) -> bool: ...
    async def _add_pieces(self, lines: list[_S], place: int) -> bool: ...
    def _sees_to_lines(self) -> bool: ...
    def _telling_readline(self) -> Callable[[], _S] | None: ...
    async def _return_telling(self, place: int) -> None: ...
    async def _next_line(self) -> _S: ...
    async def _go_on_with_line(self, line: _S) -> _S: ...
    def _is_left(self, error: BaseException) -> bool: ...
    def _take_back(self, lines: list[_S], began_at: int | None, stood: int) -> None: ...
    def _pauses(self) -> bool: ...


async def next_lines(file: _Liner[_S], most: int) -> list[_S]:
    """Return the lines up to the end, or until so much was read in all, if that is more than 0."""
    began_at = await file._place()
    stood = file._raw.position
    begun: list[_S] = []
    readline = file._telling_readline()
    if most <= 0 and began_at is not None and file._comes_back_to(began_at):
        if await file._add_pieces(begun, began_at):
            return begun
        if readline is not None:
            # Text that is iterated cannot tell its place before its end. But it can go back to
            # where it began, which is all that somebody who gives up needs.
            if (lines := await _Lines(file, began_at, stood, -1, None, begun).read()) is not None:
                return lines
            begun = []
            await file._return_telling(began_at)
    rest = most if most > 0 else -1
    found = await _Lines(file, began_at, stood, rest, readline, begun, tells=True).read()
    return found or []


class _Lines:
    """One reading of many lines; without a `readline` the stack is iterated."""

    def __init__(
        self,
        file: _Liner[Any],
        began_at: int | None,
        stood: int,
        rest: int,
        readline: Callable[[], Any] | None,
        begun: list[Any],
        *,
        tells: bool = False,
    ) -> None:
        self._file = file
        self._began_at = began_at
        #: Where the descriptor stood then, if others may have it.
        self._stood = stood
        #: How much may be read; -1 if all.
        self._rest = rest
        self._readline = readline
        #: The stack can tell its place between the lines.
        self._tells = tells
        self._found = begun
        self._is_pausing = False

    async def read(self) -> list[Any] | None:
        """Return the lines; None if that has failed and the stack cannot tell its place now."""
        file, found = self._file, self._found
        try:
            while await (self._add_many() if file._sees_to_lines() else self._add_one()):
                pass
        except BaseException as error:
            # What fails leaves a file where `open` would have it; a stream's lines come again, and
            # so do those of a call into which an exception was thrown.
            is_left = self._is_pausing or file._is_left(error)
            if not (self._tells or is_left):
                return None
            if (found or not self._tells) and (is_left or not file._raw.is_seekable):
                file._take_back(found, self._began_at, self._stood)
            raise
        return found

    async def _add_one(self) -> bool:
        """Add a line that may have to be waited for; tell whether there may be more to add."""
        line = await self._file._next_line()
        if not line:
            if not self._tells:
                self._file._file.flush()  # as iterating at the end, it has the stack tell again
            return False
        self._found.append(line)
        return self._goes_on(len(line)) and await self._let_others_run(self._file._pauses())

    async def _add_many(self) -> bool:
        """Add lines that are at hand; tell whether there may be more to add."""
        file, found = self._file, self._found
        raw, seen = file._raw, len(found)
        raw.until_read = [None]
        count = _cloverleaf.add_lines(
            file._file, self._readline, found, raw.until_read, LINES_AT_ONCE, self._rest
        )
        if raw.starved:
            is_whole = len(found) == seen or found[-1][-1:] == b"\n"
            begun: Any = b"" if is_whole else found.pop()
            if not (line := await file._go_on_with_line(begun)):
                return False
            found.append(line)
            count = sum(map(len, found[seen:]))
        if count is None or not self._goes_on(count):
            return False
        return await self._let_others_run(True)

    def _goes_on(self, count: int) -> bool:
        if self._rest >= 0:
            self._rest -= count
            return self._rest >= 0
        return True

    async def _let_others_run(self, is_time: bool) -> bool:
        if is_time:
            self._is_pausing = True
            await self._file._raw.let_others_run()
            self._is_pausing = False
        return True
