"""Whole files, written by one way to a thread, which opens, writes and closes without Python.

Whoever gives a write up comes back when nothing is written any more; only an `open` that goes on,
as that of a FIFO that nobody reads, is not waited for, and nothing is written behind it.
"""

import locale
import os
import sys
from typing import Any

from . import _cloverleaf
from ._file_flight import Flight, forget
from ._file_open import Request

# The default error handling; others may run code of the program's.
_STRICT = (None, "strict")

# What becomes of a line's end in a text.
_NEWLINES = {None: os.linesep, "": "\n", "\n": "\n", "\r": "\r", "\r\n": "\r\n"}


def utf8_of(
    text: str, encoding: str | None, errors: str | None, newline: str | None
) -> bytes | str | None:
    """Return what to write as UTF-8; None for what Python's own text layer has to encode."""
    try:
        end = _NEWLINES[newline]
    except (KeyError, TypeError):
        return None
    if type(text) is not str or errors not in _STRICT or not _is_utf8(encoding):
        return None
    if end != "\n":
        text = text.replace("\n", end)
    if text.isascii():
        return text
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None  # `open` has emptied the file when it finds this


def _is_utf8(encoding: str | None) -> bool:
    if encoding is None:
        if sys.flags.warn_default_encoding:
            return False
        if sys.flags.utf8_mode:
            return True
        encoding = locale.getencoding()
    return type(encoding) is str and encoding.lower() in {"utf-8", "utf8"}


async def write_whole(path: Any, mode: str, content: bytes | str) -> None:
    """Make this, or its UTF-8, the content of the file of a plain path."""
    flags = Request(path, mode, -1, (None, None, None), True, None)._ask()
    path = os.fspath(path)
    request = _cloverleaf.writing_whole(os.fsencode(path), flags, content)
    flight = Flight()
    flight.name = path
    try:
        lost: tuple[OSError, bool] | None = await flight.carry_out(request, forget)
    except GeneratorExit:
        request.give_up()  # whoever is closed cannot wait
        raise
    except BaseException:
        if not request.give_up():
            await flight.land()
        raise
    if lost is not None:
        error, was_open = lost
        try:
            raise error if was_open else OSError(error.errno, error.strerror, path)
        finally:
            del error, lost  # what is raised leads here, and here is the content
