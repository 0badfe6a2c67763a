"""The guards of this suite do fail tests: a guard that cannot fail would guard nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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


BAD = """
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

@pytest.mark.deadline(0.5)
async def test_hanging_coroutine(loop):
    await loop.create_future()

@pytest.mark.deadline(0.5)
def test_hanging_loop(loop):
    loop.run_forever()

async def test_assertion(loop):
    assert False

def test_wakeup(loop):
    kept.append(os.eventfd(0, os.EFD_NONBLOCK))
    signal.set_wakeup_fd(kept[-1], warn_on_full_buffer=False)
"""

SAID = {
    "ERROR at teardown of test_descriptor": "left behind: ['descriptor",
    "ERROR at teardown of test_thread": "left behind: ['thread",
    "ERROR at teardown of test_child": "left behind: ['child process",
    "ERROR at teardown of test_wakeup": "signal wakeup descriptor",
    "ERROR at teardown of test_complaint": "unexpected complaints: ['Exception in callback",
    "ERROR at teardown of test_task": "Task was destroyed but it is pending",
    " test_hanging_coroutine": "the test did not end within 0.5 s",
    " test_hanging_loop": "the test did not end within 0.5 s",
    " test_assertion": "assert False",
}


def not_said(output: str) -> list[str]:
    """Return what pytest should have said of the bad tests, and has not."""
    told = {name: output.partition(f"{name}[asyncio] _")[2].split("\n____")[0] for name in SAID}
    missing = [name for name, said in SAID.items() if said not in told[name]]
    # The stacks of what hangs.
    return missing if "most recent call first" in output else [*missing, "stacks"]


@pytest.mark.deadline(240)
def test_the_guards_fail_what_leaks_complains_or_hangs(tmp_path: Path) -> None:
    # A deadline as short as these may pass before the test's own code begins, amid pytest's.
    for _ in range(10):
        output = run_tests(tmp_path, BAD)
        if not not_said(output):
            break
    assert not not_said(output), output


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
