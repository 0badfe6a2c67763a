"""A file system in memory (FUSE) that the loop itself serves, and a program that uses it meanwhile.

It remembers nothing for the kernel: whoever asks what a file is asks the server. So a loop that
asks from its own thread waits for itself. Run by itself, as a program, this file mounts one, does
to it what its first argument names, in the folder that the second names, and prints what came of
that.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import faulthandler
import os
import stat
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

SECONDS = 60
NO_FUSE = 77

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE = 1, 2, 3, 4, 14, 15, 16, 18
FSYNC, FLUSH, INIT, INTERRUPT, BATCH_FORGET, LSEEK = 20, 25, 26, 36, 42, 46

HEADER = struct.Struct("<IIQQ")
TRUNCATES = 1 << 3
CONTENT = b"".join(b"line %d\n" % number for number in range(3000))


_libc = ctypes.CDLL(None, use_errno=True)


def unmount(folder: str) -> None:
    """Take away what is mounted there, if anything is, whoever still uses it."""
    _libc.umount2(folder.encode(), 2)


class Served:
    """The file system: one folder, in it one file."""

    def __init__(self, folder: str) -> None:
        self.content = bytearray(CONTENT)
        self.folder = folder.encode()
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        options = f"fd={self.fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if _libc.mount(b"served", self.folder, b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "mount")

    def serve(self) -> None:
        """Answer one request."""
        try:
            request = os.read(self.fd, 1 << 21)
        except (BlockingIOError, FileNotFoundError):
            return
        _, kind, unique, node = HEADER.unpack_from(request)
        if kind in (FORGET, BATCH_FORGET, INTERRUPT):
            return
        answer = self._answer(kind, node, request[HEADER.size + 16 :])
        error, payload = (-answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(self.fd, struct.pack("<IiQ", 16 + len(payload), error, unique) + payload)

    def _answer(self, kind: int, node: int, body: bytes) -> bytes | int:
        if kind == INIT:
            return struct.pack("<IIIIHHII", 7, 31, 0, 0, 0, 0, 4096, 1) + bytes(36)
        if kind == LOOKUP:
            return struct.pack("<QQQQII", 2, 0, 100, 0, 0, 0) + self._attributes(2)
        if kind == SETATTR and struct.unpack_from("<I", body)[0] & TRUNCATES:
            size = struct.unpack_from("<Q", body, 16)[0]
            self.content[size:] = bytes(max(size - len(self.content), 0))
        if kind in (GETATTR, SETATTR):
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if kind == OPEN:
            return struct.pack("<QII", 7, 0, 0)
        if kind in (READ, WRITE):
            _, offset, size = struct.unpack_from("<QQI", body)
            if kind == READ:
                return bytes(self.content[offset : offset + size])
            self.content.extend(bytes(max(offset - len(self.content), 0)))
            self.content[offset : offset + size] = body[40 : 40 + size]
            return struct.pack("<II", size, 0)
        return b"" if kind in (RELEASE, FLUSH, FSYNC) else errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        size = len(self.content)
        mode = stat.S_IFDIR | 0o755 if node == 1 else stat.S_IFREG | 0o644
        owner = os.getuid(), os.getgid()
        return struct.pack(
            "<QQQQQQIIIIIIIIII", node, size, 8, *[0] * 6, mode, 1, *owner, 0, 4096, 0
        )


async def _bytes(opened: Any, path: Path) -> Any:
    async with opened(path, "r+b") as file:
        seen = [file.isatty(), await file.read(10), await file.readline(), await file.tell()]
        seen += [await file.seek(-7, os.SEEK_END), await file.read()]
        seen += [await file.write(b"more\n"), await file.seek(0, os.SEEK_END), await file.flush()]
        seen += [await file.truncate(20), await file.seek(0), await file.readlines()]
    return seen


async def _unbuffered(opened: Any, path: Path) -> Any:
    async with opened(path, "rb", 0) as file:
        seen = [await file.readline(), await file.read(5), len(await file.readlines())]
        seen += [await file.seek(-3, os.SEEK_END), await file.read()]
        seen += [await file.seek(0), len(await file.read())]
    async with opened(path, "rb") as file:
        return [*seen, len(await file.read(3_000_000))]


async def _text(opened: Any, path: Path) -> Any:
    async with opened(path) as file:
        seen = [file.isatty(), await file.readline(), await file.read(5), await file.tell()]
        seen += [await file.seek(0, os.SEEK_END), await file.seek(0), len(await file.readlines())]
    async with opened(path, "r+") as file:
        seen += [await file.readline(), await file.seek(0), await file.write("other\n")]
        return [*seen, await file.readline(), await file.tell()]


async def _appended(opened: Any, path: Path) -> Any:
    seen = []
    for mode, data in [("ab", b"bytes\n"), ("a", "text\n"), ("a+b", b"both\n")]:
        async with opened(path, mode) as file:
            seen += [await file.tell(), await file.write(data), await file.tell()]
    return seen


async def _adopted(opened: Any, path: Path) -> Any:
    loop = asyncio.get_running_loop()
    seen: list[Any] = []
    for mode in ("rb", "r"):
        fd = await loop.run_in_executor(None, os.open, path, os.O_RDONLY)
        async with opened(fd, mode) as file:
            seen += [await file.readline(), await file.seek(0, os.SEEK_END)]
    return seen


async def _emptied(opened: Any, path: Path) -> Any:
    async with opened(path, "w+") as file:
        seen = [await file.write("a\nb\n"), await file.seek(0), await file.readlines()]
    async with opened(path, "wb") as file:
        return [*seen, await file.write(bytes(300_000)), await file.flush(), await file.tell()]


async def _whole(opened: Any, path: Path) -> Any:
    import cloverleaf

    seen: list[Any] = []
    for data in ("text\n", b"bytes\n" * 50_000):
        if opened is not cloverleaf.open:
            async with opened(path, "w" if isinstance(data, str) else "wb") as file:
                seen.append(await file.write(data))
        elif isinstance(data, str):
            seen.append(await cloverleaf.files.write_text(path, data))
        else:
            seen.append(await cloverleaf.files.write_bytes(path, data))
    return seen


BODIES: dict[str, Callable[[Any, Path], Awaitable[Any]]] = {
    "bytes": _bytes,
    "unbuffered": _unbuffered,
    "text": _text,
    "appended": _appended,
    "adopted": _adopted,
    "emptied": _emptied,
    "whole": _whole,
}


async def use(body: str, opened: Any, path: Path) -> Any:
    """Do to a file what the body does; `opened` opens files of one kind or the other."""
    return await BODIES[body](opened, path)


async def _main(body: str, served: Served) -> None:
    import cloverleaf

    loop = asyncio.get_running_loop()
    loop.add_reader(served.fd, served.serve)
    found = await use(body, cloverleaf.open, Path(os.fsdecode(served.folder), "file"))
    loop.remove_reader(served.fd)
    print(found, bytes(served.content[:20]), len(served.content))


def main() -> int:
    """Mount a file system, and use it."""
    import cloverleaf

    faulthandler.dump_traceback_later(SECONDS, exit=True)
    body, folder = sys.argv[1:]
    try:
        served = Served(folder)
    except OSError as error:
        print(f"no file system can be served here: {error}")
        return NO_FUSE
    try:
        cloverleaf.run(_main(body, served))
    finally:
        unmount(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
