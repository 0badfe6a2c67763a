"""The guards of this suite do fail tests: a guard that cannot fail would guard nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SUITE = Path(__file__).parent.parent

CONFTEST = """
from parity.harness import leaks
from parity.harness.plugin import *

leaks.SETTLE_SECONDS = 0.05
"""

PRELUDE = """
import asyncio, os, signal, socket, subprocess, threading, time
import pytest
kept = []
"""


def run_tests(folder: Path, source: str, *options: str) -> str:
    """Run test functions under the guards, on asyncio, and return what pytest said."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_guarded.py").write_text(PRELUDE + textwrap.dedent(source))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull]
    ended = subprocess.run(
        [*command, f"--rootdir={folder}", "--loops", "asyncio", *options, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(SUITE)},
    )
    return ended.stdout + ended.stderr


def test_the_guards_fail_what_leaks_complains_or_hangs(tmp_path: Path) -> None:
    output = run_tests(
        tmp_path,
        """
        def test_descriptor(loop):
            kept.append(os.dup(0))

        def test_thread(loop):
            stop = threading.Event()
            threading.Thread(target=stop.wait, daemon=True).start()

        def test_child(loop):
            kept.append(subprocess.Popen(["sleep", "3"]))

        def test_complaint(loop):
            loop.call_soon(divmod, 1, 0)
            loop.call_soon(loop.stop)
            loop.run_forever()

        async def test_task(loop):
            loop.create_task(asyncio.sleep(60))

        @pytest.mark.deadline(0.05)
        async def test_hanging_coroutine(loop):
            await loop.create_future()

        @pytest.mark.deadline(0.05)
        def test_hanging_loop(loop):
            loop.run_forever()

        async def test_assertion(loop):
            assert False

        def test_wakeup(loop):
            kept.append(os.eventfd(0, os.EFD_NONBLOCK))
            signal.set_wakeup_fd(kept[-1], warn_on_full_buffer=False)
        """,
    )
    for name, said in {
        "ERROR at teardown of test_descriptor": "left behind: ['descriptor",
        "ERROR at teardown of test_thread": "left behind: ['thread",
        "ERROR at teardown of test_child": "left behind: ['child process",
        "ERROR at teardown of test_wakeup": "signal wakeup descriptor",
        "ERROR at teardown of test_complaint": "unexpected complaints: ['Exception in callback",
        "ERROR at teardown of test_task": "Task was destroyed but it is pending",
        " test_hanging_coroutine": "the test did not end within 0.05 s",
        " test_hanging_loop": "the test did not end within 0.05 s",
        " test_assertion": "assert False",
    }.items():
        assert f"{name}[asyncio] _" in output
        assert said in output.split(f"{name}[asyncio] _")[1].split("\n____")[0]
    assert "most recent call first" in output  # the stacks of what hangs


def test_what_is_in_order_passes_and_marks_choose_the_loop(tmp_path: Path) -> None:
    output = run_tests(
        tmp_path,
        """
        async def test_it(loop): await asyncio.sleep(0)
        def test_run(run): assert run(asyncio.sleep(0, 1)) == 1
        @pytest.mark.only("cloverleaf")
        def test_other(loop): assert False
        """,
        "-v",
    )
    assert "2 passed, 1 deselected" in output
    assert "test_it[asyncio]" in output


def test_an_unknown_loop_is_an_error(tmp_path: Path) -> None:
    output = run_tests(tmp_path, "def test_it(loop): pass", "--loops", "no-such-loop")
    assert "--loops: unknown no-such-loop; known: asyncio, cloverleaf" in output
