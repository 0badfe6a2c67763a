"""Files of bytes: Cloverleaf's as aiofiles shows them, and those of Python's `io` on threads."""

from typing import Any

from cloverleaf._file import File
from cloverleaf._file_binary import BinaryFile
from cloverleaf.aiofiles.base import AsyncBase


class AwaitedBinaryFile(BinaryFile):
    """Cloverleaf's file of bytes, with what else aiofiles awaits to be awaited."""

    __slots__ = ()

    async def isatty(self) -> bool:  # type: ignore[override]
        """Tell whether the file is a terminal."""
        return super().isatty()

    async def seekable(self) -> bool:  # type: ignore[override]
        """Tell whether the file has a position that can be moved."""
        return super().seekable()

    async def writable(self) -> bool:  # type: ignore[override]
        """Tell whether the file can be written."""
        return super().writable()


class AsyncBufferedIOBase(AsyncBase):
    """A buffered file of bytes."""

    _plain = frozenset({"fileno", "readable"})

    @classmethod
    def _stands_for(cls, file: File[Any, Any]) -> bool:
        return isinstance(file, BinaryFile) and not file._raw.is_unbuffered


class AsyncBufferedReader(AsyncBufferedIOBase):
    """A buffered file of bytes that can be read."""

    @classmethod
    def _stands_for(cls, file: File[Any, Any]) -> bool:
        return super()._stands_for(file) and file._raw.is_read


class AsyncFileIO(AsyncBase):
    """A file without a buffer."""

    _plain = frozenset({"fileno", "readable"})

    @classmethod
    def _stands_for(cls, file: File[Any, Any]) -> bool:
        return isinstance(file, BinaryFile) and file._raw.is_unbuffered
