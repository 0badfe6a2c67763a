"""What methods of files are given: checked by Python's own files, and refused in their words."""

import io
import operator
import sys
from typing import Any

#: A file without a buffer that was never opened: its methods look at their arguments, and only
#: then find it closed.
_unopened = io.FileIO.__new__(io.FileIO)


def as_bytes(data: Any) -> bytes:
    """Return what is to be written, as it is now."""
    if type(data) is bytes:
        return data
    try:
        _unopened.write(data)
    except ValueError:
        pass  # it is closed, and had nothing against the data
    with memoryview(data) as view:
        return bytes(view)


def size_or_all(size: Any) -> int:
    """Return how much is asked for; less than 0 for all."""
    if type(size) is int and size <= sys.maxsize:
        return size
    if size is None:
        return -1
    try:
        _unopened.read(size)
    except ValueError:
        pass  # as above
    return operator.index(size)


def room_for(buffer: Any, stack: Any) -> memoryview:
    """Return the bytes of a buffer that is to be filled; `stack` says what is wrong with it."""
    try:
        room = memoryview(buffer).cast("B")
    except TypeError:
        room = memoryview(b"")
    if room.readonly:
        (_unopened if isinstance(stack, io.RawIOBase) else stack).readinto(buffer)
        raise TypeError("the buffer cannot be filled")
    return room
