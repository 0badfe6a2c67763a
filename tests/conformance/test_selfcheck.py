"""Does the harness tell good loops from bad ones?  (About a minute.)

Runs run_cpython_suite.py on loops with known faults and holds it to its verdicts: a crash or a hang
costs only the test it happens in, lost callbacks fail, known failures are excused, a loop that is
the stdlib's in disguise is found out, and nothing is left behind when the runner is stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

HERE = Path(__file__).parent
RUNNER = HERE / "run_cpython_suite.py"
SOCKETS = ("--module", "test_sock_lowlevel")


@dataclass
class Verdict:
    code: int
    text: str
    report: dict[str, Any]

    def ids(self, status: str) -> set[str]:
        """Return the names of the tests that fell short in that way."""
        return {s["id"].split(".")[-1] for s in self.report["shortfalls"] if s["status"] == status}

    @property
    def passed(self) -> int:
        count: int = self.report["counts"]["passed"]
        return count

    @property
    def last_line(self) -> str:
        return self.text.rstrip().splitlines()[-1]


class Judge(Protocol):
    def __call__(self, loop: str, *arguments: str) -> Verdict: ...


def command(loop: str, *arguments: str) -> list[str]:
    return [sys.executable, str(RUNNER), "--loop", loop, "--path", str(HERE), *arguments]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    out = tmp_path / "out.json"

    def run(loop: str, *arguments: str) -> Verdict:
        out.unlink(missing_ok=True)
        done = subprocess.run(
            command(loop, "-j", "2", "--timeout", "5", "--json", str(out), *arguments),
            capture_output=True,
            text=True,
            check=False,
        )
        report = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        return Verdict(done.returncode, done.stdout + done.stderr, report)

    return run


def test_a_good_loop_passes_and_the_tests_ran_on_it(judge: Judge) -> None:
    good = judge("selfcheck_loops:Fine", "--module", "test_locks", "test_sock_lowlevel")
    assert good.code == 0, good.text
    assert good.report["shortfalls"] == []
    assert "Fine" in good.report["loop_type"]
    for module in good.report["modules"].values():
        assert module["loops_run"] >= module["passed"] / 2
    assert good.last_line == f"{good.passed} passed, 0 failed"


def test_a_crash_fails_its_own_test_only(judge: Judge) -> None:
    good = judge("asyncio", *SOCKETS)
    bad = judge("selfcheck_loops:Crashing", *SOCKETS)
    crashed = bad.ids("crashed")
    assert bad.code == 1
    assert "test_sock_client_ops" in crashed
    assert bad.passed + len(crashed) == good.passed
    assert bad.ids("failed") == set()


def test_a_hang_fails_its_own_test_only(judge: Judge) -> None:
    good = judge("asyncio", *SOCKETS)
    bad = judge("selfcheck_loops:Hanging", *SOCKETS)
    assert bad.code == 1
    assert bad.ids("hung")
    assert bad.passed + len(bad.ids("hung")) == good.passed


def test_known_failures_are_excused_until_they_pass(judge: Judge, tmp_path: Path) -> None:
    known = str(tmp_path / "known.txt")
    judge("selfcheck_loops:Crashing", *SOCKETS, "--write-known-failures", known)
    excused = judge("selfcheck_loops:Crashing", *SOCKETS, "--known-failures", known)
    assert excused.code == 0, excused.text
    assert excused.last_line.endswith("passed, 0 failed")
    mended = judge("selfcheck_loops:Fine", *SOCKETS, "--known-failures", known, "--strict")
    assert mended.code == 1
    assert mended.report["known_failures_that_pass"]


def test_lost_callbacks_fall_short(judge: Judge) -> None:
    bad = judge("selfcheck_loops:Lossy", "--test", "test_events.*.test_call_soon_threadsafe")
    assert bad.code == 1
    assert any("threadsafe" in item["id"] for item in bad.report["shortfalls"])


def test_flaky_tests_are_told_and_fail_a_strict_run(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("SELFCHECK_MARK", str(mark))
    accept = ("--test", "test_sock_lowlevel.*.test_sock_accept")
    lenient = judge("selfcheck_loops:OnceWrong", *accept)
    assert lenient.code == 0, lenient.text
    assert lenient.report["flaky"]
    mark.rmdir()
    assert judge("selfcheck_loops:OnceWrong", *accept, "--strict").code == 1


def test_the_stdlib_loop_in_disguise_is_found_out(judge: Judge) -> None:
    disguised = judge("selfcheck_loops:Wrapper", "--module", "test_locks")
    assert disguised.code == 1
    assert disguised.report["escaped_to_stdlib_loop"]


def test_a_loop_that_cannot_be_imported_fails(judge: Judge) -> None:
    missing = judge("no_such_loop")
    assert missing.code != 0
    assert "no_such_loop" in missing.text


def test_a_module_list_runs_what_is_there_and_passes_over_the_rest(
    judge: Judge, tmp_path: Path
) -> None:
    names = tmp_path / "modules.txt"
    names.write_text("# some\ntest_lock*  # a pattern\ntest_of_tomorrow\n", encoding="utf-8")
    listed = judge("selfcheck_loops:Fine", "--module-list", str(names))
    assert listed.code == 0, listed.text
    assert set(listed.report["modules"]) == {"test_locks"}


def test_a_runner_that_is_stopped_leaves_no_process_behind() -> None:
    with subprocess.Popen(
        command("selfcheck_loops:Hanging", "-v", "--timeout", "60", *SOCKETS),
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:
        assert runner.stdout is not None
        # The first test to end tells that workers are there; the loop makes others hang.
        assert any(line.startswith("passed") for line in iter(runner.stdout.readline, ""))
        workers = children(runner.pid)
        runner.send_signal(signal.SIGTERM)
        runner.wait(90)
    assert workers
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []


def children(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8")
            except OSError:
                continue  # it has ended meanwhile
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry))
    return found
