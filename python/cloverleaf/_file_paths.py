"""Functions of paths, to be awaited: at once, by a thread of the loop's own, or by one of Python's.

Each is a function of `os` or `os.path`, with its arguments, results, audit events and exceptions.
What the kernel has at hand of a path is looked at without a wait. The commonest changes are made by
a thread that needs no Python. All else, and whatever arguments are not the plain ones, the function
itself does, on a thread of the loop's default executor.
"""

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import PurePath
from typing import Any, ParamSpec, TypeGuard, TypeVar

from . import _cloverleaf
from ._file_flight import perform

_P = ParamSpec("_P")
_T = TypeVar("_T")

# What takes no wait before others are let run: a read of a whole file may take 0.1 ms.
_AT_ONCE_BETWEEN_PAUSES = 8

# Paths whose spelling may be asked for more than once.
_PATHS: tuple[type[Any], ...] = (str, bytes, PurePath)

_at_once = itertools.count(1)


def is_plain(path: Any) -> TypeGuard[str | bytes | PurePath]:
    """Whether it is a path whose spelling may be asked for, and no descriptor."""
    return isinstance(path, _PATHS)


async def let_others_run() -> None:
    """Let others run now and then, although nothing had to be waited for."""
    if next(_at_once) % _AT_ONCE_BETWEEN_PAUSES == 0:
        asyncio.get_running_loop()  # or who drives this by hand, without one, would hear of none
        await asyncio.tasks.sleep(0)


def on_thread(function: Callable[_P, _T]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Make a function that has a thread call this one."""

    async def on_thread(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, lambda: function(*args, **kwargs))

    return _like(on_thread, function, "on a thread")


def seen_at_once(
    function: Callable[_P, _T], read: Callable[[os.stat_result], _T], *, follows: bool = True
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Make a function that reads off what the kernel has at hand, or has a thread call this one."""
    elsewhere = on_thread(function)

    async def seen_at_once(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if len(args) == 1 and not kwargs and is_plain(path := args[0]):
            found = _cloverleaf.stat_at_once(_encoded(path) or b"", follows)
            if found is not None:
                await let_others_run()
                return read(found)
        return await elsewhere(*args, **kwargs)

    return _like(seen_at_once, function, "at once if it can, else on a thread")


def changed_natively(
    function: Callable[_P, None],
    event: str,
    request: Callable[..., _cloverleaf.Request],
    *settings: int,
) -> Callable[_P, Coroutine[Any, Any, None]]:
    """Make a function that makes a request with the paths that it gets, and these settings."""
    elsewhere = on_thread(function)
    count = 2 if event == "os.rename" else 1
    folders = (-1,) * count

    async def changed_natively(*args: _P.args, **kwargs: _P.kwargs) -> None:
        if kwargs or len(args) != count or not all(map(is_plain, args)):
            return await elsewhere(*args, **kwargs)
        paths: list[Any] = [os.fspath(path) for path in args]  # type: ignore[call-overload]
        encoded = [_encoded(path) for path in paths]
        if None in encoded:
            return await elsewhere(*args, **kwargs)
        sys.audit(event, *paths, *settings, *folders)
        try:
            await perform(request(*encoded, *settings))
        except OSError as error:
            where = paths if count == 1 else [paths[0], None, paths[1]]
            raise OSError(error.errno, error.strerror, *where) from None
        return None

    return _like(changed_natively, function, "on a thread")


def _encoded(path: str | bytes | PurePath) -> bytes | None:
    """Return a path as the system takes it; None if there is something wrong with it."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        return None
    return None if b"\0" in encoded else encoded


def _like(made: _T, function: Callable[..., Any], how: str) -> _T:
    wrapper: Any = made
    wrapper.__name__ = wrapper.__qualname__ = function.__name__
    wrapper.__doc__ = f"Do what `{function.__module__}.{function.__name__}` does, {how}."
    wrapper.__module__ = "cloverleaf.files"
    return made


async def status_of(path: Any) -> os.stat_result | None:
    """Return what `os.stat` says of a path; None where it finds nothing."""
    encoded = _encoded(path) if is_plain(path) else None
    if encoded is None:
        return await _status_elsewhere(path)
    found: os.stat_result | None = _cloverleaf.stat_at_once(encoded, True)
    if found is not None:
        await let_others_run()
        return found
    try:
        # It finds what `stat` finds, and opens nothing.
        seen: _cloverleaf.FileBase = await perform(_cloverleaf.opening(encoded, os.O_PATH, 0))
    except FileNotFoundError:
        return None
    except OSError:
        return await _status_elsewhere(path)
    try:
        *_, may_ask = seen._known()
        return await _status_elsewhere(path) if may_ask else os.fstat(seen._fileno())
    finally:
        seen._close()


@on_thread
def _status_elsewhere(path: Any) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  # may be bytes
    except OSError:
        return None
