"""What is compared: how each package reads 4 KiB, a whole file, and copies a large one."""

from __future__ import annotations

import asyncio
import mmap
import os
import shutil
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

#: Opens a file and returns what reads so many bytes at an offset, and what closes it.
Reader = Callable[[str], Awaitable[tuple[Callable[[int, int], Awaitable[bytes]], Any]]]


async def cloverleaf_reader(path: str) -> Any:
    file = await import_module("cloverleaf").open(path, "rb", 0)
    return file.pread, file.close


async def seeking_reader(open_file: Any, path: str) -> Any:
    file = await open_file(path, "rb")

    async def read(size: int, offset: int) -> Any:
        await file.seek(offset)
        return await file.read(size)

    return read, getattr(file, "aclose", None) or file.close


async def aiofiles_reader(path: str) -> Any:
    return await seeking_reader(import_module("aiofiles").open, path)


async def anyio_reader(path: str) -> Any:
    return await seeking_reader(import_module("anyio").open_file, path)


async def turbofile_reader(path: str) -> Any:
    file = await import_module("turbofile").open(path, "rb")
    return file.read_at, file.close


async def urio_reader(path: str) -> Any:
    return await seeking_reader(import_module("urio").open, path)


async def ayafileio_reader(path: str) -> Any:
    file = import_module("ayafileio").open(path, "rb")
    return file.read_at, file.close


async def aerofs_reader(path: str) -> Any:
    return await seeking_reader(import_module("aerofs").open, path)


async def asyncfiles_reader(path: str) -> Any:
    """py-asyncfiles, whose files are opened by `async with` alone."""
    opening = import_module("asyncfiles").open(path, "rb")
    file = await opening.__aenter__()

    async def read(size: int, offset: int) -> Any:
        file.seek(offset)
        return await file.read(size)

    async def close() -> None:
        await opening.__aexit__(None, None, None)

    return read, close


async def aiofile_reader(path: str) -> Any:
    file = import_module("aiofile").AIOFile(path, "rb")
    await file.open()
    return file.read, file.close


async def executor_reader(path: str) -> Any:
    """What a program does without any package."""
    fd = os.open(path, os.O_RDONLY)
    loop = asyncio.get_running_loop()

    async def read(size: int, offset: int) -> bytes:
        return await loop.run_in_executor(None, os.pread, fd, size, offset)

    async def close() -> None:
        os.close(fd)

    return read, close


async def plain_reader(path: str) -> Any:
    """What holds the loop up: the least that a coroutine of Python's can cost."""
    fd = os.open(path, os.O_RDONLY)

    async def read(size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    async def close() -> None:
        os.close(fd)

    return read, close


READERS: dict[str, Reader] = {
    "plain": plain_reader,
    "cloverleaf": cloverleaf_reader,
    "aiofiles": aiofiles_reader,
    "anyio": anyio_reader,
    "aiofile": aiofile_reader,
    "turbofile": turbofile_reader,
    "urio": urio_reader,
    "ayafileio": ayafileio_reader,
    "aerofs": aerofs_reader,
    "asyncfiles": asyncfiles_reader,
    "executor": executor_reader,
}


async def cloverleaf_direct_reader(path: str) -> Any:
    def direct(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_DIRECT)

    file = await import_module("cloverleaf").open(path, "rb", 0, opener=direct)
    return file.pread, file.close


async def executor_direct_reader(path: str) -> Any:
    """What a program does without any package, which must align the memory itself."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    loop = asyncio.get_running_loop()
    room = mmap.mmap(-1, 4096)

    async def read(size: int, offset: int) -> bytes:
        await loop.run_in_executor(None, os.preadv, fd, [room], offset)
        return room[:size]

    async def close() -> None:
        os.close(fd)
        room.close()

    return read, close


#: Those that can read past the page cache (`O_DIRECT`); to the others it is an invalid argument.
DIRECT_READERS: dict[str, Reader] = {
    "cloverleaf": cloverleaf_direct_reader,
    "executor": executor_direct_reader,
}

#: Packages whose reader takes the offset before the size.
OFFSET_FIRST = frozenset({"turbofile", "ayafileio"})


def opener(package: str) -> Any:
    """What is awaited for a file that `async with` closes."""
    if package == "anyio":
        return import_module("anyio").open_file
    module = import_module(package.removesuffix("-open"))

    async def enter(path: str, mode: str) -> Any:
        return module.open(path, mode)

    return enter


async def whole(package: str, path: str) -> int:
    """Read a whole file, as the package does it; return its length."""
    if package in ("cloverleaf", "ayafileio"):
        module = import_module("cloverleaf.files" if package == "cloverleaf" else package)
        return len(await module.read_bytes(path))
    if package == "plain":
        with Path(path).open("rb") as plain:  # noqa: ASYNC230  # what others are compared with
            return len(plain.read())
    if package == "aiofile":
        file = import_module("aiofile").AIOFile(path, "rb")
        async with file:
            return len(await file.read())
    async with await opener(package)(path, "rb") as opened:
        return len(await opened.read())


async def copy(package: str, source: str, target: str) -> None:
    """Copy a file as the package does it; without a way of its own, by chunks of 1 MiB."""
    if package == "cloverleaf":
        await import_module("cloverleaf").files.copyfile(source, target)
    elif package == "plain":
        shutil.copyfile(source, target)
    elif package == "ayafileio":
        await import_module("ayafileio").acopy(source, target)
    else:
        await stream(package, source, target, 1 << 20)


async def stream(package: str, source: str, target: str, size: int) -> None:
    """Copy a file by reads of so many bytes, and writes."""
    if package == "plain":
        # What others are compared with.
        with Path(source).open("rb") as plain, Path(target).open("wb") as to:  # noqa: ASYNC230
            shutil.copyfileobj(plain, to, size)
        return
    open_file = opener(package)
    async with await open_file(source, "rb") as reading, await open_file(target, "wb") as to:
        while chunk := await reading.read(size):
            await to.write(chunk)
