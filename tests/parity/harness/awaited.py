"""One body for two kinds of file: Python's own, and Cloverleaf's, whose methods are awaited."""

from __future__ import annotations

import inspect
import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

#: One call on a file: its method and its arguments.
Call = tuple[str, tuple[Any, ...]]


async def answer(called: Any) -> Any:
    """Return what was called: by `open`'s file at once, by ours when it has been waited for."""
    return await called if hasattr(called, "__await__") else called


class Cold:
    """Stands before a file's native half and says, as a cold disk would: nothing is at hand."""

    def __init__(self, native: Any, chance: random.Random) -> None:
        self._native = native
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._native, name)
        if not name.startswith("_try_") and name != "_at_hand":
            return found
        answer = {"_try_write": 0, "_at_hand": 0}.get(name)
        return lambda *args: answer if self._chance.random() < 0.6 else found(*args)


class Partly(Cold):
    """Stands there and says, as a disk that is being read would: a part of it is at hand."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._native, name)
        if name != "_try_readinto":
            return found

        def fill_partly(buffer: Any, offset: int) -> Any:
            if self._chance.random() < 0.3:
                return None
            with memoryview(buffer) as room:
                return found(room[: self._chance.choice([1, 100, 4096, 1 << 20])], offset)

        return fill_partly


def chill(file: Any, chance: random.Random | None = None) -> None:
    """Make a file look as if most of it were not in memory."""
    file._raw.native = Cold(file._raw.native, chance or random.Random(1))


def chill_partly(file: Any) -> None:
    """Make a file look as if a part of what is asked for were in memory, now and then."""
    file._raw.native = Partly(file._raw.native, random.Random(1))


async def outcome(file: Any, call: Call) -> Any:
    """Make the call; return its result, or what it raises."""
    name, arguments = call
    try:
        if name == "readinto":
            room = bytearray(arguments[0])
            count = file.readinto(room)
            if inspect.isawaitable(count):
                count = await count
            return count, bytes(room[:count])
        if name == "readlines" and isinstance(file, io.TextIOWrapper):
            # Its own iterates, and a file that iterates cannot tell its position.
            return list(iter(file.readline, ""))
        result = getattr(file, name)(*arguments)
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        return type(error), str(error)


async def history(path: Path, arguments: dict[str, Any], calls: list[Call]) -> list[Any]:
    """Make the calls on a file of Python's own; return what came of each, and the content."""
    with path.open(**arguments) as file:
        seen = [await outcome(file, call) for call in calls]
    return [*seen, path.read_bytes()]  # noqa: ASYNC240


async def awaited_history(
    path: Path,
    arguments: dict[str, Any],
    calls: list[Call],
    prepare: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Make the calls on a file of Cloverleaf's."""
    async with cloverleaf.open(path, **arguments) as file:
        if prepare is not None:
            prepare(file)
        seen = [await outcome(file, call) for call in calls]
    return [*seen, path.read_bytes()]  # noqa: ASYNC240


def skip_where_reads_wait(path: Path) -> None:
    """Skip the test where no read of this file is done without a wait, as on a tmpfs."""
    with path.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            pytest.skip(f"no read here says whether it must wait (RWF_NOWAIT): {error.strerror}")
