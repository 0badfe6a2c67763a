"""A child that is asked for nothing but a command and pipes is as `subprocess.Popen` makes it.

Such children, the most common ones, have a way of their own from the second on.
"""

# ruff: noqa: ASYNC220, ASYNC222 - compares with what waits

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from .harness.leaks import children, descriptors
from .harness.turns import until
from .harness.types import Loop, NewLoop
from .test_subprocess_like_popen import TELL, compare, fails_alike, seen

TRUE = "/bin/true"
PIPES: list[dict[str, Any]] = [
    {},
    {"stdin": PIPE},
    {"stdout": PIPE},
    {"stderr": PIPE},
    {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE},
]
each_with_pipes = pytest.mark.parametrize("pipes", PIPES, ids=" ".join)


@pytest.fixture(autouse=True)
def first(loop: Loop) -> None:
    """Start one, by which the way is found."""
    assert loop.run_until_complete(popen_of(TRUE)).returncode == 0


async def popen_of(*command: Any, **pipes: Any) -> subprocess.Popen[bytes]:
    """Start a child, wait for its end, and return its `Popen`."""
    process: Any = await asyncio.create_subprocess_exec(*command, **pipes)
    popen: subprocess.Popen[bytes] = process._transport.get_extra_info("subprocess")
    assert popen.pid == process.pid
    await process.communicate()
    return popen


@each_with_pipes
async def test_its_popen_is_what_popen_makes(loop: Loop, pipes: dict[str, Any]) -> None:
    def shown(name: str, value: Any) -> Any:
        if name in {"stdin", "stdout", "stderr"} and value is not None:
            assert type(value.name) is int
            return type(value), value.mode, value.closefd
        return type(value) if name in {"pid", "_waitpid_lock"} else value

    command = (TRUE, "argument")
    for _ in range(2):
        process: Any = await asyncio.create_subprocess_exec(*command, **pipes)
        found = vars(process._transport.get_extra_info("subprocess"))
        keywords: dict[str, Any] = {"universal_newlines": False, "shell": False, "bufsize": 0}
        with subprocess.Popen(command, **keywords, **pipes) as made:
            wanted = vars(made).copy()
            # Whoever comes first finds the end.
            assert [*found] == [*wanted]
            names = [name for name in found if name != "returncode"]
            assert {name: shown(name, found[name]) for name in names} == {
                name: shown(name, wanted[name]) for name in names
            }
        assert found["_waitpid_lock"].acquire(blocking=False)
        found["_waitpid_lock"].release()
        await process.communicate()
        assert process.returncode == 0


@each_with_pipes
async def test_pipes_are_connected(loop: Loop, pipes: dict[str, Any]) -> None:
    script = "cat; echo out; echo error >&2; exit 5"
    pipes = {"stdin": asyncio.subprocess.DEVNULL, **pipes} if "stdin" not in pipes else pipes
    before = descriptors()
    for name in "/bin/sh", "sh":
        process = await asyncio.create_subprocess_exec(name, "-c", script, **pipes)
        given = b"given " if pipes["stdin"] == PIPE else None
        out, error = await process.communicate(given)
        assert out == ((given or b"") + b"out\n" if "stdout" in pipes else None)
        assert error == (b"error\n" if "stderr" in pipes else None)
        assert process.returncode == 5
    del process
    await until(lambda: descriptors() == before)


@each_with_pipes
async def test_a_child_of_pipes_is_as_popen_makes_it(loop: Loop, pipes: dict[str, Any]) -> None:
    pipes = {name: file for name, file in pipes.items() if name != "stdout"}
    await compare(("/bin/sh", "-c", TELL), **pipes)
    await compare(("sh", "-c", TELL, "with", "arguments"), **pipes)


async def test_no_two_share_what_changes(loop: Loop) -> None:
    one, other = await popen_of(TRUE), await popen_of(TRUE)
    assert vars(one) is not vars(other)
    assert vars(one)["_waitpid_lock"] is not vars(other)["_waitpid_lock"]
    assert one.pid != other.pid
    vars(one)["anything"] = 1
    assert "anything" not in vars(await popen_of(TRUE))


@pytest.mark.only("cloverleaf")
async def test_popens_own_making_is_not_gone_through(loop: Loop) -> None:
    """Else all of the tests here would try the other way only."""
    init = subprocess.Popen.__init__.__code__
    called = []
    sys.setprofile(lambda frame, *_: called.append(frame.f_code))
    try:
        await popen_of(TRUE)
        assert popen_of.__code__ in called
        assert init not in called
        await popen_of("true", stdin=PIPE, stdout=PIPE)
        assert init not in called
        await popen_of(TRUE, close_fds=False)
    finally:
        sys.setprofile(None)
    assert init in called


async def test_the_child_is_as_popen_makes_it(loop: Loop, tmp_path: Path) -> None:
    said = tmp_path / "said"
    command = ("/bin/sh", "-c", f"exec > $0; {TELL}", str(said), "argument", "")
    ends = os.pipe()
    os.set_inheritable(ends[0], True)
    kept = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        assert subprocess.Popen(command).wait() == 0
        wanted = seen(said.read_bytes())
        assert (await popen_of(*command)).returncode == 0
        assert seen(said.read_bytes()) == wanted
    finally:
        signal.signal(signal.SIGPIPE, kept)
        for end in ends:
            os.close(end)


async def test_arguments_come_as_they_are(loop: Loop, tmp_path: Path) -> None:
    class Text(str):
        """Its own, as a program may have it."""

    said = tmp_path / "said"
    script = 'printf "%s|" "$@" > "$0"'
    arguments: list[Any] = [
        ["/bin/sh", "-c", script, str(said), "plain", "", "two words"],
        [b"/bin/sh", "-c", script, said, b"bytes \xff", "\udcfe", "gr\xfcn"],
        [Path("/bin/sh"), "-c", Text(script), os.fsencode(said), Text("text"), Path("a/b")],
        ["sh", "-c", script, str(said), "looked up"],
    ]
    for command in arguments:
        assert (await popen_of(*command)).args == tuple(command)
        passed = b"".join(os.fsencode(argument) + b"|" for argument in command[4:])
        assert said.read_bytes() == passed


@pytest.mark.parametrize(
    "command",
    [
        ("/no/such/program",),
        (b"/no/such/program", "argument"),
        ("/",),
        ("/dev/null",),
        ("./no-such-program",),
        ("no-such-program",),
        ("",),
        (TRUE, "\0"),
        ("/bin/\0true",),
        (TRUE, "\ud800"),
        (TRUE, 7),
        (TRUE, "x" * (1 << 21)),
    ],
    ids=lambda command: repr(command)[:60],
)
@pytest.mark.parametrize("pipes", [PIPES[0], PIPES[-1]], ids=" ".join)
async def test_it_fails_as_popen_does(
    loop: Loop, command: tuple[Any, ...], pipes: dict[str, Any]
) -> None:
    await fails_alike(command, pipes)


@pytest.mark.parametrize(
    "name",
    [
        "Popen",
        "Popen.__init__",
        "Popen._execute_child",
        "Popen._get_handles",
        "_cleanup",
        "threading.Lock",
        "os.pipe",
        "os.get_exec_path",
    ],
)
async def test_what_is_patched_is_called(loop: Loop, name: str) -> None:
    with mock.patch(f"subprocess.{name}", side_effect=OSError("patched")) as patched:
        for _ in range(2):
            with pytest.raises(OSError, match=r"^patched$"):
                # By its name, or `posix_spawn` would be called.
                await asyncio.create_subprocess_exec("true", stdout=PIPE)
        # Who refuses to look a program up is asked again, as `subprocess` says itself why.
        assert patched.call_count >= 2
    assert (await popen_of(TRUE)).returncode == 0


@pytest.mark.parametrize(
    "path", [None, "", ":", "/no/such/folder:/bin/", "relative:{}", "{}/", "{}:/bin", "gr\xfcn:{}"]
)
@pytest.mark.parametrize("name", ["sh", "own", "no-such-program", "folder", "mine"])
async def test_a_name_is_looked_up_as_popen_does(
    loop: Loop, monkeypatch: Any, tmp_path: Path, path: str | None, name: str
) -> None:
    (tmp_path / "own").write_text("#!/bin/sh\nexit 6\n")
    (tmp_path / "own").chmod(0o755)
    (tmp_path / "mine").touch(0o600)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path.format(tmp_path))

    async def ours() -> int | None:
        return (await popen_of(name, "-c", "exit 3")).returncode

    try:
        wanted = subprocess.Popen((name, "-c", "exit 3")).wait()
    except OSError as failure:
        refused = failure
    else:
        assert await ours() == wanted
        return
    with pytest.raises(type(refused)) as caught:
        await ours()
    assert (caught.value.args, str(caught.value)) == (refused.args, str(refused))


async def test_another_environ_is_asked(loop: Loop, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": str(tmp_path)})
    with pytest.raises(FileNotFoundError):
        await popen_of("true")


async def test_code_that_is_exchanged_is_run(loop: Loop) -> None:
    def init(self: Any, *args: Any, **keywords: Any) -> None:
        raise OSError("exchanged")

    function: Any = subprocess.Popen.__init__
    code = function.__code__
    function.__code__ = init.__code__
    try:
        with pytest.raises(OSError, match=r"^exchanged$"):
            await asyncio.create_subprocess_exec(TRUE)
    finally:
        function.__code__ = code
    assert (await popen_of(TRUE)).returncode == 0


async def test_who_wraps_the_making_hears_of_each(loop: Loop, monkeypatch: Any) -> None:
    init = subprocess.Popen.__init__
    heard = []

    def wrapped(self: Any, *args: Any, **keywords: Any) -> None:
        heard.append(args or keywords["args"])
        init(self, *args, **keywords)
        self.seen_by_wrapper = True

    monkeypatch.setattr(subprocess.Popen, "__init__", wrapped)
    for number in range(3):
        popen: Any = await popen_of(TRUE, str(number))
        assert popen.seen_by_wrapper
    assert heard == [((TRUE, str(number)),) for number in range(3)]


async def test_one_that_nobody_waits_for_is_reaped_by_the_next(loop: Loop) -> None:
    """`Popen` sees to children whose `Popen` was dropped while they ran."""
    dropped = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    assert dropped.stdin is not None
    pid, stdin = dropped.pid, dropped.stdin
    with pytest.warns(ResourceWarning):
        del dropped
    stdin.close()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert (await popen_of(TRUE)).returncode == 0
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


async def test_it_is_cancelled_as_others_are(loop: Loop) -> None:
    before = descriptors()
    starting = loop.create_task(asyncio.create_subprocess_exec(TRUE))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not children() and descriptors() == before)


async def test_threads_start_children_beside_each_other(loop: Loop, new_loop: NewLoop) -> None:
    codes: list[int | None] = []

    def start() -> None:
        async def run() -> None:
            for _ in range(5):
                popen = await popen_of("/bin/sh", "-c", "exit 3")
                codes.append(popen.returncode)

        other = new_loop()
        try:
            other.run_until_complete(run())
        finally:
            other.close()

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await loop.run_in_executor(None, thread.join)
    assert codes == [3] * 15
