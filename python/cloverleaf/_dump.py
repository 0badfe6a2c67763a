"""`dump_on_signal`: a signal has the loop tell what it has before it, while the program runs."""

import asyncio
import contextlib
import os
import signal
import sys
import tokenize  # noqa: F401  # for the lines of the source, which must need no import later
from collections.abc import Callable
from types import FrameType
from typing import Any

from ._inspect import check_limit, take
from ._loop import EventLoop


def dump_on_signal(
    signum: int, *, limit: int = 100, file: Any = None
) -> Callable[[int, FrameType | None], Any] | int | None:
    """Have a signal write a snapshot of the loop that runs in the main thread to stderr.

    It is written whether the loop sleeps, works, or is stuck in Python code; C code that keeps
    Python to itself must end first. The program then goes on where it was. `limit` is that of
    `snapshot`, and `file` may be another one with a descriptor, or the descriptor's number.

    Return the handler that the signal had before, as `signal.signal` does. Like that, it must be
    called in the main thread.
    """
    check_limit(limit)
    if file is None:
        file = 2 if sys.stderr is None else sys.stderr
    number = _descriptor(file)
    is_at_it = False

    def dump(_signum: int, frame: FrameType | None) -> None:
        """Write it, around all buffers: whoever was interrupted may be at one of them."""
        nonlocal is_at_it
        _ = file  # keeps the descriptor open
        if is_at_it:
            return  # signals that come faster than they are answered must not pile up on the stack
        is_at_it = True
        try:
            try:
                text = _text(limit, frame)
            except Exception as error:
                # From here it would strike whatever the program is at.
                text = f"The snapshot of the event loop has failed with {type(error).__name__}"
            rest = memoryview(text.encode(errors="backslashreplace") + b"\n")
            # What cannot be written can be told to nobody.
            with contextlib.suppress(OSError):
                while rest:
                    rest = rest[os.write(number, rest) :]
        finally:
            is_at_it = False

    return signal.signal(signum, dump)


def _descriptor(file: Any) -> int:
    """Return the number of a descriptor that is open: once the signal comes nobody could say so."""
    if isinstance(file, int):
        number = file
    elif hasattr(file, "fileno"):
        number = file.fileno()
    else:
        raise TypeError(
            f"file must be a file with a descriptor, or its number, not {type(file).__name__}"
        )
    os.fstat(number)
    return number


def _text(limit: int, frame: FrameType | None) -> str:
    loop = asyncio.events._get_running_loop()
    if not isinstance(loop, EventLoop):
        return "No event loop of Cloverleaf's runs in the main thread"
    return str(take(loop, limit, frame))
