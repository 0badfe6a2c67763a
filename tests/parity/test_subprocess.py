"""``asyncio.create_subprocess_*``: pipes, Popen's keywords, exit codes, signals, many at once."""

# ruff: noqa: ASYNC220, ASYNC222 - starts and waits for children that end at once

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest

from cloverleaf._releases import WAITS_END_AT_EXIT

from .harness.complaints import Complaints
from .harness.leaks import children, descriptors
from .harness.turns import turns, until
from .harness.types import Loop, NewLoop

CAT = ("cat",)
BIG = os.urandom(1 << 20) * 64


async def output(*command: str, **keywords: Any) -> bytes:
    """Return what a program says, which must succeed."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **keywords)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said


async def shell(command: str, **keywords: Any) -> int:
    """Return the exit code of a shell command."""
    process = await asyncio.create_subprocess_shell(command, **keywords)
    return await process.wait()


async def test_a_program_hears_and_speaks(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
    assert process.returncode is None
    said, _ = await process.communicate(b"hello")
    assert said == b"hello"
    assert process.returncode == 0


async def test_64_mebibytes_go_there_and_back(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
    said, _ = await process.communicate(BIG)
    assert said == BIG
    assert process.returncode == 0


async def test_lines_are_talked_about_one_by_one(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for line in (b"one\n", b"two\n", b"three\n"):
        process.stdin.write(line)
        await process.stdin.drain()
        assert await process.stdout.readline() == line
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_stdout_and_stderr_are_told_apart_or_joined(loop: Loop) -> None:
    command = "echo out; echo err >&2"
    process = await asyncio.create_subprocess_shell(command, stdout=PIPE, stderr=PIPE)
    assert await process.communicate() == (b"out\n", b"err\n")
    process = await asyncio.create_subprocess_shell(command, stdout=PIPE, stderr=STDOUT)
    assert (await process.communicate())[0] == b"out\nerr\n"
    assert await output("sh", "-c", command, stderr=DEVNULL) == b"out\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 255", 255),
        ("kill -9 $$", -9),
        ("kill -TERM $$", -15),
    ],
)
async def test_exit_codes(loop: Loop, command: str, code: int) -> None:
    process = await asyncio.create_subprocess_shell(command)
    assert await process.wait() == code
    assert process.returncode == code
    assert await process.wait() == code


async def test_popens_keywords_arrive(loop: Loop, tmp_path: Path) -> None:
    assert await output("pwd", cwd=tmp_path) == f"{tmp_path}\n".encode()
    assert await output("sh", "-c", "echo $COLOUR", env={"COLOUR": "green"}) == b"green\n"
    # argv[0] is what `args` says, and what runs is `executable`.
    assert await output("parrot", "-c", "echo $0", executable="/bin/sh") == b"parrot\n"
    assert await output("sh", "-c", "umask", umask=0o027) == b"0027\n"
    read_session = "import os; print(os.getsid(0) == os.getpid())"
    said = await output(sys.executable, "-c", read_session, start_new_session=True)
    assert said == b"True\n"
    said = await output("sh", "-c", "echo $PPID", preexec_fn=lambda: os.environ.pop("HOME", None))
    assert said == f"{os.getpid()}\n".encode()
    group = "import os; print(os.getpgid(0) == os.getpid())"
    assert await output(sys.executable, "-c", group, process_group=0) == b"True\n"
    for restored in (True, False):
        ignored = await output("sh", "-c", "grep SigIgn /proc/$$/status", restore_signals=restored)
        takes_sigpipe = not int(ignored.split()[1], 16) & 1 << (signal.SIGPIPE - 1)
        assert takes_sigpipe is restored


async def test_popens_keywords_for_users_and_groups_arrive(loop: Loop) -> None:
    tell = ("sh", "-c", "id -u; id -g; id -G")
    user, group = os.getuid(), os.getgid()
    said = await output(*tell, user=user, group=group)
    assert said.split()[:2] == [b"%d" % user, b"%d" % group]
    others = {"user": 65534, "group": 65533, "extra_groups": [65532]}
    if user == 0:
        assert await output(*tell, **others) == b"65534\n65533\n65533 65532\n"
    else:
        with pytest.raises(PermissionError):
            await output(*tell, **others)


async def test_the_size_of_the_pipes_can_be_chosen(loop: Loop) -> None:
    size = 4 * os.sysconf("SC_PAGE_SIZE")
    tell = f"import fcntl; print(fcntl.fcntl(1, {fcntl.F_GETPIPE_SZ}))"
    assert await output(sys.executable, "-c", tell, pipesize=size) == b"%d\n" % size


async def test_windows_keywords_are_refused(loop: Loop) -> None:
    for keyword in ("startupinfo", "creationflags"):
        with pytest.raises(ValueError, match=f"{keyword} is only supported on Windows"):
            await output("true", **{keyword: 1})
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        await output("true", colour="green")


async def test_descriptors_can_be_passed_on(loop: Loop) -> None:
    reading, writing = os.pipe()
    try:
        code = await shell(f"echo passed > /proc/self/fd/{writing}", pass_fds=(writing,))
        assert code == 0
        assert os.read(reading, 100) == b"passed\n"
        code = await shell(f"true > /proc/self/fd/{writing}", stderr=DEVNULL)
        assert code != 0, "it was passed on without being asked for"
        os.set_inheritable(writing, True)
        assert await shell(f"echo open > /proc/self/fd/{writing}", close_fds=False) == 0
        assert os.read(reading, 100) == b"open\n"
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_file_can_be_stdin_or_stdout(loop: Loop, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"from file to file")
    with source.open("rb") as reading, target.open("wb") as writing:
        process = await asyncio.create_subprocess_exec(*CAT, stdin=reading, stdout=writing)
        assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
        assert await process.wait() == 0
        assert not reading.closed
    assert target.read_bytes() == b"from file to file"


async def test_a_program_that_is_not_there_is_an_error(loop: Loop) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("/no/such/program")
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("true", cwd="/no/such/folder")
    with pytest.raises(PermissionError):
        await asyncio.create_subprocess_exec("/etc/passwd")
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        await asyncio.create_subprocess_exec("true", no_such_keyword=1)  # type: ignore[call-arg]
    assert descriptors() == before


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"bufsize": 4096}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
async def test_pipes_carry_only_bytes(loop: Loop, keywords: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", **keywords)
    with pytest.raises(ValueError, match=f"^{text}$"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, "true", **keywords)


async def test_exec_is_no_shell_and_shell_no_exec(loop: Loop) -> None:
    factory = asyncio.SubprocessProtocol
    with pytest.raises(ValueError, match=r"^shell must be False$"):
        await loop.subprocess_exec(factory, "true", shell=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^shell must be True$"):
        await loop.subprocess_shell(factory, "true", shell=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^cmd must be a string$"):
        await loop.subprocess_shell(factory, ["true"])  # type: ignore[arg-type]
    transport, _ = await loop.subprocess_shell(factory, b"exit 7")
    await until(lambda: transport.get_returncode() is not None)
    assert transport.get_returncode() == 7
    transport.close()


async def test_wait_ends_with_the_program_in_newer_releases(loop: Loop) -> None:
    """Though a child of its own keeps its standard output open."""
    command = "exec 3<&0; cat <&3 & echo ready; read line"
    process = await asyncio.create_subprocess_shell(command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    waiting = loop.create_task(process.wait())
    await turns(1)
    process.kill()
    if WAITS_END_AT_EXIT:
        assert await waiting == -signal.SIGKILL
    process.stdin.close()
    assert await process.stdout.read() == b""
    assert await waiting == -signal.SIGKILL


async def test_signals_reach_the_program(loop: Loop) -> None:
    for method, sent, number in [
        ("terminate", (), signal.SIGTERM),
        ("kill", (), signal.SIGKILL),
        ("send_signal", (signal.SIGHUP,), signal.SIGHUP),
    ]:
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
        getattr(process, method)(*sent)
        assert await process.wait() == -number


async def test_a_program_that_is_gone_takes_no_signal(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("true", stdout=PIPE)
    await process.communicate()
    await turns(5)  # the exit code is known a little before everything is over
    for send in (process.terminate, process.kill):
        with pytest.raises(ProcessLookupError):
            send()
    with pytest.raises(ProcessLookupError):
        process.send_signal(0)


async def test_a_broken_pipe_does_not_hurt_communicate(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
    said, _ = await process.communicate(bytes(1 << 20))
    assert (said, process.returncode) == (b"", 0)


async def test_communicate_can_be_cancelled_and_the_program_killed(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    talking = asyncio.ensure_future(process.stdout.read())  # type: ignore[union-attr]
    await asyncio.sleep(0)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    process.kill()
    assert await process.wait() == -9


async def test_starting_can_be_cancelled(loop: Loop) -> None:
    before = descriptors()
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    )
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    for _ in range(10):
        await asyncio.sleep(0)
    assert descriptors() == before
    assert not children()


async def test_many_at_once(loop: Loop) -> None:
    async def one(number: int) -> bytes:
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        said, _ = await process.communicate(b"%d" % number)
        assert process.returncode == 0
        return said

    said = await asyncio.gather(*(one(number) for number in range(60)))
    assert said == [b"%d" % number for number in range(60)]


def test_a_program_can_be_run_from_any_thread(new_loop: NewLoop) -> None:
    loop = new_loop()
    answers: list[bytes] = []

    def work() -> None:
        asyncio.set_event_loop(loop)
        answers.append(loop.run_until_complete(output("echo", "from a thread")))
        asyncio.set_event_loop(None)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [b"from a thread\n"]


async def test_sigchld_stays_the_programs(loop: Loop) -> None:
    came = asyncio.Event()
    before = signal.getsignal(signal.SIGCHLD)
    loop.add_signal_handler(signal.SIGCHLD, came.set)
    try:
        assert await shell("exit 5") == 5
        await came.wait()
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)
    assert signal.getsignal(signal.SIGCHLD) is before


async def test_a_child_reaped_by_somebody_else_ends_with_255(
    loop: Loop, logged: Complaints
) -> None:
    process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
    os.kill(process.pid, signal.SIGKILL)
    try:
        os.waitpid(process.pid, 0)
    except ChildProcessError:  # asyncio's thread, on 3.11, was faster
        assert await process.wait() == -9
    else:
        assert await process.wait() == 255
        assert any("255" in message for message in logged.take())


async def test_other_children_are_left_alone(loop: Loop) -> None:
    with subprocess.Popen(["true"]) as other:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert await shell("exit 3") == 3
        assert other.wait() == 0


async def test_debug_mode_tells_of_children_but_not_of_their_arguments(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    with caplog.at_level("DEBUG", logger="asyncio"):
        await output("echo", "secret")
    told = " ".join(caplog.messages)
    assert "execute program 'echo' stdout=<pipe>" in told
    assert "process 'echo' created: pid" in told
    assert "exited with return code 0" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"stdin": DEVNULL}, f" stdin={DEVNULL!r}"),
        ({"stdin": PIPE, "stdout": PIPE, "stderr": STDOUT}, " stdin=<pipe> stdout=stderr=<pipe>"),
        ({"stdout": DEVNULL, "stderr": PIPE}, f" stdout={DEVNULL!r} stderr=<pipe>"),
        ({"stderr": STDOUT}, " stderr=<stdout>"),
    ],
)
async def test_debug_mode_tells_what_a_childs_files_are(
    loop: Loop, caplog: pytest.LogCaptureFixture, files: dict[str, Any], told: str
) -> None:
    loop.set_debug(True)
    with caplog.at_level("DEBUG", logger="asyncio"):
        process = await asyncio.create_subprocess_exec("true", **files)
        await process.communicate()
    assert f"execute program 'true'{told}" in caplog.messages
