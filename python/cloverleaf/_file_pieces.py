"""The lines of large pieces of a file, for whoever reads all of them and has nothing read ahead.

A file's stack asks its bottom for a few KiB at a time, and each time that is a call of ours. In a
piece that is in memory whole, Python's own `BytesIO` and `TextIOWrapper` find the lines as the
stack would, without one. The stack stays where it is meanwhile, so who gives up has not moved it.
"""

import codecs
import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ._cloverleaf import split_lines

# What is read in a row before others run: lines of 64 bytes are so many in so much.
LINES_AT_ONCE = 4096
LINE_BYTES_AT_ONCE = 256 * 1024


class Pieces:
    """One reading of such pieces."""

    def __init__(self, raw: Any, lines: list[Any], place: int) -> None:
        self._raw = raw
        #: The lines so far, and where they end.
        self.lines = lines
        self.place = place
        #: What ended the lines of the last piece, as `TextIOWrapper.newlines` has it.
        self.newlines: set[str] = set()

    async def read(self, text: tuple[str, str | None] | None) -> bool:
        """Read what is at hand; tell whether that was all. `text` is its encoding and newline."""
        raw = self._raw
        while True:
            wanted = min(raw.rest() + 1, LINE_BYTES_AT_ONCE)
            piece: bytes | None = raw.native._try_read(wanted, self.place)
            if piece is None:
                return False
            is_last = len(piece) < wanted
            if not is_last:
                # No line, and no letter, goes on behind it.
                if not (end := piece.rfind(b"\n") + 1):
                    return False
                piece = piece[:end]
            await self._add_lines_of(piece, text)
            self.place += len(piece)
            if is_last:
                return True
            await raw.let_others_run()

    async def _add_lines_of(self, piece: bytes, text: tuple[str, str | None] | None) -> None:
        if text is None:
            await self._add_all_of(io.BytesIO(piece))
            return
        encoding, newline = text
        if b"\r" in piece and newline != "\n":
            source = io.TextIOWrapper(io.BytesIO(piece), encoding, "strict", newline)
            await self._add_all_of(source)
            ends: Any = source.newlines
            self.newlines.update((ends,) if isinstance(ends, str) else ends or ())
            return
        decoded = piece.decode(encoding)
        if newline != "\n" and b"\n" in piece:
            self.newlines.add("\n")
        at = 0
        while (at := split_lines(decoded, at, self.lines, LINES_AT_ONCE)) < len(decoded):
            await self._raw.let_others_run()

    async def _add_all_of(self, source: Iterator[Any]) -> None:
        lines = self.lines
        while True:
            seen = len(lines)
            lines.extend(islice(source, LINES_AT_ONCE))
            if len(lines) - seen < LINES_AT_ONCE:
                return
            await self._raw.let_others_run()


def ends_lines_as_ascii(encoding: str) -> bool:
    """Whether each byte of a line's end stands for itself in an encoding, and has no state."""
    try:
        return codecs.lookup(encoding).name in {"utf-8", "ascii", "iso8859-1"}
    except LookupError:
        return False
