"""What a run of a suite came to, by test, and how two runs compare."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from _suites import Suite, reason_for

# What says most about a test that had several outcomes: its setup's, its call's, its teardown's.
WEIGHT = ("passed", "xfailed", "skipped", "failed")


@dataclass
class Run:
    """One run of one suite."""

    exit_code: int
    outcomes: dict[str, str] = field(default_factory=dict)
    loops: Counter[str] = field(default_factory=Counter)
    # Tests in which a loop of asyncio's own was made.
    escaped: list[str] = field(default_factory=list)

    @property
    def counts(self) -> str:
        """Say how many tests had which outcome."""
        counts = Counter(self.outcomes.values())
        return ", ".join(f"{counts[word]} {word}" for word in reversed(WEIGHT) if counts[word])

    def passed(self, test: str) -> bool:
        """Tell whether this test ran and passed."""
        return self.outcomes.get(test) == "passed"

    @property
    def short(self) -> list[str]:
        """Return the tests that did not pass, whether or not they were expected to."""
        return [test for test, outcome in self.outcomes.items() if outcome != "passed"]


def read_run(report: Path, exit_code: int) -> Run:
    """Put together what the plugin wrote, a line for each phase of each test."""
    run = Run(exit_code)
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    for line in map(json.loads, lines):
        test, outcome = line["test"], line["outcome"]
        known = run.outcomes.get(test, "passed")
        run.outcomes[test] = max(known, outcome, key=WEIGHT.index)
        run.loops.update(line["loops"])
        if line["loops"].get("asyncio"):
            run.escaped.append(test)
    return run


@dataclass
class Verdict:
    """How Cloverleaf compares with asyncio."""

    # Each list holds lines to print.
    differences: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)
    on_both: list[str] = field(default_factory=list)
    # Why tests fall short on both loops, with how many do for that reason.
    on_both_for: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Tell whether the suite does on Cloverleaf what it does on asyncio."""
        return not self.differences and not self.complaints


def compare(suite: Suite, ours: Run, asyncio: Run, again: Run) -> Verdict:
    """Compare.

    `asyncio` is a run of what did not pass in `ours`, and `again` one, on Cloverleaf, of what
    passed there but not here.
    """
    verdict = Verdict(complaints=[*_complaints(ours), *_gaps(ours, asyncio)])
    for test in ours.short:
        outcome = ours.outcomes[test]
        why = reason_for(test, suite.differs)
        if asyncio.passed(test):
            if why is not None:
                verdict.known.append(f"{test}: {why}")
            elif again.passed(test):
                verdict.flaky.append(f"{test}: {outcome} at first, passed by itself")
            else:
                verdict.differences.append(f"{test}: {outcome}, and passed on asyncio")
        elif outcome == "failed":
            known = reason_for(test, suite.also_on_asyncio)
            if known is not None:
                verdict.on_both_for[known] += 1
            else:
                verdict.on_both.append(f"{test}: {asyncio.outcomes.get(test, 'not run')}")
    return verdict


def _gaps(ours: Run, asyncio: Run) -> Iterable[str]:
    """Say what asyncio's run does not tell of the tests that did not pass in ours."""
    if asyncio.exit_code not in (0, 1):
        yield f"pytest ended with {asyncio.exit_code} on asyncio"
    for test in ours.short:
        if test not in asyncio.outcomes:
            yield f"{test}: {ours.outcomes[test]}, and not run on asyncio"


def _complaints(run: Run) -> Iterable[str]:
    """Say what makes a run worthless, whatever its tests came to."""
    if run.exit_code not in (0, 1):
        yield f"pytest ended with {run.exit_code}"
    if "passed" not in run.outcomes.values():
        yield "no test passed"
    if not run.loops["cloverleaf"]:
        yield "no loop of Cloverleaf's was made"
    for test in run.escaped:
        yield f"{test}: a loop of asyncio's own was made"
