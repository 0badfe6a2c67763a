"""What `aiofiles` shows of files that threads use is what it itself shows of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest

from cloverleaf import aiofiles
from cloverleaf.aiofiles.threadpool.binary import (
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFileIO,
)
from cloverleaf.aiofiles.threadpool.text import AsyncTextIOWrapper

from .harness.types import Loop

#: How a file is opened, its class, and whether `readable` is awaited.
KINDS: list[tuple[dict[str, Any], type[Any], bool]] = [
    ({"mode": "w+"}, AsyncTextIOWrapper, True),
    ({"mode": "w+b"}, AsyncBufferedReader, False),
    ({"mode": "wb"}, AsyncBufferedIOBase, False),
    ({"mode": "w+b", "buffering": 0}, AsyncFileIO, False),
]


async def _is_as_it_should_be(file: Any, shown: type[Any], *, is_awaited: bool) -> None:
    assert type(file) is shown
    for name in ("readable", "writable", "seekable", "isatty"):
        found = getattr(file, name)()
        assert isawaitable(found) == (is_awaited or name != "readable"), name
        assert (await found if isawaitable(found) else found) in (True, False)


@pytest.mark.parametrize(("arguments", "shown", "is_awaited"), KINDS, ids=str)
@pytest.mark.parametrize(
    "make", [aiofiles.tempfile.TemporaryFile, aiofiles.tempfile.NamedTemporaryFile]
)
async def test_a_temporary_file_is_of_the_class_of_its_kind(
    loop: Loop,
    make: Callable[..., Any],
    arguments: dict[str, Any],
    shown: type[Any],
    is_awaited: bool,
) -> None:
    async with make(**arguments) as file:
        await _is_as_it_should_be(file, shown, is_awaited=is_awaited)
        path = Path(file.name) if isinstance(file.name, str) else None
        assert path is None or path.exists()
    assert path is None or not path.exists()


@pytest.mark.parametrize(("arguments", "shown", "is_awaited"), KINDS, ids=str)
async def test_a_file_of_an_executor_is_of_the_class_of_its_kind(
    loop: Loop, tmp_path: Path, arguments: dict[str, Any], shown: type[Any], is_awaited: bool
) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with aiofiles.open(tmp_path / "file", **arguments, executor=executor) as file:
            await _is_as_it_should_be(file, shown, is_awaited=is_awaited)


async def test_what_is_awaited_again_gives_the_same(loop: Loop, tmp_path: Path) -> None:
    opening = aiofiles.open(tmp_path / "file", "w")
    file = await opening
    assert await opening is file
    async with opening as entered:
        assert entered is file
    assert file.closed
    made = aiofiles.tempfile.TemporaryFile()
    assert await made is await made
    await (await made).close()
