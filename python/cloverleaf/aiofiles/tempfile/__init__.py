"""Temporary files and folders, to be awaited; an executor's threads do what the module does."""

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from cloverleaf.aiofiles.base import AiofilesContextManager, AsyncBase
from cloverleaf.aiofiles.tempfile.temptypes import (
    AsyncSpooledTemporaryFile,
    AsyncTemporaryDirectory,
)
from cloverleaf.aiofiles.threadpool import wrap

__all__ = [
    "NamedTemporaryFile",
    "SpooledTemporaryFile",
    "TemporaryDirectory",
    "TemporaryFile",
]


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


def _show(
    made: Any, loop: asyncio.AbstractEventLoop | None, executor: Executor | None
) -> AsyncBase:
    """Show a file as `wrap` shows the one that is in it; its name and its end are its own."""
    kind: type[AsyncBase] = type(wrap(getattr(made, "file", made)))
    return kind(made, loop, executor)


def TemporaryFile(  # noqa: N802  # the module's name for it
    mode: str = "w+b",
    *args: Any,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    **kwargs: Any,
) -> AiofilesContextManager[Any]:
    """Open a file that has no name; arguments as for `tempfile.TemporaryFile`."""
    make = partial(tempfile.TemporaryFile, mode, *args)
    return AiofilesContextManager(_make(_show, make, kwargs, loop, executor))


def NamedTemporaryFile(  # noqa: N802  # the module's name for it
    mode: str = "w+b",
    *args: Any,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    **kwargs: Any,
) -> AiofilesContextManager[Any]:
    """Open a file that goes when it is closed; arguments as for `tempfile.NamedTemporaryFile`."""
    make = partial(tempfile.NamedTemporaryFile, mode, *args)
    return AiofilesContextManager(_make(_show, make, kwargs, loop, executor))


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
) -> AiofilesContextManager[Any]:
    """Make a folder; arguments as for `tempfile.TemporaryDirectory`."""
    make = partial(tempfile.TemporaryDirectory, *args)
    return AiofilesContextManager(_make(AsyncTemporaryDirectory, make, kwargs, loop, executor))
