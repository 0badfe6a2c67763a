"""A child that is asked for a little more than a command and pipes is as `Popen` makes it, too."""

# ruff: noqa: ASYNC220, SIM115 - compares with what waits; the files are open for as long as the process

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from .harness.leaks import descriptors
from .harness.turns import until
from .harness.types import Loop
from .test_subprocess_like_popen import TELL, compare, fails_alike
from .test_subprocess_plain import TRUE, popen_of

NULL = os.open(os.devnull, os.O_RDWR)
LOG = Path(os.devnull).open("ab")
TEXT = Path(os.devnull).open("r+", encoding="utf-8")
RAW = Path(os.devnull).open("wb", buffering=0)

ASKED: list[dict[str, Any]] = [
    {"cwd": "/"},
    {"cwd": b"/usr"},
    {"cwd": Path("/tmp")},
    {"env": {}},
    {"env": {"PATH": "/bin:/usr/bin", b"BYTES": b"\xff", "TEXT": "\udcff", "GR\xdcN": "gr\xfcn"}},
    {"env": {"PATH": b"/bin", "EMPTY": ""}},
    {"start_new_session": True},
    {"start_new_session": False, "close_fds": True, "preexec_fn": None, "cwd": None, "env": None},
    {"stdin": DEVNULL},
    {"stdin": DEVNULL, "stderr": DEVNULL},
    {"stdin": PIPE, "stderr": STDOUT},
    {"stdin": NULL, "stderr": NULL},
    {"stdin": TEXT, "stderr": LOG},
    {"stderr": RAW},
    {"stdin": 0, "stderr": 1},
    {"stdin": DEVNULL, "stderr": STDOUT, "cwd": "/", "env": {}, "start_new_session": True},
]
each_asked = pytest.mark.parametrize("asked", ASKED, ids=lambda asked: " ".join(map(str, asked)))


@pytest.fixture(autouse=True)
def first(loop: Loop) -> None:
    """Start one, by which the way is found."""
    assert loop.run_until_complete(popen_of(TRUE)).returncode == 0


@each_asked
async def test_the_child_is_as_popen_makes_it(loop: Loop, asked: dict[str, Any]) -> None:
    before = descriptors()
    for command in ("sh", "-c", TELL), (Path("/bin/sh"), b"-c", TELL, Path("a/b"), "gr\xfcn"):
        await compare(command, **asked)
    await compare(TELL, shell=True, **asked)
    await compare(os.fsencode(TELL), shell=True, **asked)
    await until(lambda: descriptors() == before)


@each_asked
async def test_its_popen_is_what_popen_makes(loop: Loop, asked: dict[str, Any]) -> None:
    def shown(name: str, value: Any) -> Any:
        if name in {"stdin", "stdout", "stderr"} and value is not None:
            return type(value), value.mode, value.closefd
        return type(value) if name in {"pid", "_waitpid_lock", "_devnull"} else value

    files = {"stdout": PIPE, **asked}
    keywords: dict[str, Any] = {"universal_newlines": False, "shell": False, "bufsize": 0}
    process: Any = await asyncio.create_subprocess_exec(TRUE, **files)
    found = vars(process._transport.get_extra_info("subprocess"))
    with subprocess.Popen((TRUE,), **keywords, **files) as made:
        wanted = vars(made).copy()
    assert [*found] == [*wanted]
    names = [name for name in found if name != "returncode"]
    assert {name: shown(name, found[name]) for name in names} == {
        name: shown(name, wanted[name]) for name in names
    }
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.only("cloverleaf")
@each_asked
async def test_popens_own_making_is_not_gone_through(loop: Loop, asked: dict[str, Any]) -> None:
    """Else all of the tests here would try the other way only."""
    init = subprocess.Popen.__init__.__code__
    called = []
    sys.setprofile(lambda frame, *_: called.append(frame.f_code))
    try:
        await popen_of("true", stdout=DEVNULL, **asked)
        await popen_of(Path(TRUE), b"bytes", "gr\xfcn", stdout=PIPE, **asked)
        process = await asyncio.create_subprocess_shell("true", stdout=LOG, **asked)
        await process.communicate()
    finally:
        sys.setprofile(None)
    assert popen_of.__code__ in called
    assert init not in called


async def test_a_closed_file_is_refused(loop: Loop, tmp_path: Path) -> None:
    for mode in "w", "wb":
        file = (tmp_path / "log").open(mode)
        file.close()
        await fails_alike((TRUE,), {"stdin": PIPE, "stdout": file})


BAD: list[dict[str, Any]] = [
    {"cwd": "/no/such/folder"},
    {"cwd": ""},
    {"cwd": b"/no/such\xff"},
    {"cwd": Path("/etc/passwd")},
    {"cwd": "/\0"},
    {"cwd": "\ud800"},
    {"cwd": 7.0},
    {"cwd": "/no/such/folder", "start_new_session": True, "env": {}},
    {"env": {"A=B": "C"}},
    {"env": {"A": "B\0"}},
    {"env": {"A": "\ud800"}},
    {"env": {"A": 1}},
    {"env": {1: "A"}},
    {"env": {"PATH": "/bin", b"PATH": b"/bin"}},
    {"env": {"PATH": "/no/such/folder"}},
    {"env": {"PATH": Path("/bin")}},
    {"env": {b"PATH": b"/no/such/folder"}},
    {"env": [("A", "B")]},
    {"stdin": 777},
    {"stderr": 777, "close_fds": False},
    {"stdin": STDOUT},
    {"stdin": -9},
    {"stdin": 1 << 40},
    {"stdin": object()},
    {"start_new_session": "yes", "cwd": "/no/such/folder"},
    {"start_new_session": 1 << 40},
]


@pytest.mark.parametrize("asked", BAD, ids=str)
async def test_it_fails_as_popen_does(loop: Loop, asked: dict[str, Any]) -> None:
    # Of some of these only the posix_spawn of a release takes the name.
    for name in "no-such-program", "/no/such/program", Path("/no/such/program"):
        await fails_alike((name,), {**asked, "stdout": PIPE})
        await fails_alike((name,), {"stdin": DEVNULL, **asked, "stderr": PIPE})
    if "cwd" in asked:
        await fails_alike("true", {**asked, "stdin": DEVNULL}, shell=True)


async def test_what_has_changed_meanwhile_is_not_asked_again(loop: Loop) -> None:
    env = {"PATH": "/bin"}
    starting = loop.create_task(
        asyncio.create_subprocess_exec("no-such-program", env=env, stdout=DEVNULL)
    )
    await asyncio.sleep(0)
    env["A=B"] = "C"
    with pytest.raises(FileNotFoundError) as caught:
        await starting
    assert caught.value.filename == "no-such-program"


@pytest.mark.parametrize("name", ["Popen._get_devnull", "os.open"])
async def test_what_is_patched_is_called(loop: Loop, name: str) -> None:
    before = descriptors()
    with mock.patch(f"subprocess.{name}", side_effect=OSError("patched")) as patched:
        with pytest.raises(OSError, match=r"^patched$"):
            await asyncio.create_subprocess_exec(TRUE, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        assert patched.call_count == 1
    assert descriptors() == before


async def test_files_stay_the_callers_own(loop: Loop, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", "echo out; echo error >&2", stdout=log, stderr=STDOUT, stdin=DEVNULL
            )
            assert await process.wait() == 0
        log.write(b"mine\n")
    assert (tmp_path / "log").read_bytes() == b"out\nerror\n" * 2 + b"mine\n"


async def test_a_path_with_another_answer_is_asked_for_it(loop: Loop, monkeypatch: Any) -> None:
    monkeypatch.setattr(type(Path()), "__fspath__", lambda self: "/bin/false")
    assert (await popen_of(Path(TRUE))).returncode == 1


async def test_the_programs_folder_is_in_its_own_environment(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("#!/bin/sh\nexit 6\n")
    (tmp_path / "own").chmod(0o755)
    for path in str(tmp_path), os.fsencode(tmp_path), f"/no/such:{tmp_path}":
        env = {"PATH": path}
        assert (await popen_of("own", env=env)).returncode == 6
        assert (await popen_of("own", env=env, cwd="/", stdout=DEVNULL)).returncode == 6
    await fails_alike(("own",), {"env": {}})
    assert (await popen_of("own", env={"PATH": "x"}, executable=tmp_path / "own")).returncode == 6
