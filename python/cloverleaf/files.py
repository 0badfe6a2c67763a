"""Files and folders, without holding the loop up.

`open` opens a file that is awaited; the functions beside it do what those of `os`, `shutil` and
`pathlib.Path` of the same names do, with the same arguments, results and exceptions.

What needs no wait is done at once; all else on a thread, and cancelling an await never stops
half-way what the system does in one step.
"""

import errno
import operator
import os
import shutil
import stat as _stat
import sys
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import _cloverleaf
from ._file_arguments import Buffer, Name
from ._file_binary import BinaryFile
from ._file_open import Opening, Request, open  # noqa: A004  # it is ours
from ._file_paths import (
    changed_natively,
    is_plain,
    let_others_run,
    on_thread,
    seen_at_once,
    status_of,
)
from ._file_text import TextFile
from ._file_whole import utf8_of, write_whole

__all__ = [
    "BinaryFile",
    "TextFile",
    "access",
    "chmod",
    "copy",
    "copyfile",
    "exists",
    "getsize",
    "isdir",
    "isfile",
    "islink",
    "link",
    "listdir",
    "lstat",
    "makedirs",
    "mkdir",
    "open",
    "read_bytes",
    "read_text",
    "readlink",
    "removedirs",
    "rename",
    "replace",
    "rmdir",
    "rmtree",
    "scandir",
    "splice",
    "stat",
    "statvfs",
    "symlink",
    "truncate",
    "unlink",
    "utime",
    "write_bytes",
    "write_text",
]

_Path = TypeVar("_Path", bound=str | bytes | os.PathLike[Any])
_StrPath = TypeVar("_StrPath", bound=str | os.PathLike[str])
_BytesPath = TypeVar("_BytesPath", bound=bytes | os.PathLike[bytes])

# What a thread copies before it takes what else waits for a thread.
_STRETCH_BYTES = 128 * 1024 * 1024

# What is read at a time of what has no position.
_PIECE_BYTES = 64 * 1024


access = on_thread(os.access)
chmod = on_thread(os.chmod)
exists = seen_at_once(os.path.exists, lambda _: True)
getsize = seen_at_once(os.path.getsize, lambda found: found.st_size)
isdir = seen_at_once(os.path.isdir, lambda found: _stat.S_ISDIR(found.st_mode))
isfile = seen_at_once(os.path.isfile, lambda found: _stat.S_ISREG(found.st_mode))
islink = seen_at_once(os.path.islink, lambda found: _stat.S_ISLNK(found.st_mode), follows=False)
link = on_thread(os.link)
listdir = on_thread(os.listdir)
lstat = seen_at_once(os.lstat, lambda found: found, follows=False)
makedirs = on_thread(os.makedirs)
mkdir = changed_natively(os.mkdir, "os.mkdir", _cloverleaf.making_folder, 0o777)
readlink = on_thread(os.readlink)
removedirs = on_thread(os.removedirs)
rename = changed_natively(os.rename, "os.rename", _cloverleaf.renaming)
replace = changed_natively(os.replace, "os.rename", _cloverleaf.renaming)
rmdir = changed_natively(os.rmdir, "os.rmdir", _cloverleaf.removing_folder)
stat = seen_at_once(os.stat, lambda found: found)
statvfs = on_thread(os.statvfs)
symlink = on_thread(os.symlink)
truncate = on_thread(os.truncate)
unlink = changed_natively(os.unlink, "os.remove", _cloverleaf.removing_file)
utime = on_thread(os.utime)
if TYPE_CHECKING:
    # That way a checker sees all of the signatures that it has.
    rmtree = on_thread(shutil.rmtree.__call__)
else:
    rmtree = on_thread(shutil.rmtree)


@on_thread
def _entries(path: Any) -> list[os.DirEntry[Any]]:
    with os.scandir(path) as entries:
        return list(entries)


@overload
async def scandir(path: int | str | os.PathLike[str] | None = None) -> list[os.DirEntry[str]]: ...


@overload
async def scandir(path: bytes | os.PathLike[bytes]) -> list[os.DirEntry[bytes]]: ...


async def scandir(path: Any = None) -> list[os.DirEntry[Any]]:
    """Return the entries of a folder, as `os.scandir` gives them one by one."""
    return await _entries(path)


async def read_bytes(path: Name) -> bytes:
    """Return the content of a file."""
    request = Request(path, "rb", 0, (None, None, None), True, None)
    if not isinstance(path, int):
        request.file = path = os.fspath(path)
        encoded = os.fsencode(path)
        if b"\0" not in encoded:  # which `open` refuses before it tells of anything
            request.flags = os.O_RDONLY | os.O_CLOEXEC
            sys.audit("open", path, "r", request.flags)
            content = _cloverleaf.content_at_once(encoded)
            if content is not None:
                await let_others_run()
                return content
    opening: Opening[Any] = Opening(request.open())
    async with opening as file:
        found: bytes = await file.read()
    return found


async def write_bytes(path: Name, data: Buffer) -> int:
    """Make `data` the content of a file, which is made if there is none; return its length."""
    # `memoryview` says at once that this is no bytes; what may change meanwhile is copied.
    content = data if type(data) is bytes else bytes(memoryview(data))
    if is_plain(path):
        await write_whole(path, "wb", content)
        return len(content)
    async with open(path, "wb", 0) as file:
        done = await file.write(content)
        while done < len(content):
            done += await file.write(content[done:])
    return done


async def read_text(
    path: Name, encoding: str | None = None, errors: str | None = None, newline: str | None = None
) -> str:
    """Return the text in a file."""
    async with open(path, "r", -1, encoding, errors, newline) as file:
        return await file.read()


async def write_text(
    path: Name,
    data: str,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> int:
    """Make `data` the text in a file, which is made if there is none; return its length."""
    if not isinstance(data, str):
        raise TypeError(f"data must be str, not {type(data).__name__}")
    if is_plain(path) and (content := utf8_of(data, encoding, errors, newline)) is not None:
        await write_whole(path, "w", content)
        return len(data)
    async with open(path, "w", -1, encoding, errors, newline) as file:
        return await file.write(data)


async def splice(source: BinaryFile, target: BinaryFile, count: int | None = None) -> int:
    """Copy from one file's position to the other's, within the system; return how many bytes.

    All up to the end of `source` without `count`. Both are flushed first, and both positions are
    behind what was copied; given up, the copy ends with the piece that it is at.
    """
    for file in (source, target):
        if not isinstance(file, BinaryFile):
            raise TypeError(f"{type(file).__name__!r} object is not a binary file of Cloverleaf's")
    if count is not None and (count := operator.index(count)) < 0:
        raise ValueError("count must not be negative; leave it out to copy all")
    # In an order that is the same for everybody, so that no two wait for each other.
    first, *others = sorted({source, target}, key=id)
    turn = await first._enter()
    try:
        if not others:
            return await _splice(source, target, count)
        other_turn = await others[0]._enter()
        try:
            return await _splice(source, target, count)
        finally:
            others[0]._turns.leave(other_turn)
    finally:
        first._turns.leave(turn)


async def _splice(source: BinaryFile, target: BinaryFile, count: int | None) -> int:
    for file in (source, target):
        await file._flush()
    start, end = source._file.tell(), target._file.tell()
    copied = 0
    is_left = False

    def land(stretch: tuple[int, bool]) -> None:
        nonlocal copied
        copied += stretch[0]

    try:
        while count is None or copied < count:
            size = _STRETCH_BYTES if count is None else min(count - copied, _STRETCH_BYTES)
            request = source._copying(target, start + copied, end + copied, size)
            try:
                _, is_end = await target._raw.carry_out(request, land, changes=True)
            except BaseException:
                request.give_up()
                raise
            if is_end:
                break
    except GeneratorExit:
        is_left = True  # whoever is closed cannot wait
        raise
    finally:
        try:
            if not is_left:
                await target._raw.land()
        finally:
            for file, place in ((source, start + copied), (target, end + copied)):
                if not file._file.closed:  # as it may be where a program is torn down
                    file._file.seek(place)
    return copied


async def copyfile(
    src: str | bytes | os.PathLike[Any], dst: _Path, *, follow_symlinks: bool = True
) -> _Path:
    """Copy a file's content, as `shutil.copyfile` does; return `dst`."""
    sys.audit("shutil.copyfile", src, dst)
    await _check_copy(src, dst)
    if not follow_symlinks and await islink(src):
        await symlink(await readlink(src), dst)  # type: ignore[type-var]  # each kind alone fits
        return dst
    async with open(src, "rb", 0) as source:
        try:
            async with open(dst, "wb") as target:
                await _copy_content(source, target)
        except IsADirectoryError as error:
            if await exists(dst):
                raise
            raise FileNotFoundError(f"Directory does not exist: {dst!s}") from error
    return dst


async def _copy_content(source: BinaryFile, target: BinaryFile) -> None:
    if not (source._raw.is_seekable and target._raw.is_seekable):
        while piece := await source.read(_PIECE_BYTES):
            await target.write(piece)
        return
    try:
        await splice(source, target)
    except OSError as error:
        # `shutil` names both files once it has copied something, or if the disk is full.
        if error.errno == errno.ENOSPC or await target.tell():
            error.filename, error.filename2 = source.name, target.name
        raise


@overload
async def copy(
    src: str | os.PathLike[str], dst: _StrPath, *, follow_symlinks: bool = True
) -> _StrPath | str: ...


@overload
async def copy(
    src: bytes | os.PathLike[bytes], dst: _BytesPath, *, follow_symlinks: bool = True
) -> _BytesPath | bytes: ...


async def copy(src: Any, dst: Any, *, follow_symlinks: bool = True) -> Any:
    """Copy a file's content and permissions, to a file or into a folder; return the new path."""
    if await isdir(dst):
        dst = os.path.join(dst, os.path.basename(src))  # noqa: PTH118, PTH119  # may be bytes
    await copyfile(src, dst, follow_symlinks=follow_symlinks)
    await _copymode(src, dst, follow_symlinks=follow_symlinks)
    return dst


_copymode = on_thread(shutil.copymode)


async def _check_copy(src: Any, dst: Any) -> None:
    """Refuse what `shutil.copyfile` refuses, before the open, which a pipe might hold up."""
    source, target = await status_of(src), await status_of(dst)
    if source and target and _identity(source) == _identity(target):
        raise shutil.SameFileError(f"{src!r} and {dst!r} are the same file")
    for path, status in ((src, source), (dst, target)):
        if status and _stat.S_ISFIFO(status.st_mode):
            name = path.path if isinstance(path, os.DirEntry) else path
            raise shutil.SpecialFileError(f"`{name!s}` is a named pipe")


def _identity(status: os.stat_result) -> tuple[int, int]:
    # What `os.path.samestat` compares; blockbuster takes that for a call that waits.
    return status.st_dev, status.st_ino
