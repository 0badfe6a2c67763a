"""Runs the own test suites of real projects on Cloverleaf; the bar is "as on asyncio".

    python run_suites.py --wheel WHEEL [--everything] [SUITE ...]

A suite runs on Cloverleaf as a whole. What did not pass there runs again on asyncio, and a test
that passes only on asyncio fails the command, unless `suites.toml` has a reason. So does a run in
which no loop of Cloverleaf's was made, or one of asyncio's own was. Where the index, or the server
of a suite, cannot be reached and nothing has been fetched before, the suite is skipped, and the
output says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from _environment import fetch_tests, is_online, make_venv
from _outcomes import Run, Verdict, compare, read_run
from _suites import HERE, Suite, read_suites

ROOT = HERE.parent.parent
LIMIT = 900  # seconds for one run of a suite


@dataclass(frozen=True)
class Place:
    """Where a suite runs."""

    suite: Suite
    python: Path
    tests: Path
    results: Path

    def run(self, loop: str, only: Collection[str] | None = None, name: str = "") -> Run:
        """Run the suite, or only these of its tests, on one of the loops."""
        if only is not None and not only:
            return Run(0)
        stem = self.results / f"{self.suite.name}-{name or loop}"
        report = stem.with_suffix(".jsonl")
        report.unlink(missing_ok=True)
        chosen = stem.with_suffix(".tests")
        chosen.write_text("\n".join(only or ()), encoding="utf-8")
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
            **self.suite.environment,
            "ECOSYSTEM_LOOP": loop,
            "ECOSYSTEM_REPORT": str(report),
            "ECOSYSTEM_ONLY": str(chosen) if only else "",
            "PYTHONPATH": str(HERE / "plugin"),
        }
        command = [str(self.python), "-m", "pytest", "-p", "substitute_loops", "-p"]
        command += ["no:cacheprovider", "-q", *self.suite.arguments]
        with stem.with_suffix(".log").open("w", encoding="utf-8") as log:
            try:
                code = subprocess.run(
                    command,
                    cwd=self.tests,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                print(f"{self.suite.name}: took more than {LIMIT} s on {loop}", flush=True)
                code = -1
        return read_run(report, code)


def judge(place: Place, *, everything: bool) -> Verdict:
    """Run a suite on Cloverleaf, and on asyncio what did not pass there, or everything."""
    suite = place.suite
    began = time.monotonic()
    ours = place.run("cloverleaf")
    print(
        f"{suite.name} {suite.version}: {ours.counts}; {ours.loops['cloverleaf']} loops of"
        f" Cloverleaf's, {ours.loops['asyncio']} of asyncio's, {time.monotonic() - began:.0f} s"
    )
    asyncio = place.run("asyncio", None if everything else ours.short)
    if everything:
        print(f"{suite.name} on asyncio: {asyncio.counts}")
    doubtful = [test for test in ours.short if asyncio.passed(test)]
    return compare(suite, ours, asyncio, place.run("cloverleaf", doubtful, "again"))


def tell(name: str, verdict: Verdict) -> None:
    """Print what a suite came to."""
    for why, count in verdict.on_both_for.items():
        print(f"  {count} fall short on both loops: {why}")
    for title, lines in (
        ("falls short on both loops", verdict.on_both),
        ("known to differ", verdict.known),
        ("flaky", verdict.flaky),
        ("DIFFERS", verdict.differences),
        ("WORTHLESS", verdict.complaints),
    ):
        for line in lines:
            print(f"  {title}: {line}")
    print(f"{name}: {'as on asyncio' if verdict.holds else 'NOT as on asyncio'}", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="instead of the default ones")
    parser.add_argument("--wheel", type=Path, required=True, help="the wheel of Cloverleaf to test")
    parser.add_argument(
        "--everything", action="store_true", help="run all of it on asyncio as well"
    )
    return parser.parse_args()


def main() -> int:
    """Run the suites; return the number of those that differ."""
    arguments = parse()
    known = read_suites()
    names = arguments.suites or [name for name, suite in known.items() if suite.by_default]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no suite {', '.join(unknown)}; known: {', '.join(known)}")
    cache = ROOT / "target/ecosystem"
    tag = f"{sys.version_info.major}.{sys.version_info.minor}"
    online = is_online()
    ended = {"passed": 0, "failed": 0, "skipped": 0}
    for name in names:
        suite = known[name]
        try:
            tests = fetch_tests(suite, cache)
            folder = ROOT / ".venvs" / f"{name}-{tag}"
            python = make_venv(suite, folder, arguments.wheel.resolve())
        except subprocess.CalledProcessError:
            if online:
                raise
            print(f"{name}: skipped, the package index cannot be reached")
            ended["skipped"] += 1
            continue
        except OSError as error:
            print(f"{name}: skipped, {suite.url} cannot be reached: {error}")
            ended["skipped"] += 1
            continue
        results = cache / "results" / tag
        results.mkdir(parents=True, exist_ok=True)
        place = Place(suite, python, tests, results)
        verdict = judge(place, everything=arguments.everything)
        tell(name, verdict)
        ended["passed" if verdict.holds else "failed"] += 1
    print(", ".join(f"{count} {word}" for word, count in ended.items()))
    return ended["failed"]


if __name__ == "__main__":
    sys.exit(main())
