"""Functions of paths say, raise and tell audit hooks what those of `os` do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloverleaf import _cloverleaf, files

from .harness.program import Program
from .harness.types import Loop


class Named:
    """A path of a class that `os` does not know."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return self._path


def _kernels_own_mounts() -> Iterator[Path]:
    """Yield folders on which a file system is mounted that is not known to ask nobody else."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-", 6) + 1]
        if kind in {"devpts", "cgroup", "cgroup2", "mqueue", "tracefs", "securityfs"}:
            yield Path(fields[4])


SPELLINGS = [str, os.fsencode, Path, Named]

PATHS = [
    "file",
    "folder",
    "missing",
    "link",
    "dangling",
    "loop",
    "file/below",
    "",
    ".",
    "\0",
    "\ud800x",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with a file, a folder and symbolic links."""
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder: Path) -> None:
    (folder / "file").write_bytes(b"content")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("file")
    (folder / "dangling").symlink_to("missing")
    (folder / "loop").symlink_to("loop")


def seen(call: Any) -> Any:
    """Return what a call returns, or all of what it raises."""
    try:
        return call()
    except Exception as error:
        names = getattr(error, "filename", None), getattr(error, "filename2", None)
        return type(error), str(error), *names


async def awaited(function: Any, *arguments: Any, **settings: Any) -> Any:
    try:
        return await function(*arguments, **settings)
    except Exception as error:
        names = getattr(error, "filename", None), getattr(error, "filename2", None)
        return type(error), str(error), *names


LOOKS: dict[str, Any] = {
    "stat": os.stat,
    "lstat": os.lstat,
    "exists": os.path.exists,
    "isfile": os.path.isfile,
    "isdir": os.path.isdir,
    "islink": os.path.islink,
    "getsize": os.path.getsize,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", LOOKS)
async def test_what_is_seen_of_a_path(loop: Loop, folder: Path, name: str, spelling: Any) -> None:
    for text in PATHS:
        if text == "\ud800x" and spelling is os.fsencode:
            continue
        path = spelling(text)
        for _ in range(2):  # the second time, it is at hand
            expected = seen(lambda: LOOKS[name](path))  # noqa: B023  # called at once
            assert await awaited(getattr(files, name), path) == expected, text


async def test_what_is_no_plain_path(loop: Loop, folder: Path) -> None:
    with Path("file").open("rb") as opened:
        assert await files.stat(opened.fileno()) == os.fstat(opened.fileno())
        assert await files.exists(opened.fileno())
    link = await files.stat("link", follow_symlinks=False)
    assert link == os.lstat("link")
    wrongs: list[Any] = [None, 1.5, [], -1]
    for wrong in wrongs:
        expected = seen(lambda: os.stat(wrong))  # noqa: B023, PTH116
        assert await awaited(files.stat, wrong) == expected
    fd = os.open("folder", os.O_RDONLY)
    try:
        Path("folder/inside").touch()
        assert await files.stat("inside", dir_fd=fd) == os.stat("inside", dir_fd=fd)
        await files.unlink("inside", dir_fd=fd)
        assert not Path("folder/inside").exists()
    finally:
        os.close(fd)


CHANGES: dict[str, Any] = {
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "mkdir": os.mkdir,
    "rename": os.rename,
    "replace": os.replace,
}


def arguments_for(name: str, path: Any, target: Any) -> list[tuple[Any, ...]]:
    if name in {"rename", "replace"}:
        return [(path, target), (target, path), (path,), (path, 5)]
    if name == "mkdir":
        return [(path,), (path, 0o700), (path, -1), (path, "wrong")]
    return [(path,), (), (5,)]


async def change(
    name: str, spelling: Any, parent: Path, heard: list[tuple[str, Any]]
) -> list[list[tuple[str, Any]]]:
    """Change files by both functions of this name; return what was heard of each change."""
    events = []
    for text in PATHS:
        if text == "\ud800x" and spelling is os.fsencode:
            continue
        for arguments in arguments_for(name, spelling(text), spelling("target")):
            told = []
            for is_ours in (False, True):
                folder = Path(tempfile.mkdtemp(dir=parent))
                fill(folder)
                os.chdir(folder)
                heard.clear()
                if is_ours:
                    found = await awaited(getattr(files, name), *arguments)
                else:
                    found = seen(lambda: CHANGES[name](*arguments))  # noqa: B023
                events.append([*heard])
                left = sorted((path.name, path.lstat().st_mode) for path in folder.iterdir())
                told.append((found, events[-1], left))
            assert told[0] == told[1], arguments
    return events


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", CHANGES)
async def test_what_is_changed_by_paths(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, spelling: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    await change(name, spelling, tmp_path, [])


@pytest.mark.parametrize("name", CHANGES)
def test_hooks_hear_of_what_is_changed(program: Program, tmp_path: Path, name: str) -> None:
    """In a program of their own: a hook cannot be taken back, and changes what others do."""
    source = f"""
    import sys
    from pathlib import Path
    from parity.test_file_paths import SPELLINGS, change
    heard = []

    def hear(event, arguments):
        if event in ("os.remove", "os.rmdir", "os.mkdir", "os.rename"):
            heard.append((event, arguments))

    sys.addaudithook(hear)
    loop = new_event_loop()
    for spelling in SPELLINGS:
        events = loop.run_until_complete(change({name!r}, spelling, Path({str(tmp_path)!r}), heard))
        assert any(events)
    loop.close()
    """
    program.output(source, env={"PYTHONPATH": str(Path(__file__).parents[1])})


async def test_the_functions_look_like_those_of_os(loop: Loop) -> None:
    for name in [*LOOKS, *CHANGES]:
        function = getattr(files, name)
        assert (function.__name__, function.__module__) == (name, "cloverleaf.files")
        assert function.__doc__


async def test_only_file_systems_that_ask_nobody_are_looked_at_at_once(
    loop: Loop,
) -> None:
    """A name may be at hand whose attributes a server has, which the loop itself may be."""
    paths = [path for path in _kernels_own_mounts() if path.is_dir()]
    if not paths:
        pytest.skip("only such file systems are here")
    for path in paths:
        expected = path.stat()  # whose name is at hand from now on
        assert _cloverleaf.stat_at_once(os.fsencode(path), True) is None, path
        assert _identity(await files.stat(path)) == _identity(expected)


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_mode
