"""Whole files that `cloverleaf.files` writes: what `open` makes of them, and nothing afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloverleaf import _cloverleaf, files

from .harness.program import Program
from .harness.turns import turns, until
from .harness.types import Loop

HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
LARGE = bytes(range(256)) * 8192  # more than a pipe has room for


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[_cloverleaf.Request]]:
    """Note what is requested of threads."""
    made: list[_cloverleaf.Request] = []
    original = _cloverleaf.writing_whole

    def noted(*arguments: Any) -> _cloverleaf.Request:
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(_cloverleaf, "writing_whole", noted)
    yield made
    assert not any(request.is_under_way() for request in made)


def said(error: BaseException) -> tuple[Any, ...]:
    """Return what there is to see of an error."""
    return type(error), str(error), getattr(error, "filename", None)


@pytest.mark.parametrize("path", ["folder", "missing/file", "no\0name", "", "/dev/full", "closed"])
@pytest.mark.parametrize("spelled", [str, os.fsencode, Path])
async def test_what_cannot_be_written_raises_what_open_raises(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, spelled: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("closed").symlink_to("closed")  # a loop: nobody may open it, not even root
    for length in (10, 100_000):
        with pytest.raises((OSError, ValueError)) as expected, open(spelled(path), "wb") as file:  # noqa: PTH123
            file.write(b"x" * length)
        with pytest.raises((OSError, ValueError)) as found:
            await files.write_bytes(spelled(path), b"x" * length)
        assert said(found.value) == said(expected.value)
        with pytest.raises((OSError, ValueError)) as found:
            await files.write_text(spelled(path), "x" * length, "utf-8")
        assert said(found.value) == said(expected.value)


@pytest.mark.parametrize("path", ["missing/file", "/dev/full"])
async def test_what_could_not_be_written_is_not_kept(loop: Loop, tmp_path: Path, path: str) -> None:
    class Mark:
        """Stands for all that the caller of a write has."""

    async def fail(write: Any, content: Any) -> weakref.ref[Mark]:
        mark = Mark()
        with contextlib.suppress(OSError):
            await write(tmp_path / path, content)
        return weakref.ref(mark)

    gc.disable()
    try:
        for write, content in ((files.write_bytes, b"x"), (files.write_text, "x")):
            mark = await fail(write, content)
            if not HAS_GIL:
                gc.collect()  # an executor's thread that rests has what was dropped for it
            await until(lambda mark=mark: mark() is None)  # type: ignore[misc]
    finally:
        gc.enable()


def test_what_does_not_fit_is_as_far_as_opens(program: Program, tmp_path: Path) -> None:
    # In a process of its own, whose files may be no longer than that.
    printed = program.output(
        f"""
import os, resource
from cloverleaf import files
folder = {str(tmp_path)!r} + "/"
resource.setrlimit(resource.RLIMIT_FSIZE, (100_123, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
async def main():
    for write, content in ((files.write_bytes, b"x" * 200_000), (files.write_text, "x" * 200_000)):
        try:
            await write(folder + write.__name__, content)
        except OSError as error:
            print(repr(error), error.filename, sep=";")
try:
    with open(folder + "open", "wb") as file:
        file.write(b"x" * 200_000)
except OSError as error:
    print(repr(error), error.filename, sep=";")
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    )
    assert len(printed.splitlines()) == 3
    assert len(set(printed.splitlines())) == 1
    for name in ("open", "write_bytes", "write_text"):
        assert (tmp_path / name).read_bytes() == b"x" * 100_123


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n", "x"])
@pytest.mark.parametrize("errors", [None, "strict", "replace", "surrogateescape", "unknown"])
@pytest.mark.parametrize(
    "encoding", [None, "locale", "utf-8", "UTF8", "ascii", "utf-16", "utf-8-sig", "unknown"]
)
async def test_text_is_what_open_makes_of_it(
    loop: Loop, tmp_path: Path, encoding: str | None, errors: str | None, newline: str | None
) -> None:
    path = tmp_path / "file"

    class Text(str):
        __slots__ = ()

    for text in ("", "plain\ntext\r\n", "grüße\n\u65e5\n", "half \udc80\n", Text("other\n")):
        expected: Any
        found: Any
        path.write_bytes(b"before")
        try:
            with path.open("w", -1, encoding, errors, newline) as file:
                expected = file.write(text)
        except (LookupError, ValueError) as error:
            expected = said(error)
        content = path.read_bytes()
        path.write_bytes(b"before")
        try:
            found = await files.write_text(path, text, encoding, errors, newline)
        except (LookupError, ValueError) as error:
            found = said(error)
        assert found == expected
        assert path.read_bytes() == content


async def test_a_new_file_has_the_mode_that_open_gives(loop: Loop, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        (tmp_path / "open").write_bytes(b"")
        await files.write_bytes(tmp_path / "bytes", b"")
        await files.write_text(tmp_path / "text", "")
    finally:
        os.umask(before)
    expected = (tmp_path / "open").stat().st_mode
    assert (tmp_path / "bytes").stat().st_mode == expected
    assert (tmp_path / "text").stat().st_mode == expected


async def test_a_file_that_is_there_keeps_its_place(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    before = (tmp_path / "file").stat()
    assert await files.write_bytes(tmp_path / "link", b"short") == 5
    after = (tmp_path / "file").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert (tmp_path / "file").read_bytes() == b"short"


async def test_a_descriptor_is_written_and_closed(loop: Loop, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    assert await files.write_bytes(fd, LARGE) == len(LARGE)
    assert (tmp_path / "file").read_bytes() == LARGE
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_what_is_changed_meanwhile_is_written_as_it_was(loop: Loop, tmp_path: Path) -> None:
    for data in (bytearray(LARGE), memoryview(bytearray(LARGE))):
        task = asyncio.ensure_future(files.write_bytes(tmp_path / "file", data))
        await turns(1)
        data[:] = bytes(len(LARGE))
        assert await task == len(LARGE)
        assert (tmp_path / "file").read_bytes() == LARGE


def test_a_write_raises_the_audit_event_of_open(program: Program, tmp_path: Path) -> None:
    # In a process of its own: a hook stays for good.
    printed = program.output(
        f"""
import sys
from cloverleaf import files
path, seen = {str(tmp_path / "file")!r}, []
async def main():
    await files.write_bytes(path, b"content")
    await files.write_text(path, "content", "utf-8")
loop = new_event_loop()
sys.addaudithook(
    lambda name, args: seen.append(args) if name == "open" and args[0] == path else None
)
open(path, "wb").close()
open(path, "w", encoding="utf-8").close()
expected, seen[:] = seen[:], []
loop.run_until_complete(main())
loop.close()
print(seen == expected, len(seen))
"""
    )
    assert printed == "True 2"


async def test_a_fifo_gets_all(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    for write in (files.write_bytes(path, LARGE), files.write_text(path, LARGE.decode("latin-1"))):
        task = asyncio.ensure_future(write)
        brought = await asyncio.to_thread(path.read_bytes)
        assert await task == len(LARGE)
        assert brought in {LARGE, LARGE.decode("latin-1").encode()}


def drain(reading: int) -> bytes:
    """Take what a pipe has."""
    try:
        return os.read(reading, 1 << 20)
    except BlockingIOError:
        return b""


@pytest.mark.only("cloverleaf")  # other loops' threads do not tell when they have ended
async def test_what_is_given_up_before_anybody_reads_is_never_written(
    loop: Loop, tmp_path: Path, requests: list[_cloverleaf.Request]
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    for count in range(3):
        task = asyncio.ensure_future(files.write_bytes(path, b"content"))
        await turns(1 + 50 * count)
        task.cancel()
        await asyncio.wait([task])  # though nobody reads
        assert task.cancelled()
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            await until(lambda: not requests[-1].is_under_way())
            assert os.read(reading, 100) == b""
        finally:
            os.close(reading)


async def test_what_is_given_up_while_it_is_written_is_waited_for(
    loop: Loop, tmp_path: Path
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        task = asyncio.ensure_future(files.write_bytes(path, LARGE))
        brought = bytearray()
        while not brought:
            brought += drain(reading)
            await asyncio.sleep(0)
        task.cancel()
        await turns(50)
        assert not task.done()
        while not task.done():
            brought += drain(reading)
            await asyncio.sleep(0)
        assert task.cancelled()
        brought += drain(reading)
        assert bytes(brought) == LARGE
    finally:
        os.close(reading)


@pytest.mark.only("cloverleaf")  # other loops' threads do not tell when they have ended
async def test_a_write_that_is_closed_by_hand_keeps_what_it_writes(
    loop: Loop, tmp_path: Path, requests: list[_cloverleaf.Request]
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write = files.write_bytes(path, bytearray(LARGE))
        write.send(None)
        brought = bytearray()
        while not brought:
            brought += drain(reading)
            await asyncio.sleep(0)
        write.close()
        while requests[-1].is_under_way():
            brought += drain(reading)
            await asyncio.sleep(0)
        brought += drain(reading)
        assert bytes(brought) == LARGE
    finally:
        os.close(reading)


@pytest.mark.only("cloverleaf")  # other loops' threads do not tell when they have ended
async def test_what_is_given_up_changes_nothing_afterwards(
    loop: Loop, tmp_path: Path, requests: list[_cloverleaf.Request]
) -> None:
    path = tmp_path / "file"
    for count in range(400):
        path.write_bytes(b"before")
        with path.open("r+b", 0) as file:
            task = asyncio.ensure_future(files.write_bytes(path, LARGE))
            await turns(count % 4)
            task.cancel()
            await asyncio.wait([task])
            file.write(b"after")
            await until(lambda: not any(request.is_under_way() for request in requests))
        assert path.read_bytes() in {b"after" + rest for rest in (b"", b"e", LARGE[5:])}
        requests.clear()


async def test_what_nobody_waits_for_any_more_is_not_begun(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    request = _cloverleaf.writing_whole(os.fsencode(path), flags, b"content")
    assert request.give_up()
    assert await asyncio.to_thread(request.run) is None
    assert not path.exists()
    request = _cloverleaf.writing_whole(os.fsencode(path), flags, "content")
    assert await asyncio.to_thread(request.run) is None
    assert path.read_bytes() == b"content"
    for wrong in (bytearray(b"x"), 1, None):
        with pytest.raises(TypeError):
            _cloverleaf.writing_whole(os.fsencode(path), flags, wrong)  # type: ignore[arg-type]


@pytest.mark.only("cloverleaf")  # a loop of another kind closes with its executor
def test_a_write_whose_loop_was_closed_comes_to_its_end(
    loop: Loop, tmp_path: Path, requests: list[_cloverleaf.Request]
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        task = loop.create_task(files.write_bytes(path, bytearray(LARGE)))
        brought = bytearray()
        while not brought:
            loop.run_until_complete(asyncio.sleep(0))
            brought += drain(reading)
        loop.close()
        while requests[-1].is_under_way():
            brought += drain(reading)
        brought += drain(reading)
        assert bytes(brought) == LARGE
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it never ends
    finally:
        os.close(reading)
