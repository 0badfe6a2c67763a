"""What makes a suite differ on Cloverleaf, and what does not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from _outcomes import Run, compare, read_run
from _suites import Suite, read_suites

SUITE = Suite(
    name="some",
    version="1",
    sha256="",
    differs={"test_white_box*": "looks inside"},
    also_on_asyncio={"test_ipv6*": "needs IPv6"},
)


def run(*, code: int = 1, made: int = 3, **outcomes: str) -> Run:
    return Run(code, {"test_good": "passed", **outcomes}, Counter(cloverleaf=made))


def test_a_run_in_which_all_passes_holds() -> None:
    assert compare(SUITE, run(code=0), Run(0), Run(0)).holds


@pytest.mark.parametrize("outcome", ["failed", "skipped", "xfailed"])
def test_what_passes_only_on_asyncio_differs(outcome: str) -> None:
    verdict = compare(SUITE, run(test_a=outcome), run(test_a="passed"), run(test_a=outcome))
    assert not verdict.holds
    assert verdict.differences == [f"test_a: {outcome}, and passed on asyncio"]


def test_what_passes_when_it_runs_again_is_flaky() -> None:
    verdict = compare(SUITE, run(test_a="failed"), run(test_a="passed"), run(test_a="passed"))
    assert verdict.holds
    assert len(verdict.flaky) == 1


def test_what_is_known_to_differ_is_told_with_its_reason() -> None:
    ours, theirs = run(test_white_box="failed"), run(test_white_box="passed")
    verdict = compare(SUITE, ours, theirs, ours)
    assert verdict.holds
    assert verdict.known == ["test_white_box: looks inside"]


def test_what_fails_on_both_is_told_with_its_reason_or_by_name() -> None:
    both = run(test_ipv6="failed", test_other="failed")
    verdict = compare(SUITE, both, both, Run(0))
    assert verdict.holds
    assert verdict.on_both_for == {"needs IPv6": 1}
    assert verdict.on_both == ["test_other: failed"]


@pytest.mark.parametrize(
    "worthless",
    [
        run(code=0, made=0),
        run(code=2),
        Run(5, {}, Counter(cloverleaf=1)),
        Run(0, {"test_good": "passed"}, Counter(cloverleaf=1), ["test_good"]),
    ],
    ids=["no loop of ours", "pytest ended otherwise", "no test", "a loop of asyncio's"],
)
def test_a_run_that_proves_nothing_does_not_hold(worthless: Run) -> None:
    assert not compare(SUITE, worthless, Run(0), Run(0)).holds


@pytest.mark.parametrize("code", [-1, 2, 5])
@pytest.mark.parametrize("outcome", ["failed", "skipped", "xfailed"])
def test_a_broken_run_on_asyncio_does_not_hold(code: int, outcome: str) -> None:
    ours = run(test_a=outcome)
    for outcomes in ({}, {"test_a": outcome}, {"test_a": "passed"}):
        theirs = Run(code, dict(outcomes))
        verdict = compare(SUITE, ours, theirs, run(test_a="passed"))
        assert not verdict.holds
        assert f"pytest ended with {code} on asyncio" in verdict.complaints


@pytest.mark.parametrize("outcome", ["failed", "skipped", "xfailed"])
def test_what_asyncio_was_to_run_and_did_not_is_told(outcome: str) -> None:
    ours = run(test_a=outcome, test_ipv6=outcome)
    verdict = compare(SUITE, ours, Run(1, {"test_ipv6": outcome}), Run(0))
    assert not verdict.holds
    assert verdict.complaints == [f"test_a: {outcome}, and not run on asyncio"]


def test_a_report_is_put_together_by_test(tmp_path: Path) -> None:
    report = tmp_path / "report"
    phases = [
        ("test_a", "passed", {"cloverleaf": 1}),
        ("test_a", "failed", {"cloverleaf": 1}),
        ("test_a", "passed", {}),
        ("test_b", "passed", {"asyncio": 1}),
    ]
    report.write_text(
        "".join(
            json.dumps({"test": test, "outcome": outcome, "loops": loops}) + "\n"
            for test, outcome, loops in phases
        )
    )
    read = read_run(report, 1)
    assert read.outcomes == {"test_a": "failed", "test_b": "passed"}
    assert read.loops == {"cloverleaf": 2, "asyncio": 1}
    assert read.escaped == ["test_b"]


def test_the_described_suites_can_be_read() -> None:
    suites = read_suites()
    assert {"anyio", "aiohttp", "uvicorn"} <= {s.name for s in suites.values() if s.by_default}
    for suite in suites.values():
        assert f"{suite.name}==" in suite.requirements.read_text()
        assert all([*suite.differs.values(), *suite.also_on_asyncio.values()])
