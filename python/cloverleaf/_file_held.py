"""What a file's stack could not write yet, and buffers that say so.

A stack that wants to write what needs a wait is interrupted by `Waits`, and called again when it
has been waited for. What it was given meanwhile is `Held` before it, in its order.
"""

import io
from collections import deque
from typing import Any, Protocol


class Waits(Exception):  # noqa: N818  # it is no error
    """Goes up through the stack: what that wants of the system needs a wait, and is noted."""


class Held:
    """Bytes that the stack has not taken yet, or a flush if there are none."""

    __slots__ = ("data", "done")

    def __init__(self, data: bytes | None, done: int = 0) -> None:
        self.data = data
        #: How many of them have gone to the system past the buffer.
        self.done = done


def write_first(held: Held, buffer: Any) -> None:
    """Hand to a buffer what waits before it; that may raise `Waits`."""
    write = getattr(buffer, "write_below", buffer.write)
    flush = getattr(buffer, "flush_below", buffer.flush)
    if held.data is None:
        flush()
    elif held.done:
        with memoryview(held.data) as view:
            write(view[held.done :])
    else:
        write(held.data)


class _Raw(Protocol):
    """What a buffer knows of the file below it."""

    held: deque[Held]
    holds: bool
    drops: bool
    passed: int


class _Holding:
    """A buffer below a text layer: what needs a wait it holds, or raises `Waits`."""

    raw: Any

    def write(self, data: Any, /) -> int:
        """Take bytes, into the buffer or before it."""
        raw: _Raw = self.raw
        if raw.drops:
            return len(data)
        if not raw.held:
            raw.passed = 0
            try:
                return int(super().write(data))  # type: ignore[misc]  # the buffer's
            except Waits:
                raw.held.append(Held(data, raw.passed))
        else:
            raw.held.append(Held(data))
        if not raw.holds:
            raise Waits
        return len(data)

    def flush(self) -> None:
        """Flush, or hold that behind what is held."""
        raw: _Raw = self.raw
        if raw.drops:
            return
        if not raw.held:
            try:
                super().flush()  # type: ignore[misc]
            except Waits:
                if not raw.holds:
                    raise
            else:
                return
        raw.held.append(Held(None))

    def write_below(self, data: Any, /) -> int:
        """Take what was held."""
        return int(super().write(data))  # type: ignore[misc]  # the buffer's

    def flush_below(self) -> None:
        """Flush as was held."""
        super().flush()  # type: ignore[misc]


class HoldingWriter(_Holding, io.BufferedWriter):
    """For files that are written."""


class HoldingRandom(_Holding, io.BufferedRandom):
    """For files that are read as well."""
