"""While a child starts: the loop goes on, the start can be given up, and nothing is lost."""

# ruff: noqa: ASYNC220, ASYNC222 - starts and waits for children that end at once

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import subprocess
import sysconfig
import warnings
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from .harness.complaints import Complaints
from .harness.gate import gate
from .harness.leaks import children, descriptors
from .harness.program import Program
from .harness.turns import turns, turns_until, until
from .harness.types import Loop, NewLoop

# asyncio's loop waits with its thread, and so could not be told to let the child go on.
goes_on = pytest.mark.only("cloverleaf")


def start(path: Path | str, **keywords: Any) -> Any:
    """Return the coroutine that starts a program with three pipes."""
    return asyncio.create_subprocess_exec(path, stdin=PIPE, stdout=PIPE, stderr=PIPE, **keywords)


@goes_on
async def test_the_loop_goes_on_while_a_child_starts(loop: Loop, tmp_path: Path) -> None:
    with gate(tmp_path / "program", "echo began") as held:
        starting = loop.create_task(start(held.path))
        await until(lambda: held.reached)
        fired = asyncio.Event()
        loop.call_later(0.001, fired.set)
        await fired.wait()
        await turns(1000)
        assert not starting.done(), "the program was executed, or was thought to be"
        held.open()
        process = await starting
        assert await process.communicate() == (b"began\n", b"")
        assert process.returncode == 0


@goes_on
async def test_others_start_and_end_while_a_child_starts(loop: Loop, tmp_path: Path) -> None:
    with gate(tmp_path / "program") as held:
        starting = loop.create_task(start(held.path))
        await until(lambda: held.reached)
        for _ in range(10):
            process = await start(Path("/bin/cat"))
            assert await process.communicate(b"hello") == (b"hello", b"")
        assert not starting.done()
        held.open()
        assert await (await starting).wait() == 7


@goes_on
@pytest.mark.parametrize("copies_memory", [False, True])
async def test_a_start_that_is_cancelled_leaves_nothing_behind(
    loop: Loop, tmp_path: Path, copies_memory: bool
) -> None:
    before = descriptors()
    keywords = {"user": os.getuid()} if copies_memory else {}
    with gate(tmp_path / "program") as held:
        opened = descriptors()
        starting = loop.create_task(start(held.path, **keywords))
        await until(lambda: held.reached)
        starting.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not children()
        await turns(2)
        assert descriptors() == opened
    assert descriptors() == before


@goes_on
async def test_a_start_that_is_cancelled_twice_still_ends(loop: Loop, tmp_path: Path) -> None:
    with gate(tmp_path / "program") as held:
        opened = descriptors()
        starting = loop.create_task(start(held.path))
        await until(lambda: held.reached)
        starting.cancel()
        await turns(1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await until(lambda: not children())
        await until(lambda: descriptors() == opened)


@goes_on
async def test_a_coroutine_that_is_dropped_takes_its_child_along(
    loop: Loop, tmp_path: Path
) -> None:
    with gate(tmp_path / "program") as held:
        starting = start(held.path)
        starting.send(None)
        await until(lambda: held.reached)
        assert len(children()) == 1
        starting.close()
        assert not children()


@goes_on
def test_closing_the_loop_while_a_child_starts_leaves_nothing_behind(
    new_loop: NewLoop, tmp_path: Path, logged: Complaints
) -> None:
    loop = new_loop()
    with gate(tmp_path / "program") as held:
        starting = loop.create_task(start(held.path))
        turns_until(loop, lambda: held.reached)
        loop.close()
        del starting
        gc.collect()
        assert not children()
    assert any("was destroyed but it is pending" in text for text in logged.take())


@goes_on
def test_closing_the_loop_while_a_start_is_cancelled_leaves_nothing_behind(
    new_loop: NewLoop, tmp_path: Path, logged: Complaints
) -> None:
    loop = new_loop()
    with gate(tmp_path / "program") as held, warnings.catch_warnings():
        warnings.simplefilter("error")
        starting = loop.create_task(start(held.path))
        turns_until(loop, lambda: held.reached)
        starting.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert not starting.done()
        loop.close()
        del starting
        gc.collect()
        assert not children()
    assert all("was destroyed but it is pending" in text for text in logged.take())
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # The collector has no order there: it may come to the Popen before who kills the child.
        assert all("is still running" in text for text in logged.take_unraisable())


def test_a_filter_that_comes_between_two_starts_harms_none(program: Program) -> None:
    """It refuses close_range(2), without which `subprocess` closes descriptors one by one."""
    said = program.output(
        """
        import asyncio, ctypes, struct

        def refuse(number):
            refused, allowed = (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)
            rules = [(0x20, 0, 0, 0), (0x15, 0, 1, number), refused, allowed]
            code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
            kept = ctypes.create_string_buffer(code)
            program = struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(kept))
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
            assert libc.prctl(22, 2, program) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

        async def main():
            for _ in range(2):
                process = await asyncio.create_subprocess_exec("true", cwd="/")
                print(await process.wait())
                refuse(436)

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert said.split() == ["0", "0"]


@goes_on
async def test_a_fork_while_a_child_starts_does_it_no_harm(loop: Loop, tmp_path: Path) -> None:
    """Though the forked process lets go of all that it has of the start."""
    with gate(tmp_path / "program") as held:
        starting = loop.create_task(start(held.path))
        await until(lambda: held.reached)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            forked = os.fork()
        if forked == 0:
            try:
                starting.get_coro().close()
                gc.collect()
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
        held.open()
        assert await (await starting).wait() == 7


@goes_on
async def test_a_child_that_is_killed_while_it_starts_ends_as_killed(
    loop: Loop, tmp_path: Path
) -> None:
    with gate(tmp_path / "program") as held:
        starting = loop.create_task(start(held.path))
        await until(lambda: held.reached)
        (pid,) = children()
        os.kill(pid, 9)
        assert await (await starting).wait() == -9


@goes_on
async def test_a_program_that_another_child_has_open_is_tried_again(
    loop: Loop, tmp_path: Path
) -> None:
    """A child that has not executed its program yet has copies of all that was open."""
    program = tmp_path / "written"
    with gate(tmp_path / "program") as held:
        with program.open("w") as writing:
            writing.write("#!/bin/sh\nexit 3\n")
            # One that closes descriptors has done so before it executes its program.
            first = loop.create_task(start(held.path, close_fds=False))
            await until(lambda: held.reached)
        program.chmod(0o755)
        second = loop.create_task(start(program))
        await turns(1)
        held.open()
        assert await (await second).wait() == 3
        assert await (await first).wait() == 7


async def test_a_program_that_is_being_written_cannot_be_executed(
    loop: Loop, tmp_path: Path
) -> None:
    program = tmp_path / "written"
    with program.open("w") as writing:
        writing.write("#!/bin/sh\n")
        program.chmod(0o755)
        with pytest.raises(OSError, match="Text file busy") as caught:
            await start(program)
    assert Path(caught.value.filename) == program


@goes_on
@pytest.mark.parametrize(
    ("program", "keywords"), [(Path("/bin/cat"), {"cwd": "/"}), ("/bin/cat", {})], ids=str
)
async def test_descriptors_that_run_out_are_an_error_that_leaves_nothing_behind(
    loop: Loop, program: Path | str, keywords: dict[str, str]
) -> None:
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = next(fd for fd in range(soft) if fd not in before)
    failures = []
    for limit in range(lowest, lowest + 16):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            process = await start(program, **keywords)
        except OSError as error:
            failures.append(error.errno)
        else:
            process.kill()
            await process.communicate()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not children()
        await turns(5)
        assert descriptors() == before
    assert set(failures) == {errno.EMFILE}
    assert len(failures) < 16


async def test_what_is_patched_is_called(loop: Loop) -> None:
    with mock.patch("subprocess.Popen", side_effect=OSError("patched")) as popen:
        with pytest.raises(OSError, match=r"^patched$"):
            await start(Path("/bin/true"))
        popen.assert_called_once()
    for name in ("Popen._execute_child", "Popen._get_handles", "_fork_exec"):
        with mock.patch(f"subprocess.{name}", side_effect=OSError("patched")) as patched:
            with pytest.raises(OSError, match=r"^patched$"):
                # With a folder, or `posix_spawn` would be called.
                await start(Path("/bin/true"), cwd="/")
            patched.assert_called_once()
    for name in ("os.posix_spawn", "subprocess.Popen._posix_spawn"):
        with mock.patch(name, side_effect=OSError("patched")) as patched:
            with pytest.raises(OSError, match=r"^patched$"):
                await start(Path("/bin/true"), close_fds=False)
            patched.assert_called_once()
    close_handles = subprocess.Popen._close_pipe_fds  # type: ignore[attr-defined]
    with mock.patch("subprocess.Popen._close_pipe_fds", autospec=True) as patched:
        patched.side_effect = close_handles
        process = await start(Path("/bin/true"))
        assert await process.wait() == 0
        patched.assert_called_once()
    with mock.patch("subprocess.Popen.__init__", side_effect=OSError("patched")) as init:
        with pytest.raises(OSError, match=r"^patched$"):
            await start(Path("/bin/true"))
        init.assert_called_once()


async def test_popen_is_what_it_always_is(loop: Loop) -> None:
    process = await start(Path("/bin/cat"))
    popen = process._transport.get_extra_info("subprocess")
    assert type(popen) is subprocess.Popen
    with subprocess.Popen(["/bin/true"]) as other:
        assert vars(popen).keys() == vars(other).keys()
        assert all(vars(one)["_closed_child_pipe_fds"] for one in (popen, other))
    assert repr(popen) == f"<Popen: returncode: None args: ({Path('/bin/cat')!r},)>"
    process.kill()
    assert await process.wait() == -9
