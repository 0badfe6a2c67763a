"""Files to be sent or read, and such as have no content."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest

BIG = bytes(range(256)) * 65536  # more than the kernel takes without a reader
SMALL = b"0123456789" * 100


NUMBERED = b"".join(b"%015d\n" % number for number in range(256 << 10))
"""Lines of 16 bytes that tell where they are; as text, so much that a thread reads it."""


def file_of(path: Path, content: bytes) -> BinaryIO:
    """Open a new file with this content; its position is its start."""
    file = path / "file"
    file.write_bytes(content)
    return file.open("rb")


def either_file(path: Path, content: bytes, *, native: bool) -> BinaryIO:
    """Open a new file with this content: one that the kernel can send, or one to be read from."""
    return file_of(path, content) if native else Unreal(content)


class Unreal(io.BytesIO):
    """A file without a descriptor, which only reading gets at; notes how much it was asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked: list[int] = []

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer."""
        self.asked.append(len(buffer))
        return super().readinto(buffer)


def make_sparse(fd: int, size: int) -> None:
    """Make a file so long without writing it; skip the test where none can be."""
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        pytest.skip(f"the file system has no files of {size} bytes")
