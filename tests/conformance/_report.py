"""What a run amounts to: counts, what fell short and why, and the verdict.

Promises: no passed test counts that had no loop under test in it, and no known failure is excused
that is not in the list.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import re
import time
from dataclasses import dataclass, field
from typing import Any

from _classify import KINDS
from _suite import Entry, Suite
from _workers import Event

FELL_SHORT = ("failed", "crashed", "hung", "lost")
COUNTED = (
    "passed",
    "passed_running",
    *FELL_SHORT,
    "skipped",
    "flaky",
    "loop-free",
    "fake-loop",
    "white-box",
    "duplicate",
)
EXCEPTION = re.compile(
    r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning|Panic\w*|Timeout\w*|Stopper)\b"
)

Report = dict[str, Any]
Known = dict[str, str]


def reason_in_short(entry: Entry) -> str:
    """Return one line of a failure's detail, without this machine's paths."""
    detail: str = entry["detail"]
    if entry["status"] in ("crashed", "hung"):
        first, _, rest = detail.partition("\n")
        place = re.search(r'File ".*/(test_asyncio/\w+\.py)", line (\d+)', rest)
        why = re.search(r"panicked at [^\n]*\n?[^\n]*", rest)
        parts = (
            first,
            why[0].replace("\n", " ") if why else "",
            f"at {place[1]}:{place[2]}" if place else "",
        )
        reason = "; ".join(filter(None, parts))
    else:
        # The last exception of a chain is the one that failed the test.
        lines = [n for n in detail.splitlines() if n.strip()] or [""]
        reason = next((n for n in reversed(lines) if EXCEPTION.match(n)), lines[-1])
    reason = re.sub(r"/(?:[\w.@+-]+/)+", ".../", reason)
    return re.sub(r"0x[0-9a-f]{6,}", "0x...", reason)[:240]


def read_known(paths: list[str]) -> Known:
    """Return {id or pattern: reason}: one a line, '#' starts the reason."""
    known: Known = {}
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for line in f:
                pattern, _, reason = line.partition("#")
                if pattern.strip():
                    known[pattern.strip()] = reason.strip()
    return known


def matches(test_id: str, pattern: str) -> bool:
    """Tell whether a known failure's pattern is or means that test."""
    return test_id == pattern or fnmatch.fnmatchcase(test_id, pattern)


def is_known(test_id: str, known: Known) -> bool:
    """Tell whether a test may fall short."""
    return any(matches(test_id, pattern) for pattern in known)


@dataclass
class Run:
    """All that a finished run knows."""

    options: argparse.Namespace
    suite: Suite
    kinds: dict[str, tuple[str, str]]  # test -> its class, and the reason of that
    whole: dict[str, str]  # modules that are white-box as a whole
    collected: dict[str, Event]
    known: Known
    began: float


@dataclass
class _Tally:
    """What is added up while the tests are gone through."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    modules: dict[str, collections.Counter[str]] = field(default_factory=dict)
    shortfalls: list[dict[str, str]] = field(default_factory=list)
    flaky: list[dict[str, str]] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    still_short: set[str] = field(default_factory=set)  # known failures that were seen to fail

    def add(self, run: Run, test_id: str, kind: str) -> None:
        """Count one test."""
        module = self.modules.setdefault(test_id.split(".")[0], collections.Counter())
        if kind != "behavioural":
            module[kind] += 1
            self.counts[kind] += 1
            return
        entry = run.suite.results.get(test_id) or {
            "status": "lost",
            "detail": "no result came back",
        }
        status: str = entry["status"]
        loops: collections.Counter[str] = collections.Counter(entry.get("loops") or {})
        if not run.suite.runs_are_seen:
            loops["ran"] = loops["made"]
        module["loops_made"] += loops["made"] or status in ("crashed", "hung")
        module["loops_run"] += loops["ran"]
        if loops["stdlib"]:
            self.escaped.append(test_id)
        counted = self._counted_as(status, loops)
        module[counted] += 1
        self.counts[counted] += 1
        if counted in FELL_SHORT:
            self._fell_short(run, test_id, entry)
        elif counted == "passed" and "first" in entry and not entry["first"].get("tainted"):
            self.flaky.append({"id": test_id, "reason": reason_in_short(entry["first"])})

    def _counted_as(self, status: str, loops: collections.Counter[str]) -> str:
        """Passing says nothing about a loop that had no part in it."""
        if status != "passed":
            return status
        if not loops["made"] and not loops["ran"]:
            return "loop-free"
        if loops["fake_ran"] and not loops["ran"]:
            return "fake-loop"
        if loops["ran"]:
            self.counts["passed_running"] += 1
        return status

    def _fell_short(self, run: Run, test_id: str, entry: Entry) -> None:
        self.shortfalls.append(
            {"id": test_id, "status": entry["status"], "reason": reason_in_short(entry)}
        )
        excuses = {pattern for pattern in run.known if matches(test_id, pattern)}
        self.still_short |= excuses
        if not excuses:
            self.unexpected.append(test_id)


def _fixed(run: Run, tally: _Tally) -> set[str]:
    """Return the known failures that now pass."""
    fixed = set(run.known) - tally.still_short
    if run.options.module or run.options.module_list or run.options.test:
        return {p for p in fixed if p in run.kinds}
    # One that was skipped, or that this Python does not have, is not fixed.
    return {
        pattern
        for pattern in fixed
        if any(
            run.suite.results.get(test_id, {}).get("status") == "passed"
            for test_id in run.kinds
            if matches(test_id, pattern)
        )
    }


def _verdict(run: Run, tally: _Tally, fixed: set[str], broken: list[str]) -> str:
    if tally.unexpected or broken:
        return "failed"
    if tally.escaped:
        return "tests escaped to the stdlib's loop"
    if not tally.counts["passed"] and not run.options.test:
        return "no test made a loop under test"
    if run.options.strict and (tally.flaky or fixed):
        return "flaky tests or known failures that now pass"
    return "ok"


def summarise(run: Run) -> Report:
    """Add up a run."""
    tally = _Tally()
    for test_id, (kind, _) in sorted(run.kinds.items()):
        tally.add(run, test_id, kind)
    fixed = _fixed(run, tally)
    broken = {
        name: reason_in_short({"status": "failed", "detail": found["error"]})
        for name, found in run.collected.items()
        if found.get("error")
    }
    tally.counts["flaky"] = len(tally.flaky)
    ready = run.suite.ready
    return {
        "loop": run.options.loop,
        "loop_type": ready["loop_type"],
        "loop_version": ready["version"],
        "python": ready["python"],
        "verdict": _verdict(run, tally, fixed, list(broken)),
        "seconds": round(time.monotonic() - run.began, 1),
        "counts": {k: tally.counts[k] for k in COUNTED},
        "loop_runs_seen": run.suite.runs_are_seen,
        "white_box_modules": run.whole,
        "skipped_modules": {n: m["skipped"] for n, m in run.collected.items() if m.get("skipped")},
        "broken_modules": broken,
        "loop_never_made_in": sorted(
            n for n, t in tally.modules.items() if not t["loops_made"] and t.keys() - set(KINDS)
        ),
        "escaped_to_stdlib_loop": tally.escaped,
        "modules": {n: dict(t) for n, t in sorted(tally.modules.items())},
        "shortfalls": tally.shortfalls,
        "unexpected": tally.unexpected,
        "flaky": tally.flaky,
        "fixture_failures": [
            {"id": f["id"], "reason": reason_in_short(f)}
            for f in run.suite.fixtures
            if f["status"] == "failed"
        ],
        "known_failures_that_pass": sorted(fixed),
    }


def show(options: argparse.Namespace, report: Report) -> None:
    """Print what a reader of the run wants to know."""
    if options.include_white_box:
        print("white-box and duplicate tests were run too; they do not count")
    for item in report["shortfalls"]:
        mark = "" if item["id"] in report["unexpected"] else " (known)"
        print(f"{item['status'].upper()}{mark} {item['id']}: {item['reason']}")
    for item in report["flaky"]:
        print(f"FLAKY {item['id']}: {item['reason']}")
    for test_id in report["known_failures_that_pass"]:
        print(f"known failure that now passes: {test_id}")
    for name, error in report["broken_modules"].items():
        print(f"MODULE {name} could not be loaded: {error}")
    for test_id in report["escaped_to_stdlib_loop"]:
        print(f"ESCAPED to the stdlib's loop: {test_id}")
    if report["loop_never_made_in"]:
        print("no loop under test was made in:", ", ".join(report["loop_never_made_in"]))
    counts = ", ".join(f"{v} {k}" for k, v in report["counts"].items() if v)
    print(f"{counts}; {report['seconds']:.0f} s; {report['verdict']}")


def write_known(path: str, report: Report) -> None:
    """Write the tests that fell short, with their reasons, in the form that read_known reads."""
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"# {report['loop']} {report['loop_version'] or ''} on Python {report['python']}\n")
        f.writelines(
            f"{item['id']}  # {item['status']}: {item['reason']}\n" for item in report["shortfalls"]
        )
