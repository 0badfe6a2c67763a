"""Many lines read as one operation, which gives back what it has read when it is given up.

What is at hand is read line after line in plain calls, until the stack has to ask for more: the raw
file then empties the list that counts them.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

_S = TypeVar("_S", str, bytes)

# So many lines at hand count as one operation, unless the stack has to read before.
_LINES_AT_ONCE = 64


class _Liner(Protocol[_S]):
    """What is asked of a file whose turn it is."""

    _raw: Any

    async def _place(self) -> int | None: ...
    def _reading_at_hand(self) -> Callable[[int], _S] | None: ...
    async def _next_line(self) -> _S: ...
    async def _go_on_with_line(self, line: _S) -> _S: ...
    def _is_left(self, error: BaseException) -> bool: ...
    def _take_back(self, lines: list[_S], began_at: int | None) -> None: ...
    def _pauses(self) -> bool: ...


async def next_lines(file: _Liner[_S], most: int) -> list[_S]:
    """Return the lines up to the end, or until so much was read in all, if that is more than 0."""
    raw = file._raw
    lines: list[_S] = []
    rest = most if most > 0 else None
    began_at = await file._place()
    is_pausing = False
    try:
        while True:
            seen = len(lines)
            if (readline := file._reading_at_hand()) is None:
                lines.append(await file._next_line())
            else:
                raw.until_read = [-1] * _LINES_AT_ONCE
                _take_some(readline, raw.until_read, lines, rest)
                if raw.starved:
                    lines.append(await file._go_on_with_line(lines.pop()))
            if not lines[-1]:
                del lines[-1]
                return lines
            if rest is not None:
                rest -= sum(map(len, lines[seen:]))
                if rest < 0:
                    return lines
            if file._pauses():
                is_pausing = True
                await raw.let_others_run()
                is_pausing = False
    except BaseException as error:
        # What fails leaves a file where `open` would have it; a stream's lines come again, and so
        # do those of a call into which an exception was thrown.
        is_left = is_pausing or file._is_left(error)
        if lines and (is_left or not raw.is_seekable):
            file._take_back(lines, began_at)
        raise


def _take_some(
    readline: Callable[[int], _S], until_read: list[int], lines: list[_S], rest: int | None
) -> None:
    """Read lines until the list is at its end, or more than the rest was read."""
    if rest is None:
        # Those before one that fails are kept.
        lines.extend(map(readline, until_read))
        return
    for size in until_read:
        line = readline(size)
        lines.append(line)
        rest -= len(line)
        if rest < 0:
            return
