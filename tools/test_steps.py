"""A run of steps tells in its end what failed, for whoever sees only the end of a long output."""

from __future__ import annotations

import subprocess
from pathlib import Path

TOOLS = Path(__file__).parent

PYTEST = """
____________________ test_one[cloverleaf] ____________________
E   assert 1 == 2
FAILED tests/parity/test_some.py::test_one[cloverleaf] - assert 1 == 2
ERROR tests/parity/test_some.py::test_two[asyncio] - left behind: ['thread 5']
1 failed, 5 passed, 1 error in 2.00s
"""


def run(folder: Path, *steps: str) -> tuple[int, str]:
    """Make a run of these steps; return its exit status, and what it told in the end."""
    script = f'. "{TOOLS}/environment.sh"\nLOGS="{folder}"\n. "{TOOLS}/steps.sh"\n'
    script += "\n".join(steps) + "\nprintf 'THE END\\n'\nsummary"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.split("THE END\n")[1]


def ending(folder: Path, text: str) -> str:
    """What a run tells in the end of a step that says so and fails."""
    (folder / "said").write_text(text)
    code, told = run(folder, f"step 'pytest 3.13, io_uring' eval 'cat {folder}/said; false'")
    assert code == 1
    assert "1 steps, 1 failed" in told
    return told.split("\npytest 3.13, io_uring:\n")[1].split("\n1 steps")[0]


def test_what_failed_is_told_once_and_nothing_else(tmp_path: Path) -> None:
    assert ending(tmp_path, PYTEST + PYTEST).splitlines() == [
        "    FAILED tests/parity/test_some.py::test_one[cloverleaf] - assert 1 == 2",
        "    ERROR tests/parity/test_some.py::test_two[asyncio] - left behind: ['thread 5']",
    ]


def test_each_kind_of_failure_is_told(tmp_path: Path) -> None:
    lines = [
        "HUNG test_events.Poll.test_call: no end within 20 s",
        "DIFFERS: tests/test_a.py::test_b: failed, and passed on asyncio",
        "FAIL [   0.102s] cloverleaf::ring a_name",
        "test timers::tests::a_name ... FAILED",
        "error[E0308]: mismatched types",
        "python/cloverleaf/_base.py:3: error: Incompatible types  [assignment]",
        'File "/some/where/tests/parity/test_watch.py", line 7 in test_hanging',
    ]
    others = [
        "ERROR    asyncio:events.py:88 logged",
        "test timers::tests::other ... ok",
        "FAILED (known) test_events.Poll.test_other: 1",
    ]
    told = ending(tmp_path, "\n".join([*lines, *others]))
    assert told.splitlines() == [f"    {line}" for line in lines]


def test_colours_are_taken_off(tmp_path: Path) -> None:
    assert ending(tmp_path, "\x1b[31mFAILED\x1b[0m a_test - no\n") == "    FAILED a_test - no\n"


def test_of_very_many_the_first_twenty_are_told(tmp_path: Path) -> None:
    told = ending(tmp_path, "".join(f"FAILED test_{n}\n" for n in range(25))).splitlines()
    assert told[19:] == [
        "    FAILED test_19",
        f"    and 5 more, see {tmp_path}/pytest-3.13--io-uring.log",
    ]


def test_a_step_that_names_nothing_is_told_by_its_end(tmp_path: Path) -> None:
    told = ending(tmp_path, "".join(f"line {n}\n" for n in range(9)))
    assert told.splitlines() == [f"    line {n}" for n in range(4, 9)]


def test_steps_that_passed_or_were_skipped_are_not_told_of(tmp_path: Path) -> None:
    code, told = run(tmp_path, "step good echo FAILED", "step late eval 'echo ERROR a; exit 77'")
    assert code == 0
    assert "ERROR a\n\n2 steps, 0 failed" in told
