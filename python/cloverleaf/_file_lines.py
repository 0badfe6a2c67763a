"""Many lines read as one operation, which gives back what it has read when it is given up."""

from typing import Any, Protocol, TypeVar

_S = TypeVar("_S", str, bytes)


class _Liner(Protocol[_S]):
    """What is asked of a file whose turn it is."""

    _raw: Any

    async def _place(self) -> int | None: ...
    async def _next_line(self) -> _S: ...
    def _is_left(self, error: BaseException) -> bool: ...
    def _take_back(self, lines: list[_S], began_at: int | None) -> None: ...
    def _pauses(self) -> bool: ...


async def next_lines(file: _Liner[_S], most: int) -> list[_S]:
    """Return the lines up to the end, or until so much was read in all, if that is more than 0."""
    lines: list[_S] = []
    seen = 0
    began_at = await file._place()
    is_pausing = False
    try:
        while line := await file._next_line():
            lines.append(line)
            seen += len(line)
            if 0 < most < seen:
                break
            if file._pauses():
                is_pausing = True
                await file._raw.let_others_run()
                is_pausing = False
    except BaseException as error:
        # What fails leaves a file where `open` would have it; a stream's lines come again, and so
        # do those of a call into which an exception was thrown.
        is_left = is_pausing or file._is_left(error)
        if lines and (is_left or not file._raw.is_seekable):
            file._take_back(lines, began_at)
        raise
    return lines
