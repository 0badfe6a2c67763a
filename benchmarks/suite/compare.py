"""Two commits of Cloverleaf at the same workloads, round by round: which ones became dearer?

Each commit is checked out beside the tree, built and installed into an environment of its own; the
workloads, the load generator and everything else are this tree's. A workload is called dearer when
the median of the rounds' ratios says so and three rounds in four agree.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.suite import environment, processor
from benchmarks.suite.conversation import LoopFailedError
from benchmarks.suite.loops import OURS
from benchmarks.suite.services import NoServiceError, Services
from benchmarks.suite.session import Bench, Session
from benchmarks.suite.summary import cpu_us
from benchmarks.suite.workload import Workload
from benchmarks.workloads import registry

ROOT = Path(__file__).resolve().parent.parent.parent
AGREEMENT = 0.75


@dataclass(frozen=True)
class Change:
    """What became of one workload."""

    name: str
    #: CPU time for an operation, before and after, in microseconds: the medians of the rounds.
    before: float
    after: float
    #: The rounds' ratios of after to before.
    ratios: list[float]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)

    def verdict(self, tolerance: float) -> str:
        """`dearer`, `cheaper` or nothing."""
        if self.ratio > 1 + tolerance and self._agree(lambda ratio: ratio > 1):
            return "dearer"
        if self.ratio < 1 - tolerance and self._agree(lambda ratio: ratio < 1):
            return "cheaper"
        return ""

    def _agree(self, test: Callable[[float], bool]) -> bool:
        return sum(map(test, self.ratios)) >= AGREEMENT * len(self.ratios)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="benchmarks/compare.py",
        description="Compares two commits of Cloverleaf; fails when a workload became dearer.",
    )
    add = options.add_argument
    add("before", help="a commit")
    add("after", nargs="?", default="HEAD", help="another one (default: HEAD)")
    add("--only", action="append", default=[], metavar="PATTERN", help="workloads by name")
    add("--rounds", type=int, default=7, help="how often each commit is measured (default: 7)")
    add("--window", type=int, default=300, metavar="MS", help="how long each time (default: 300)")
    add("--tolerance", type=float, default=0.1, help="what is no change (default: 0.1)")
    add("--python", default=sys.executable, help="the CPython for both: PGO and LTO, please")
    add("--venvs", type=Path, default=ROOT / "benchmarks" / ".compare", help="for environments")
    add("--no-build", action="store_true", help="measure what the environments hold already")
    add("--load", type=Path, metavar="BINARY", help="a load generator that is built already")
    add("--pin", choices=("split", "same", "none"), default="split", help="loops and load on cores")
    add("--output", type=Path, metavar="FILE", help="save everything as JSON")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Compares; 1 if a workload became dearer, 2 if it could not be told."""
    options = parser().parse_args(arguments)
    workloads = registry.matching(options.only)
    if not workloads:
        parser().error("no workload matches --only")
    cores = processor.choose(options.pin)
    try:
        pythons = [install(options, each) for each in ("before", "after")]
        load = (options.load or environment.load_generator(ROOT)).resolve()
    except environment.SetupError as problem:
        environment.say(str(problem))
        return 2
    changes = []
    with Services(cores.load) as services:
        benches = [Bench(python, load, ROOT, cores, True, 100, services) for python in pythons]
        for workload in workloads:
            try:
                changes.append(compare(benches, workload, options.rounds, options.window))
            except NoServiceError as problem:
                environment.say(f"{workload.name}: not measured, {problem}")
                continue
            except LoopFailedError as failure:
                environment.say(f"{workload.name}: {failure.reason}")
                return 2
            environment.say(line(changes[-1], options.tolerance))
    sys.stdout.write(table(changes, options.tolerance))
    if options.output:
        options.output.write_text(json.dumps([asdict(each) for each in changes], indent=1) + "\n")
    return int(any(each.verdict(options.tolerance) == "dearer" for each in changes))


def install(options: argparse.Namespace, which: str) -> Path:
    """Builds a commit into an environment of its own, if it must; returns its interpreter."""
    commit: str = getattr(options, which)
    python = environment.virtual_environment(options.python, options.venvs / which)
    if options.no_build:
        return python
    with tempfile.TemporaryDirectory(prefix="cloverleaf-compare-") as directory:
        tree = Path(directory) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            problem = environment.install(python, [OURS], str(tree)).get(OURS)
        finally:
            git("worktree", "remove", "--force", str(tree))
    if problem:
        raise environment.SetupError(f"{commit} cannot be installed: {problem}")
    return python


def git(*words: str) -> None:
    """Runs git in this tree."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise environment.SetupError(f"git {words[0]}: {environment.last_line(done.stderr)}")


def compare(benches: list[Bench], workload: Workload, rounds: int, window_ms: int) -> Change:
    """Measures one workload on both, turn about.

    Each time in a new process: where a process has its memory makes it quicker or slower by up to a
    fifth for as long as it lives, and then all its rounds would agree on a change that is none.
    """
    times: list[list[float]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            with Session(benches[which], OURS, workload) as session:
                times[which].append(cpu_us(session.measure(window_ms)))
    return change(workload.name, *times)


def change(name: str, before: list[float], after: list[float]) -> Change:
    """Sums the rounds up."""
    ratios = [new / old for old, new in zip(before, after, strict=True)]
    return Change(name, median(before), median(after), ratios)


def line(each: Change, tolerance: float) -> str:
    """One workload in words."""
    figures = f"{each.before:.3f} -> {each.after:.3f} us, ratio {each.ratio:.2f}"
    return f"{each.name}: {figures} {each.verdict(tolerance)}".rstrip()


def table(changes: list[Change], tolerance: float) -> str:
    """Every workload, in Markdown."""
    rows = [
        "| workload | before, µs | after, µs | after / before | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    rows += [
        f"| {each.name} | {each.before:.3f} | {each.after:.3f} | {each.ratio:.2f} "
        f"({min(each.ratios):.2f} to {max(each.ratios):.2f}) | {each.verdict(tolerance)} |"
        for each in changes
    ]
    return "\n".join(rows) + "\n"
