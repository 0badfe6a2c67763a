"""`open`, the standard streams, and `wrap` for files that are there already."""

import asyncio
import builtins
import sys
from concurrent.futures import Executor
from functools import partial, singledispatch
from io import BufferedIOBase, FileIO, TextIOBase
from typing import Any

from cloverleaf._file_open import Request
from cloverleaf.aiofiles.base import AiofilesContextManager
from cloverleaf.aiofiles.threadpool.binary import (
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFileIO,
    AwaitedBinaryFile,
)
from cloverleaf.aiofiles.threadpool.text import AsyncTextIOWrapper, AwaitedTextFile

__all__ = [
    "open",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "wrap",
]

#: What opens files for an executor. Tests put something else here.
sync_open = builtins.open


def open(  # noqa: A001  # it is ours
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> AiofilesContextManager[Any]:
    """Open a file; with an executor of your own, its threads do all that is to be done."""
    arguments = (file, mode, buffering, encoding, errors, newline, closefd, opener)
    if executor is None and loop is None and sync_open is builtins.open:
        text = (encoding, errors, newline)
        request = Request(
            file, mode, buffering, text, closefd, opener, (AwaitedBinaryFile, AwaitedTextFile)
        )
        return AiofilesContextManager(request.open())
    return AiofilesContextManager(_open_on_threads(arguments, loop, executor))


async def _open_on_threads(
    arguments: tuple[Any, ...],
    loop: asyncio.AbstractEventLoop | None,
    executor: Executor | None,
) -> Any:
    file, mode, buffering, encoding, errors, newline, closefd, opener = arguments
    call = partial(
        sync_open,
        file,
        mode=mode,
        buffering=buffering,
        encoding=encoding,
        errors=errors,
        newline=newline,
        closefd=closefd,
        opener=opener,
    )
    running = loop or asyncio.get_running_loop()
    return wrap(await running.run_in_executor(executor, call), loop=loop, executor=executor)


@singledispatch
def wrap(
    file: Any,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Any:
    """Give a file of Python's `io` methods that are awaited."""
    raise TypeError(f"Unsupported io type: {file}.")


@wrap.register(TextIOBase)
def _text(file: Any, *, loop: Any = None, executor: Any = None) -> AsyncTextIOWrapper:
    return AsyncTextIOWrapper(file, loop, executor)


@wrap.register(BufferedIOBase)
def _buffered(file: Any, *, loop: Any = None, executor: Any = None) -> AsyncBufferedIOBase:
    kind = AsyncBufferedReader if file.readable() else AsyncBufferedIOBase
    return kind(file, loop, executor)


@wrap.register(FileIO)
def _raw(file: Any, *, loop: Any = None, executor: Any = None) -> AsyncFileIO:
    return AsyncFileIO(file, loop, executor)


# Looked up at each use: programs replace the streams of `sys`.
stdin = AsyncTextIOWrapper("sys.stdin", None, None, lambda: sys.stdin)
stdout = AsyncTextIOWrapper("sys.stdout", None, None, lambda: sys.stdout)
stderr = AsyncTextIOWrapper("sys.stderr", None, None, lambda: sys.stderr)
stdin_bytes = AsyncBufferedReader("sys.stdin.buffer", None, None, lambda: sys.stdin.buffer)
stdout_bytes = AsyncBufferedIOBase("sys.stdout.buffer", None, None, lambda: sys.stdout.buffer)
stderr_bytes = AsyncBufferedIOBase("sys.stderr.buffer", None, None, lambda: sys.stderr.buffer)
