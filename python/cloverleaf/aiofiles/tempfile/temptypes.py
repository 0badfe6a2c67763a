"""What a spooled file and a temporary folder are while they are awaited."""

import asyncio
from concurrent.futures import Executor
from types import TracebackType
from typing import Any

from cloverleaf._file import File
from cloverleaf.aiofiles.base import AsyncBase


class AsyncSpooledTemporaryFile(AsyncBase):
    """A file that is in memory until it has grown."""

    _plain = frozenset[str]()

    @classmethod
    def _stands_for(cls, file: File[Any, Any]) -> bool:
        return False


class AsyncTemporaryDirectory:
    """A folder that goes when it is closed; `async with` gives its path."""

    def __init__(
        self, folder: Any, loop: asyncio.AbstractEventLoop | None, executor: Executor | None
    ) -> None:
        self._folder = folder
        self._loop = loop
        self._executor = executor

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self._folder.name)

    async def cleanup(self) -> None:
        """Remove the folder and all that is in it."""
        loop = self._loop or asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._folder.cleanup)

    async def close(self) -> None:
        """Remove the folder and all that is in it."""
        await self.cleanup()

    async def __aenter__(self) -> str:
        return self.name

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.cleanup()
