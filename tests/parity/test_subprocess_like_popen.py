"""A child has what `subprocess.Popen` gives it, and a start fails as `Popen` does."""

# ruff: noqa: ASYNC220 - compares with what waits

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import warnings
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import pytest

from .harness.leaks import children, descriptors
from .harness.program import Program
from .harness.types import Loop

TELL = (
    "grep -E '^(Umask|Uid|Gid|Groups|Seccomp|Sig(Blk|Ign|Cgt)|Cpus_allowed)' /proc/self/status;"
    "pwd; nice; ulimit -a; for fd in /proc/$$/fd/*; do echo $fd $(readlink $fd); done;"
    "set -- $$ $(cut -d' ' -f5,6 /proc/$$/stat); [ $1 = $2 ]; echo leads $?; [ $1 = $3 ]; echo $?;"
    "tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' '\\n' < /proc/$$/cmdline"
)


def seen(said: bytes) -> str:
    """Return what a child has said of itself, without what differs each time.

    glibc's `posix_spawn`, which `subprocess` calls if it can, ignores glibc's own two signals.
    """
    text = re.sub(r"/proc/\d+|pipe:\[\d+\]", "*", os.fsdecode(said))
    return re.sub(r"(?<=SigIgn:\t)\w+", lambda found: hex(int(found[0], 16) & ~(3 << 31)), text)


async def compare(command: Any, **keywords: Any) -> str:
    """Return what a child says that must be the same of one started by ``Popen``."""
    with subprocess.Popen(command, stdout=PIPE, **keywords) as popen:
        wanted = seen(popen.communicate()[0])
    if keywords.pop("shell", False):
        process = await asyncio.create_subprocess_shell(command, stdout=PIPE, **keywords)
    else:
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **keywords)
    said = seen((await process.communicate())[0])
    assert said == wanted
    assert process.returncode == popen.returncode
    return said


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"cwd": "/"},
        {"cwd": b"/usr"},
        {"cwd": Path("/tmp")},
        {"env": {}},
        {"env": {"PATH": "/bin:/usr/bin", b"BYTES": b"\xff", "TEXT": "\udcff"}},
        {"umask": 0},
        {"umask": 0o77},
        {"start_new_session": True},
        {"process_group": 0},
        {"restore_signals": False},
        {"close_fds": False},
        {"executable": "/bin/sh"},
        {"executable": b"sh"},
        {"stdin": DEVNULL, "stderr": DEVNULL},
        {"stdin": PIPE, "stderr": PIPE, "pipesize": 8192},
        {"stderr": subprocess.STDOUT},
        {"stdin": DEVNULL, "cwd": "/", "umask": 0o22, "start_new_session": True},
    ],
    ids=str,
)
async def test_a_child_is_as_popen_makes_it(loop: Loop, keywords: dict[str, Any]) -> None:
    await compare(("sh", "-c", TELL), **keywords)
    await compare(("/bin/sh", "-c", TELL, "with", "arguments"), **keywords)
    if "executable" not in keywords:
        await compare(TELL, shell=True, **keywords)


async def test_arguments_may_be_bytes_and_paths(loop: Loop) -> None:
    said = await compare(
        (Path("/bin/sh"), b"-c", 'echo "$0|$1|$2|$3"', Path("a/b"), b"\xfe", "", "\udcff")
    )
    assert said == "a/b|\udcfe||\udcff\n"
    await compare(b"echo $0", shell=True)
    await compare("echo $0", shell=True, executable="/bin/sh")


async def test_a_child_has_the_identity_that_is_asked_for(loop: Loop) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become anybody else")
    identities: list[dict[str, Any]] = [
        {"user": 65534},
        {"group": 65533},
        {"extra_groups": [1, 2, 3]},
        {"extra_groups": []},
        {"user": "nobody", "group": 65533, "extra_groups": [65532], "cwd": "/"},
    ]
    for keywords in identities:
        await compare(("sh", "-c", TELL), **keywords)


async def test_signals_are_as_the_thread_has_them(loop: Loop) -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    caught = signal.signal(signal.SIGUSR1, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGRTMIN})
    try:
        said = await compare(("grep", "Sig[^Q]", "/proc/self/status"), restore_signals=False)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert blocked == {*mask, signal.SIGTERM, signal.SIGRTMIN}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, caught)
        signal.signal(signal.SIGUSR2, before)
    assert re.search(r"^SigBlk:\s+0*200004000$", said, re.MULTILINE)


async def test_the_environment_is_the_processs_own(loop: Loop, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLOUR", "green")
    assert "COLOUR=green\n" in await compare(("env",))
    monkeypatch.delenv("COLOUR")
    assert "COLOUR" not in await compare(("env",))


async def test_descriptors_are_passed_on_or_closed(loop: Loop) -> None:
    reading, writing = os.pipe()
    high = os.dup2(writing, 200, inheritable=True)
    try:
        for keywords in (
            {"pass_fds": (reading,)},
            {"pass_fds": [high, reading, writing, reading]},
            {"pass_fds": {0, 1, high}},
            {"close_fds": False},
            {"close_fds": False, "pass_fds": (writing,)},
            {"stdin": reading, "stderr": writing},
            {"stdin": reading, "pass_fds": (reading, high)},
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                await compare(("sh", "-c", TELL), **keywords)
        assert not os.get_inheritable(reading)
    finally:
        for fd in (reading, writing, high):
            os.close(fd)


def raised(call: Any, *args: Any, **keywords: Any) -> BaseException:
    """Return what a call raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - it is compared
        call(*args, **keywords)
    return caught.value


async def fails_alike(command: Any, keywords: dict[str, Any], *, shell: bool = False) -> None:
    """See to it that a start fails as that of a ``Popen`` does, and leaves nothing."""
    wanted = raised(subprocess.Popen, command, bufsize=0, shell=shell, **keywords)
    before = descriptors()
    start: Any = asyncio.create_subprocess_shell if shell else asyncio.create_subprocess_exec
    words = (command,) if shell else command
    with pytest.raises(type(wanted)) as caught:
        await start(*words, **keywords)
    found = caught.value
    assert type(found) is type(wanted)
    assert (found.args, str(found)) == (wanted.args, str(wanted))
    assert getattr(found, "filename", None) == getattr(wanted, "filename", None)
    del caught, found
    assert not children()
    assert descriptors() == before


BAD = [
    (("/no/such/program",), {}),
    (("no-such-program",), {}),
    ((b"/no/such/program",), {}),
    ((Path("/no/such/program"),), {}),
    (("/etc/passwd",), {}),
    (("/etc/passwd",), {"cwd": "/"}),
    (("/",), {}),
    (("",), {}),
    (("/etc/passwd/below",), {"umask": 0}),
    (("/bin/true",), {"stdin": 777}),
    (("/bin/true",), {"stdout": 777, "close_fds": False}),
    (("true",), {"cwd": "/no/such/folder"}),
    (("true",), {"cwd": Path("/etc/passwd")}),
    (("true",), {"cwd": b"/no/such\xff"}),
    (("/bin/true",), {"executable": "/no/such/program"}),
    (("true",), {"process_group": 1 << 30}),
    (("true",), {"pass_fds": (777,)}),
    (("true",), {"pass_fds": (-1,)}),
    (("true",), {"pass_fds": ("one",)}),
    (("true", "x" * (1 << 21)), {}),
    (("/bin/true", "x" * (1 << 21)), {}),
    (("tr\0ue",), {}),
    (("true", "\0"), {}),
    (("true",), {"cwd": "/\0"}),
    (("true",), {"env": {"A=B": "C"}}),
    (("/bin/true",), {"env": {"A": "B\0"}}),
    (("/bin/true",), {"env": {"": "B"}, "executable": "/no/such/program"}),
    (("true",), {"env": 7}),
    (("true",), {"env": {"A": 1}}),
    (("true",), {"env": {"PATH": "/bin", b"PATH": b"/bin"}}),
    (("true", 7), {}),
    ((7,), {}),
    (("",), {"executable": "/no/such/program"}),
    (("true",), {"umask": "1"}),
    (("true",), {"umask": 1 << 40}),
    (("true",), {"user": -1}),
    (("true",), {"user": 1 << 40}),
    (("true",), {"group": "no such group"}),
    (("true",), {"extra_groups": [1 << 40]}),
    (("true",), {"extra_groups": list(range(70000))}),
    (("true",), {"stdin": 777}),
    (("true",), {"stdout": subprocess.STDOUT}),
    (("true",), {"creationflags": 1}),
    (("no-such-program",), {"start_new_session": "yes"}),
    (("no-such-program",), {"restore_signals": None}),
    (("true",), {"no_such_keyword": 1}),
]


@pytest.mark.parametrize(("command", "keywords"), BAD, ids=lambda value: repr(value)[:60])
async def test_failures_are_popens(
    loop: Loop, command: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    await fails_alike(command, keywords)


async def test_the_first_telling_failure_on_the_path_is_reported(
    loop: Loop, tmp_path: Path
) -> None:
    there, forbidden = tmp_path / "there", tmp_path / "forbidden"
    for folder in (there, forbidden):
        folder.mkdir()
        (folder / "program").write_text("#!/bin/sh\nexit 9\n")
    (there / "program").chmod(0o755)
    paths = [str(tmp_path / "none"), "/etc/passwd", str(forbidden)]
    env = {"PATH": ":".join(paths)}
    wanted = raised(subprocess.Popen, ["program"], env=env)
    assert isinstance(wanted, PermissionError)
    with pytest.raises(PermissionError) as caught:
        await asyncio.create_subprocess_exec("program", env=env)
    assert caught.value.args == wanted.args
    env = {"PATH": ":".join([*paths, str(there)])}
    process = await asyncio.create_subprocess_exec("program", env=env)
    assert await process.wait() == 9


def test_standard_streams_that_are_closed_are_in_nobodys_way(program: Program) -> None:
    """Whatever of 0, 1 and 2 is closed in the parent, and whatever the child gets there."""
    said = program.output(
        """
        import asyncio, itertools, os, re, subprocess, sys
        told = os.dup(1)
        script = "readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 >&9; echo /proc/$$/fd/* >&9"

        async def compare(files):
            seen = []
            for start in (start_popen, start_ours):
                for way in ({"pass_fds": (9,)}, {"close_fds": False}):
                    path = os.memfd_create("told")
                    os.dup2(path, 9)
                    os.close(path)
                    streams = [file if file != "file" else 20 + at for at, file in enumerate(files)]
                    try:
                        code = await start(streams, way)
                    except OSError as error:
                        code = repr(error)
                    text = os.pread(9, 1000, 0).decode()
                    seen.append((code, re.sub(r"\\d{3,}", "*", text)))
            assert seen[:2] == seen[2:], (files, seen)

        def named(streams):
            return dict(zip(("stdin", "stdout", "stderr"), streams))

        async def start_popen(streams, way):
            with subprocess.Popen(["sh", "-c", script], **named(streams), **way) as popen:
                return popen.wait()

        async def start_ours(streams, way):
            command = ("sh", "-c", script)
            process = await asyncio.create_subprocess_exec(*command, **named(streams), **way)
            code = await process.wait()
            # The ends of its pipes may have the numbers that are about to be used again.
            while process._transport._proc is not None:
                await asyncio.sleep(0)
            return code

        async def main():
            os.dup2(os.open("/", os.O_RDONLY), 30)
            for at, name in enumerate(("/etc", "/usr", "/bin")):
                fd = os.open(name, os.O_RDONLY)
                os.dup2(fd, 20 + at)
            kept = [os.dup(fd) for fd in range(3)]
            for closed in itertools.product((False, True), repeat=3):
                for fd in range(3):
                    os.dup2(kept[fd], fd)
                    if closed[fd]:
                        os.close(fd)
                for files in (
                    (subprocess.PIPE, subprocess.PIPE, subprocess.PIPE),
                    (subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT),
                    (None, "file", subprocess.PIPE),
                ):
                    await compare(files)
            swaps = [(1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0), (0, 0, 0), (2, 2, 1)]
            for swapped in swaps:
                for fd in range(3):
                    os.dup2(20 + fd, fd)
                await compare(swapped)
            os.write(told, b"all the same")

        loop = new_event_loop()
        loop.run_until_complete(main())
        """
    )
    assert said == "all the same"


def test_audit_hooks_hear_what_popen_tells_them(program: Program) -> None:
    said = program.output(
        """
        import asyncio, os, pathlib, subprocess, sys
        told = []

        def hear(event, args):
            if event in ("subprocess.Popen", "os.posix_spawn"):
                told.append((event, repr(args)))

        sys.addaudithook(hear)
        commands = [
            (("true",), {}),
            (("/bin/true",), {}),
            ((pathlib.Path("/bin/true"),), {}),
            (("/bin/true",), {"env": {"A": "B"}}),
            (("/bin/true",), {"cwd": "/"}),
            (("/bin/true",), {"close_fds": False}),
            (("/bin/true",), {"close_fds": False, "env": {}}),
            (("name",), {"executable": "/bin/true", "umask": 0}),
        ]

        async def main():
            for command, keywords in commands:
                told.clear()
                subprocess.Popen(command, **keywords).wait()
                wanted = [*told]
                told.clear()
                process = await asyncio.create_subprocess_exec(*command, **keywords)
                assert await process.wait() == 0
                assert told == wanted, (told, wanted)

        new_event_loop().run_until_complete(main())
        print("all the same")
        """
    )
    assert said == "all the same"


def test_an_audit_hook_can_refuse(program: Program) -> None:
    said = program.output(
        """
        import asyncio, os, sys

        def refuse(event, args):
            if event == "subprocess.Popen":
                raise PermissionError("no children here")

        async def main():
            before = os.listdir("/proc/self/fd")
            try:
                await asyncio.create_subprocess_exec("true", stdin=-1, stdout=-1, stderr=-1)
            except PermissionError as error:
                print(error)
            assert os.listdir("/proc/self/fd") == before

        sys.addaudithook(refuse)
        new_event_loop().run_until_complete(main())
        """
    )
    assert said == "no children here"


async def test_without_vfork_it_is_forked(loop: Loop, monkeypatch: Any) -> None:
    monkeypatch.setattr(subprocess, "_USE_VFORK", False, raising=False)
    await compare(("sh", "-c", TELL), cwd="/")
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("no-such-program")


def test_where_no_process_can_be_made_the_program_is_named_as_popen_does(program: Program) -> None:
    printed = program.output(
        """
import asyncio, gc, itertools, os, resource, subprocess
loop = new_event_loop()
async def outcome(program, file, close_fds):
    try:
        await loop.subprocess_exec(
            asyncio.SubprocessProtocol, program, stdin=file, stdout=file, stderr=file,
            close_fds=close_fds,
        )
    except OSError as error:
        return type(error), error.errno, error.filename
def outcome_of_popen(program, file, close_fds):
    try:
        subprocess.Popen(
            [program], stdin=file, stdout=file, stderr=file, close_fds=close_fds, bufsize=0
        )
    except OSError as error:
        return type(error), error.errno, error.filename
async def main():
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 65534)  # nobody, whom the limit binds
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    for child in itertools.product(
        ("/bin/true", "true"), (None, subprocess.PIPE, subprocess.DEVNULL), (True, False)
    ):
        before = os.listdir("/proc/self/fd")
        found, wanted = await outcome(*child), outcome_of_popen(*child)
        gc.collect()
        is_clean = os.listdir("/proc/self/fd") == before
        print(found == wanted is not None and is_clean, found, wanted, is_clean)
loop.run_until_complete(main())
loop.close()
"""
    )
    assert [line.split()[0] for line in printed.splitlines()] == ["True"] * 12, printed
