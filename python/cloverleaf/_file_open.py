"""`open`: Python's own, for files that are awaited.

What the arguments mean, and what is wrong with them, `io.open` itself says: it is called with an
opener that opens nothing. What it would have built on `io.FileIO` is then built on our descriptor.
"""

import asyncio
import builtins
import contextlib
import errno
import fcntl
import functools
import io
import operator
import os
import stat
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar, overload

from . import _cloverleaf
from ._file import File
from ._file_arguments import BinaryMode, Name, TextMode
from ._file_binary import BinaryFile
from ._file_flight import perform
from ._file_held import HoldingRandom, HoldingWriter
from ._file_paths import let_others_run
from ._file_raw import RawFile
from ._file_text import TextFile

_F = TypeVar("_F", bound=AbstractAsyncContextManager[Any])
_Opener = Callable[[Any, int], int]

_LARGEST_BUFFER = 8 * 1024 * 1024


class Opening(Coroutine[Any, Any, _F], Generic[_F]):
    """A file, or the like, that is being made: to be awaited, or entered by `async with`."""

    __slots__ = ("_coroutine", "_obj")

    def __init__(self, coroutine: Coroutine[Any, Any, _F]) -> None:
        self._coroutine = coroutine
        self._obj: _F | None = None

    def __await__(self) -> Generator[Any, Any, _F]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """Go on."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Give up."""
        self._coroutine.close()

    async def __aenter__(self) -> _F:
        self._obj = await self._coroutine
        entered: _F = await self._obj.__aenter__()
        return entered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        obj, self._obj = self._obj, None
        if obj is not None:
            await obj.__aexit__(kind, error, traceback)


class _Asked(Exception):  # noqa: N818  # it is no error
    """Carries the flags with which `io.open` would open a file."""


@overload
def open(  # noqa: A001  # it is ours
    file: Name,
    mode: TextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> Opening[TextFile]: ...


@overload
def open(  # noqa: A001  # it is ours
    file: Name,
    mode: BinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> Opening[BinaryFile]: ...


@overload
def open(  # noqa: A001  # it is ours
    file: Name,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> Opening[Any]: ...


def open(  # noqa: A001  # it is ours
    file: Name,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> Opening[Any]:
    """Open a file as the built-in `open` does; await it, or enter it with `async with`."""
    request = Request(file, mode, buffering, (encoding, errors, newline), closefd, opener)
    return Opening(request.open())


class Request:
    """The arguments of one `open`."""

    def __init__(
        self,
        file: Name,
        mode: str,
        buffering: int,
        text: tuple[str | None, str | None, str | None],
        closefd: bool,
        opener: _Opener | None,
        kinds: tuple[type[BinaryFile], type[TextFile]] = (BinaryFile, TextFile),
    ) -> None:
        self.kinds = kinds
        self.file = file
        self.mode = mode
        self.buffering = buffering
        self.text = text
        self.closefd = closefd
        self.opener = opener
        #: The flags for the system, if whoever listens to audit events was told of them.
        self.flags: int | None = None

    async def open(self) -> File[Any, Any]:
        """Open the descriptor, and build the file on it."""
        if isinstance(self.file, int):
            native, flags, number = await self._adopt(self.file)
        else:
            native, flags = await self._open_path()
            number = native._fileno()
        try:
            # `open` has taken it for a number.
            self.buffering = operator.index(self.buffering)
            known = native._known()
            if known[3] and flags & os.O_APPEND:
                await perform(native._seeking(0, os.SEEK_END))
            return self._build(native, flags, number, known)
        except BaseException:
            if not isinstance(self.file, int):
                native._close()
            raise

    def _ask(self) -> int:
        """Have Python check the arguments; return the flags for the system."""

        def opener(_path: Any, flags: int) -> NoReturn:
            raise _Asked(flags)

        encoding, errors, newline = self.text
        try:
            builtins.open(  # noqa: SIM115  # nothing is opened
                self.file,
                self.mode,
                self.buffering,
                encoding,
                errors,
                newline,
                self.closefd,
                opener,
            )
        except _Asked as asked:
            return int(asked.args[0])
        raise AssertionError("open() did not ask its opener")

    async def _open_path(self) -> tuple[_cloverleaf.FileBase, int]:
        flags = self._ask() if self.flags is None else self.flags
        self.file = os.fspath(self.file)  # type: ignore[arg-type]  # it is no number
        if self.opener is not None:
            return await self._open_by_opener(self.opener, flags), flags
        path = os.fsencode(self.file)
        # Each file counts its own reads, and the next one may be another.
        await let_others_run()
        native = _cloverleaf.open_at_once(path, flags)
        if native is None:
            try:
                native = await perform(_cloverleaf.opening(path, flags, 0o666))
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.file) from None
        return native, flags

    async def _open_by_opener(self, opener: _Opener, flags: int) -> _cloverleaf.FileBase:
        loop = asyncio.get_running_loop()
        made: list[_cloverleaf.FileBase] = []
        is_given_up = False

        def opened() -> _cloverleaf.FileBase:
            fd = opener(self.file, flags)
            if not isinstance(fd, int):
                raise TypeError("expected integer from opener")
            if fd < 0:
                raise ValueError(f"opener returned {fd}")
            os.set_inheritable(fd, False)
            native = _cloverleaf.FileBase(fd)
            made.append(native)
            if is_given_up:
                native._close()
            return native

        try:
            return await loop.run_in_executor(None, opened)
        except BaseException:
            # Either side notes what it has done before it looks, so one of them closes the file. It
            # is not left to the last reference: without the GIL an object that nobody has any more
            # stays until the thread that made it runs again.
            is_given_up = True
            for native in made:
                native._close()
            raise

    async def _adopt(self, fd: int) -> tuple[_cloverleaf.FileBase, int, int]:
        """Take a descriptor that is open; one that stays the program's is used by a copy."""
        try:
            may_ask = _cloverleaf.may_ask(fd)
        except (OSError, OverflowError):
            may_ask = False  # what is wrong with it `open` says
        try:
            if may_ask:
                loop = asyncio.get_running_loop()
                is_read, is_written = await loop.run_in_executor(None, self._look_at, fd)
            else:
                is_read, is_written = self._look_at(fd)
        except Exception as error:
            if self.closefd and self._has_taken(fd, error):
                with contextlib.suppress(OSError, OverflowError):
                    os.close(fd)
            raise
        flags = os.O_RDWR if is_read and is_written else os.O_RDONLY if is_read else os.O_WRONLY
        if "a" in self.mode:
            flags |= os.O_APPEND
        elif "x" in self.mode:
            flags |= os.O_EXCL
        return _cloverleaf.FileBase(fd if self.closefd else os.dup(fd)), flags, fd

    def _look_at(self, fd: int) -> tuple[bool, bool]:
        """Tell whether a descriptor can be read, and whether it can be written."""
        # Says what is wrong with the descriptor or the arguments, and goes to the end for "a".
        with builtins.open(fd, self.mode, self.buffering, *self.text, closefd=False) as seen:
            return seen.readable(), seen.writable()

    def _has_taken(self, fd: int, error: Exception) -> bool:
        """Whether `open` had taken the descriptor for its own before it failed."""
        if isinstance(error, OSError) and error.errno is not None and self._is_refused(fd):
            return False
        if isinstance(error, RuntimeWarning):
            return False  # the number is a bool, or the buffering none for bytes
        # It looks at its arguments first. Then it would find this name wrong, and tell no
        # listener to audit events of it.
        try:
            builtins.open("\0", self.mode, self.buffering, *self.text)  # noqa: PTH123, SIM115
        except ValueError as wrong:
            return str(wrong) == "embedded null byte"
        except Exception:  # whatever they are
            return False
        return False

    def _is_refused(self, fd: int) -> bool:
        """Whether the system refuses to look at a descriptor, or to go to its end for "a"."""
        try:
            if "a" in self.mode:
                os.lseek(fd, 0, os.SEEK_END)
            return stat.S_ISDIR(os.fstat(fd).st_mode)
        except OSError as error:
            return error.errno != errno.ESPIPE

    def _build(
        self,
        native: _cloverleaf.FileBase,
        flags: int,
        number: int,
        known: tuple[int, int, int, bool],
    ) -> File[Any, Any]:
        kind, block_size, length, may_ask = known
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(21, os.strerror(21), self.file)
        seeks = _is_seekable(number)
        is_ours = isinstance(self.file, str | bytes | os.PathLike) and self.opener is None
        is_seekable = seeks and (is_ours or _cloverleaf.has_position(number))
        # What others have opened appends as they have opened it, whatever the mode says.
        opened = flags if is_ours else fcntl.fcntl(number, fcntl.F_GETFL)
        raw = RawFile(
            native,
            self.file,
            flags,
            is_seekable=is_seekable,
            may_ask=may_ask,
            appends=bool((flags | opened) & os.O_APPEND),
        )
        raw.number, raw.seeks_nowhere = number, seeks and not is_seekable
        raw.is_shared = not is_ours
        size = self._buffer_size(block_size)
        is_binary = "b" in self.mode
        stack: Any = raw
        if self.buffering != 0:
            stack = _buffer(raw, size, is_binary=is_binary)
            if is_ours and raw._access == os.O_RDONLY and stat.S_ISREG(kind):
                # Nobody else sees where the descriptor stands, and up to there any place is one.
                raw.known_to = length
        elif is_binary:
            raw.is_unbuffered = True
        else:
            raise ValueError("can't have unbuffered text I/O")
        if is_binary:
            return self.kinds[0](raw, stack, _raw_mode(flags))
        encoding, errors, newline = self.text
        by_line = self.buffering == 1 or (self.buffering < 0 and raw.is_terminal())
        try:
            text = io.TextIOWrapper(stack, encoding, errors, newline, by_line)
        except BaseException:
            # The buffer's end comes later, and would seek where the number may be another file's.
            raw.close()
            raise
        file = self.kinds[1](raw, text, self.mode)
        file.newline = newline
        return file

    def _buffer_size(self, block_size: int) -> int:
        if self.buffering > 1:
            return self.buffering
        if sys.version_info >= (3, 14):
            return max(min(block_size, _LARGEST_BUFFER), io.DEFAULT_BUFFER_SIZE)
        return block_size if block_size > 1 else io.DEFAULT_BUFFER_SIZE


def _buffer(raw: RawFile, size: int, *, is_binary: bool) -> Any:
    if raw._access == os.O_RDONLY:
        return io.BufferedReader(raw, size)
    raw.passed_on_above = size
    if raw._access == os.O_RDWR:
        return (io.BufferedRandom if is_binary else HoldingRandom)(raw, size)
    return (io.BufferedWriter if is_binary else HoldingWriter)(raw, size)


def _is_seekable(fd: int) -> bool:
    try:
        os.lseek(fd, 0, os.SEEK_CUR)
    except OSError:
        return False
    return True


def _raw_mode(flags: int) -> str:
    """Return the mode of `io.FileIO` for these flags."""
    kind = "x" if flags & os.O_EXCL else "a" if flags & os.O_APPEND else ""
    access = flags & os.O_ACCMODE
    if kind:
        return f"{kind}b+" if access == os.O_RDWR else f"{kind}b"
    if access == os.O_RDWR:
        return "wb+" if flags & os.O_TRUNC and _tells_of_truncation() else "rb+"
    return "rb" if access == os.O_RDONLY else "wb"


@functools.cache
def _tells_of_truncation() -> bool:
    """Whether a file that was emptied to be read and written says so, as from Python 3.15 on."""
    with io.FileIO(os.devnull, "w+") as file:
        return file.mode == "wb+"
