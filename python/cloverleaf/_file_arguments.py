"""What `open` and the methods of files are given: checked by Python's own files, and refused in
their words.
"""

import errno
import io
import operator
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from typing_extensions import Buffer as Buffer
else:
    Buffer = Any  # what it is called at run time differs between versions

#: What names a file to open.
Name = int | str | bytes | os.PathLike[str] | os.PathLike[bytes]

# The modes in every spelling, so that a type checker knows what kind of file `open` makes.
# fmt: off
TextMode = Literal[
    "r", "r+", "+r", "rt", "tr", "r+t", "rt+", "+rt", "+tr", "t+r", "tr+", "w", "w+", "+w", "wt",
    "tw", "w+t", "wt+", "+tw", "+wt", "t+w", "tw+", "a", "a+", "+a", "at", "ta", "a+t", "at+",
    "+at", "+ta", "t+a", "ta+", "x", "x+", "+x", "xt", "tx", "x+t", "xt+", "+tx", "+xt", "t+x",
    "tx+",
]
BinaryMode = Literal[
    "rb", "br", "r+b", "rb+", "+br", "+rb", "b+r", "br+", "wb", "bw", "w+b", "wb+", "+bw", "+wb",
    "b+w", "bw+", "ab", "ba", "a+b", "ab+", "+ab", "+ba", "b+a", "ba+", "xb", "bx", "x+b", "xb+",
    "+bx", "+xb", "b+x", "bx+",
]
# fmt: on

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


def check_offset(offset: int) -> None:
    """Refuse what is no offset as `os.pwrite` refuses it."""
    if not -(2**63) <= offset < 2**63:
        raise OverflowError("Python int too large to convert to C long")
    if offset < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def size_or_all(size: Any) -> int:
    """Return how much is asked for; less than 0 for all."""
    if type(size) is int and -sys.maxsize <= size <= sys.maxsize:
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
