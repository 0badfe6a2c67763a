"""Temporary files and folders, to be awaited; an executor's threads do what the module does."""

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from cloverleaf.aiofiles.base import AiofilesContextManager, AsyncBase

__all__ = [
    "NamedTemporaryFile",
    "SpooledTemporaryFile",
    "TemporaryDirectory",
    "TemporaryFile",
]


class AsyncSpooledTemporaryFile(AsyncBase):
    """A file that is in memory until it has grown."""

    _plain = frozenset[str]()


class AsyncTemporaryDirectory:
    """A folder that goes when it is closed."""

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


class _FolderContext(AiofilesContextManager[AsyncTemporaryDirectory]):
    """A folder whose path `async with` gives."""

    async def __aenter__(self) -> str:
        folder: AsyncTemporaryDirectory = await super().__aenter__()
        return folder.name


async def _make(
    wrapper: Callable[[Any, Any, Any], Any],
    function: Callable[..., Any],
    arguments: dict[str, Any],
    loop: asyncio.AbstractEventLoop | None,
    executor: Executor | None,
) -> Any:
    running = loop or asyncio.get_running_loop()
    made = await running.run_in_executor(executor, partial(function, **arguments))
    return wrapper(made, loop, executor)


def TemporaryFile(  # noqa: N802  # the module's name for it
    mode: str = "w+b",
    *args: Any,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    **kwargs: Any,
) -> AiofilesContextManager[Any]:
    """Open a file that has no name; arguments as for `tempfile.TemporaryFile`."""
    make = partial(tempfile.TemporaryFile, mode, *args)
    return AiofilesContextManager(_make(AsyncBase, make, kwargs, loop, executor))


def NamedTemporaryFile(  # noqa: N802  # the module's name for it
    mode: str = "w+b",
    *args: Any,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    **kwargs: Any,
) -> AiofilesContextManager[Any]:
    """Open a file that goes when it is closed; arguments as for `tempfile.NamedTemporaryFile`."""
    make = partial(tempfile.NamedTemporaryFile, mode, *args)
    return AiofilesContextManager(_make(AsyncBase, make, kwargs, loop, executor))


def SpooledTemporaryFile(  # noqa: N802  # the module's name for it
    max_size: int = 0,
    *args: Any,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    **kwargs: Any,
) -> AiofilesContextManager[Any]:
    """Open a file in memory; arguments as for `tempfile.SpooledTemporaryFile`."""
    make = partial(tempfile.SpooledTemporaryFile, max_size, *args)
    return AiofilesContextManager(_make(AsyncSpooledTemporaryFile, make, kwargs, loop, executor))


def TemporaryDirectory(  # noqa: N802  # the module's name for it
    *args: Any,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    **kwargs: Any,
) -> AiofilesContextManager[AsyncTemporaryDirectory]:
    """Make a folder; arguments as for `tempfile.TemporaryDirectory`."""
    make = partial(tempfile.TemporaryDirectory, *args)
    return _FolderContext(_make(AsyncTemporaryDirectory, make, kwargs, loop, executor))
