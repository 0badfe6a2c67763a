"""Objects of Python's `io` whose methods are called by an executor's threads, and awaited."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from functools import partial, wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from cloverleaf._file import File
from cloverleaf._file_open import Opening

_P = ParamSpec("_P")
_T = TypeVar("_T")
_F = TypeVar("_F", bound=AbstractAsyncContextManager[Any])

_AWAITED = frozenset(
    {
        "cleanup",
        "close",
        "fileno",
        "flush",
        "isatty",
        "peek",
        "read",
        "read1",
        "readable",
        "readall",
        "readinto",
        "readinto1",
        "readline",
        "readlines",
        "reconfigure",
        "rollover",
        "seek",
        "seekable",
        "tell",
        "truncate",
        "writable",
        "write",
        "writelines",
    }
)


def wrap(function: Callable[_P, _T]) -> Callable[..., Coroutine[Any, Any, _T]]:
    """Make a function one that is awaited: an executor's thread calls it."""

    @wraps(function)
    async def awaited(
        *args: Any,
        loop: asyncio.AbstractEventLoop | None = None,
        executor: Executor | None = None,
        **kwargs: Any,
    ) -> _T:
        loop = loop or asyncio.get_running_loop()
        return await loop.run_in_executor(executor, partial(function, *args, **kwargs))

    return awaited


class _Kind(type):
    """Makes files of Cloverleaf's instances of the class that aiofiles would have given them."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if super().__instancecheck__(instance):
            return True
        return isinstance(instance, File) and bool(cls._stands_for(instance))  # type: ignore[attr-defined]


class AsyncBase(metaclass=_Kind):
    """An `io` object whose methods are awaited; what needs no wait is as it is."""

    _plain = frozenset({"fileno"})

    @classmethod
    def _stands_for(cls, file: File[Any, Any]) -> bool:
        """Whether aiofiles would have made this file one of this class."""
        return True

    def __init__(
        self,
        file: Any,
        loop: asyncio.AbstractEventLoop | None,
        executor: Executor | None,
        indirect: Callable[[], Any] | None = None,
    ) -> None:
        self._own = file
        self._loop_given = loop
        self._executor = executor
        self._indirect = indirect

    @property
    def _file(self) -> Any:
        return self._own if self._indirect is None else self._indirect()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._loop_given or asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapping {self._file!r}>"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if name not in _AWAITED or name in self._plain:
            return found

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            call = partial(found, *args, **kwargs)
            return await self._loop.run_in_executor(self._executor, call)

        return awaited

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        line = await self._loop.run_in_executor(self._executor, self._file.readline)
        if line:
            return line
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave = partial(self._file.__exit__, kind, error, traceback)
        await self._loop.run_in_executor(self._executor, leave)


class AiofilesContextManager(Opening[_F]):
    """What is awaited, or entered by `async with`; again, it gives what it gave."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, _F]:
        if self._obj is None:
            self._obj = yield from self._coroutine.__await__()
        return self._obj

    async def __aenter__(self) -> _F:
        obj = await self
        entered: _F = await obj.__aenter__()
        return entered
