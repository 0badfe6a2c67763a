"""`cloverleaf.files`: what `os`, `shutil` and `pathlib` do with paths, awaited."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import shutil
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
from cloverleaf import files

from .harness.program import Program
from .harness.turns import turns
from .harness.types import Loop

CONTENT = bytes(range(256)) * 40_000  # more than a piece that is read at once


async def test_whole_files_are_read_and_written(loop: Loop, tmp_path: Path) -> None:
    for content in (b"", b"small", CONTENT):
        path = tmp_path / "file"
        assert await files.write_bytes(path, content) == len(content)
        assert await files.read_bytes(path) == await files.read_bytes(str(path)) == content
        assert await files.read_bytes(os.fsencode(path)) == content
    assert await files.write_text(path, "grüße\n", "utf-16") == 6
    assert await files.read_text(path, "utf-16") == "grüße\n"
    assert path.read_text("utf-16") == "grüße\n"
    assert await files.read_bytes("/proc/self/comm") == Path("/proc/self/comm").read_bytes()


async def test_whole_files_that_cannot_be_read_or_written(loop: Loop, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", "", "no\0name"):
        with pytest.raises((OSError, ValueError)) as expected:
            open(path, "rb").close()  # noqa: PTH123
        with pytest.raises(type(expected.value)) as found:
            await files.read_bytes(path)
        assert str(found.value) == str(expected.value)
    with pytest.raises(TypeError):
        await files.write_bytes(tmp_path / "file", "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await files.write_text(tmp_path / "file", b"bytes")  # type: ignore[arg-type]
    assert not (tmp_path / "file").exists(), "what is wrong was seen before the file was made"


def test_reading_raises_the_audit_events(program: Program, tmp_path: Path) -> None:
    (tmp_path / "audited").write_bytes(b"content")
    (tmp_path / "empty").touch()
    # In a process of its own: a hook stays for good, and where one listens not all goes natively.
    printed = program.output(
        f"""
import contextlib, os, sys, cloverleaf
from cloverleaf import files
folder, seen = {str(tmp_path)!r}, []
# Memory has the first; the others have to be opened by somebody.
paths = [os.path.join(folder, name) for name in ("audited", "empty", "missing", "no\\0name")]
async def main():
    for path in paths:
        with contextlib.suppress(FileNotFoundError, ValueError):
            await files.read_bytes(path)
        with contextlib.suppress(FileNotFoundError, ValueError):
            async with cloverleaf.open(path, "rb"):
                pass
    await files.scandir()
loop = new_event_loop()
def hear(name, args):
    if name == "os.scandir" or (name == "open" and args[0] in paths):
        seen.append(args)
sys.addaudithook(hear)
for path in paths:
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError, ValueError):
            open(path, "rb").close()
os.scandir().close()
expected, seen[:] = seen[:], []
loop.run_until_complete(main())
loop.close()
print(seen == expected, len(seen))
"""
    )
    assert printed == "True 7"


async def test_reads_of_whole_files_let_others_run(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def busy() -> None:
        for _ in range(200):
            await files.read_bytes(path)

    task = asyncio.ensure_future(busy())
    for _ in range(4):
        await asyncio.sleep(0)
    assert not task.done()
    await task


async def test_names_and_folders(loop: Loop, tmp_path: Path) -> None:
    await files.mkdir(tmp_path / "one")
    await files.makedirs(tmp_path / "two" / "three", exist_ok=True)
    await files.write_bytes(tmp_path / "one" / "file", b"content")
    assert await files.stat(tmp_path / "one" / "file") == (tmp_path / "one" / "file").stat()
    assert (await files.lstat(tmp_path)).st_mode == tmp_path.stat().st_mode
    assert await files.exists(tmp_path / "one")
    assert await files.isdir(tmp_path / "one")
    assert await files.isfile(tmp_path / "one" / "file")
    assert not await files.islink(tmp_path)
    await files.rename(tmp_path / "one" / "file", tmp_path / "one" / "other")
    await files.replace(tmp_path / "one" / "other", tmp_path / "two" / "file")
    assert sorted(await files.listdir(tmp_path / "two")) == ["file", "three"]
    entries = await files.scandir(tmp_path / "two")
    assert {entry.name: entry.is_file() for entry in entries} == {"file": True, "three": False}
    await files.symlink("file", tmp_path / "two" / "link")
    assert await files.readlink(tmp_path / "two" / "link") == "file"
    await files.unlink(tmp_path / "two" / "link")
    await files.unlink(tmp_path / "two" / "file")
    await files.rmdir(tmp_path / "one")
    await files.rmtree(tmp_path / "two")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError) as error:
        await files.unlink(tmp_path / "one")
    assert error.value.filename == str(tmp_path / "one")


async def test_a_copy_is_what_shutil_makes(loop: Loop, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT)
    source.chmod(0o640)
    target.write_bytes(b"longer than nothing" * 1_000_000)
    assert await files.copyfile(source, target) == target
    assert target.read_bytes() == CONTENT
    (tmp_path / "folder").mkdir()
    copied = await files.copy(source, tmp_path / "folder")
    assert Path(copied).read_bytes() == CONTENT
    assert Path(copied).stat().st_mode == source.stat().st_mode
    (tmp_path / "link").symlink_to("source")
    await files.copyfile(tmp_path / "link", tmp_path / "copied link", follow_symlinks=False)
    assert (tmp_path / "copied link").readlink() == Path("source")
    await files.copyfile("/proc/self/comm", tmp_path / "comm")
    assert (tmp_path / "comm").read_bytes() == Path("/proc/self/comm").read_bytes()


async def test_a_copy_refuses_what_shutil_refuses(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    for source, target in (
        ("file", "file"),
        ("file", "link"),
        ("missing", "new"),
        ("file", "fifo"),
        ("fifo", "new"),
        ("fifo", "missing/new"),
    ):
        with pytest.raises(OSError) as expected:  # noqa: PT011  # whatever it is
            shutil.copyfile(tmp_path / source, tmp_path / target)
        with pytest.raises(type(expected.value)) as found:
            await files.copyfile(tmp_path / source, tmp_path / target)
        assert str(found.value) == str(expected.value)
    with pytest.raises(shutil.SpecialFileError) as expected:
        shutil.copyfile(bytes(tmp_path / "fifo"), b"new")
    with pytest.raises(shutil.SpecialFileError) as found:
        await files.copyfile(bytes(tmp_path / "fifo"), b"new")
    assert str(found.value) == str(expected.value)
    with pytest.raises(shutil.SameFileError):
        await files.copyfile(tmp_path / "link", tmp_path / "file", follow_symlinks=False)
    assert (tmp_path / "file").read_bytes() == b"content"


async def test_a_copy_goes_to_what_has_no_position(loop: Loop, tmp_path: Path) -> None:
    path, name = tmp_path / "file", Path("/proc/self/comm")
    path.write_bytes(b"copied")
    own, other = pty.openpty()
    before = name.read_bytes()
    try:
        terminal = os.ttyname(other)
        assert await files.copyfile(path, terminal) == terminal
        assert os.read(own, 100) == b"copied"
        await files.copyfile(path, name)  # takes no offset
        assert name.read_bytes() == b"copied\n"
    finally:
        name.write_bytes(before.rstrip())
        os.close(own)
        os.close(other)


@pytest.mark.parametrize("name", ["copy", "copyfile"])
async def test_a_copy_into_a_folder_that_is_missing_says_so(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(FileNotFoundError) as expected:
        getattr(shutil, name)("file", "folder/")
    with pytest.raises(FileNotFoundError) as found:
        await getattr(files, name)("file", "folder/")
    assert str(found.value) == str(expected.value)
    assert isinstance(found.value.__cause__, IsADirectoryError)
    with pytest.raises(IsADirectoryError):
        await files.copyfile("file", tmp_path)


def test_a_copy_tells_audit_hooks_what_shutil_does(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    source = f"""
    import os
    import shutil
    import sys
    from cloverleaf import files
    heard = []

    def hear(event, arguments):
        if event.startswith("shutil."):
            heard.append((event, arguments))

    sys.addaudithook(hear)
    os.chdir({str(tmp_path)!r})
    shutil.copy("file", "copy")
    expected, heard = heard, []
    loop = new_event_loop()
    loop.run_until_complete(files.copy("file", "copy"))
    loop.close()
    print(heard == expected)
    """
    assert program.output(source).strip() == "True"


async def test_splice_copies_between_positions(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    async with (
        cloverleaf.open(tmp_path / "source", "rb") as source,
        cloverleaf.open(tmp_path / "target", "w+b") as target,
    ):
        await source.read(5)
        await target.write(b"head")
        assert await files.splice(source, target, 1000) == 1000
        assert (await source.tell(), await target.tell()) == (1005, 1004)
        assert await files.splice(source, target) == len(CONTENT) - 1005
        assert await files.splice(source, target) == 0
        await target.write(b"tail")
        await target.seek(0)
        assert await target.read() == b"head" + CONTENT[5:] + b"tail"


async def test_splice_refuses_what_it_cannot_copy(loop: Loop, tmp_path: Path) -> None:
    for name in ("source", "target"):
        (tmp_path / name).write_bytes(b"content")
    async with (
        cloverleaf.open(tmp_path / "source", "rb") as source,
        cloverleaf.open(tmp_path / "target", "r+b") as target,
        cloverleaf.open(tmp_path / "target", "r+") as text,
    ):
        for other in (text, None, 5, io.BytesIO()):
            wrong: Any = other
            for pair in ((source, wrong), (wrong, target)):
                with pytest.raises(TypeError, match=f"^'{type(wrong).__name__}' object is not"):
                    await files.splice(*pair)
        for count in ("x", 1.5):
            with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
                await files.splice(source, target, count)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="not be negative"):
            await files.splice(source, target, -1)
        assert await source.tell() == await target.tell() == await text.tell() == 0


async def test_a_splice_that_fails_stands_behind_what_it_has_copied(
    loop: Loop, tmp_path: Path
) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"0123456789abcdef" * 1000)
    # Memory takes no copy of the kernel's from a disk, and this takes no more than it has.
    sealed = os.memfd_create("target", os.MFD_ALLOW_SEALING)
    os.truncate(sealed, 8192)
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    async with cloverleaf.open(path, "rb") as source, cloverleaf.open(sealed, "r+b") as target:
        with pytest.raises(PermissionError):
            await files.splice(source, target)
        assert await target.pread(8192, 0) == path.read_bytes()[:8192]
        assert await source.tell() == await target.tell() == 8192


async def test_splice_takes_its_turn_in_both_files(loop: Loop, tmp_path: Path) -> None:
    content = CONTENT * 2  # more than one piece
    (tmp_path / "source").write_bytes(content)
    async with (
        cloverleaf.open(tmp_path / "source", "rb") as source,
        cloverleaf.open(tmp_path / "target", "w+b") as target,
    ):
        splices = [asyncio.ensure_future(files.splice(source, target)) for _ in range(2)]
        back = asyncio.ensure_future(source.read(5))
        written = asyncio.ensure_future(target.write(b"end"))
        other = asyncio.ensure_future(files.splice(target, source, 0))
        assert await asyncio.gather(*splices, back, written, other) == [len(content), 0, b"", 3, 0]
        await target.flush()
        assert (tmp_path / "target").read_bytes() == content + b"end"
        await target.seek(0)
        assert await files.splice(target, target, 10) == 10
    assert (tmp_path / "target").read_bytes() == content + b"end"


async def test_a_splice_that_is_given_up_ends_with_a_piece(loop: Loop, tmp_path: Path) -> None:
    content = CONTENT * 2
    (tmp_path / "source").write_bytes(content)
    for count in range(1, 6):
        async with (
            cloverleaf.open(tmp_path / "source", "rb") as source,
            cloverleaf.open(tmp_path / "target", "wb") as target,
        ):
            task = asyncio.ensure_future(files.splice(source, target))
            await turns(count)
            task.cancel()
            await asyncio.wait([task])
            copied = await source.tell()
            assert await target.tell() == copied
            assert (tmp_path / "target").read_bytes() == content[:copied]


async def test_a_copy_that_nobody_waits_for_ends_with_a_piece(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    async with (
        cloverleaf.open(tmp_path / "source", "rb") as source,
        cloverleaf.open(tmp_path / "target", "wb") as target,
    ):
        for is_given_up, expected in ((True, (0, False)), (False, (len(CONTENT), True))):
            request = source._copying(target, 0, 0, 2 * len(CONTENT))
            if is_given_up:
                request.give_up()
            assert await asyncio.to_thread(request.run) == expected


def test_a_copy_that_fails_midway_is_as_far_as_shutils(program: Program, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT * 2)
    # In a process of its own, whose files may be no longer than most of that.
    printed = program.output(
        f"""
import os, resource, shutil, cloverleaf
from cloverleaf import files
folder = {str(tmp_path)!r} + "/"
resource.setrlimit(resource.RLIMIT_FSIZE, (18_000_123, resource.RLIM_INFINITY))
async def main():
    try:
        await files.copyfile(folder + "source", folder + "ours")
    except OSError as error:
        print(str(error).replace("ours", "theirs"), error.filename, sep="|")
try:
    shutil.copyfile(folder + "source", folder + "theirs")
except OSError as error:
    print(error, error.filename, sep="|")
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    )
    one, other = printed.splitlines()
    assert one == other
    assert " -> " in one
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert (tmp_path / "ours").stat().st_size == 18_000_123


@pytest.mark.parametrize("mode", ["r", "w", "w+", "x", "x+", "a", "a+", "r+"])
@pytest.mark.parametrize("letter", ["", "b"])
async def test_detach_gives_what_pythons_own_stands_on(
    loop: Loop, tmp_path: Path, mode: str, letter: str
) -> None:
    path = tmp_path / "file"

    def prepare() -> None:
        path.unlink(missing_ok=True)
        if "x" not in mode:
            path.write_bytes(b"0123456789")

    def use(below: Any) -> Any:
        with below:
            able = (below.readable(), below.writable())
            if below.writable():
                below.write(b"x")
            place = below.tell()
        return type(below), able, place, path.read_bytes()

    prepare()
    plain: Any = path.open(mode + letter)
    expected = use(plain.detach())
    prepare()
    file = await cloverleaf.open(path, mode + letter)
    assert use(file.detach()) == expected


async def test_a_written_pipe_can_be_detached(loop: Loop) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as other:
        file = await cloverleaf.open(writing, "w")
        await file.write("written")
        with file.detach() as below:
            below.write(b" more")
        assert other.read() == b"written more"


async def test_detach_gives_a_file_of_pythons_own(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    file = await cloverleaf.open(path, "r+b")
    assert await file.read(2) == b"01"
    with file.detach() as below:
        assert below.read() == b"23456789"
    for call in (file.read, file.close):
        with pytest.raises(ValueError, match="detached"):
            await call()
    text = await cloverleaf.open(path, "a")
    await text.write("written")
    with text.detach() as below:
        below.write(b" more")
    assert path.read_bytes() == b"0123456789written more"


async def test_a_file_without_a_buffer_can_be_detached(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    file = await cloverleaf.open(path, "r+b", 0)
    assert await file.read(2) == b"01"
    with file.detach() as below:
        assert type(below) is io.FileIO
        assert below.read() == b"23456789"
    assert file.closed
    for call in (file.read, file.tell):
        with pytest.raises(ValueError, match="closed file"):
            await call()
    await file.close()
