"""Files of text: Cloverleaf's as aiofiles shows them, and those of Python's `io` on threads."""

from typing import Any

from cloverleaf._file import File
from cloverleaf._file_text import TextFile
from cloverleaf.aiofiles.base import AsyncBase


class AwaitedTextFile(TextFile):
    """Cloverleaf's file of text, with what else aiofiles awaits to be awaited."""

    __slots__ = ()

    async def isatty(self) -> bool:  # type: ignore[override]
        """Tell whether the file is a terminal."""
        return super().isatty()

    async def readable(self) -> bool:  # type: ignore[override]
        """Tell whether the file can be read."""
        return super().readable()

    async def seekable(self) -> bool:  # type: ignore[override]
        """Tell whether the file has a position that can be moved."""
        return super().seekable()

    async def writable(self) -> bool:  # type: ignore[override]
        """Tell whether the file can be written."""
        return super().writable()


class AsyncTextIOWrapper(AsyncBase):
    """A file of text."""

    @classmethod
    def _stands_for(cls, file: File[Any, Any]) -> bool:
        return isinstance(file, TextFile)
