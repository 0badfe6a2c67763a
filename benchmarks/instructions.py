#!/usr/bin/env python3
"""Counts a loop's instructions for one operation: `benchmarks/instructions.py --help` says how.

Each loop runs in a process of its own under valgrind's callgrind, at the workloads of the other
benchmarks. What the kernel does is not in it, nor what caches cost: it is no time. But it hardly
differs from run to run, on whatever else the machine does, and so shows what a clock cannot: a
change of a hundredth. Two windows are counted, and the figure is what the longer one has more, for
the operations that it has more: what comes once for a window is in neither.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.suite import environment, processor
from benchmarks.suite.conversation import LoopFailedError
from benchmarks.suite.loops import OURS
from benchmarks.suite.services import NoServiceError, Services
from benchmarks.suite.session import PATIENCE, Bench, Session
from benchmarks.suite.workload import LoopWorkload, Workload
from benchmarks.workloads import registry

ROOT = Path(__file__).resolve().parent.parent
WINDOWS_MS = (300, 1200)
TOTALS = "totals: "

#: By workload and loop: instructions for an operation, round by round, or why there are none.
Found = dict[str, dict[str, list[float] | str]]


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description="Counts instructions outside of the kernel.")
    add = options.add_argument
    add("--only", action="append", default=[], metavar="PATTERN", help="workloads by name")
    add("--loops", default="asyncio,uvloop,rloop,cloverleaf", metavar="A,B", help="of those")
    add("--rounds", type=int, default=1, help="how often each is counted (default: 1)")
    add("--python", type=Path, default=Path(sys.executable), help="the Python with the loops")
    add("--load", type=Path, metavar="BINARY", help="a load generator that is built already")
    add("--json", action="store_true", help="print every single count")
    return options


def total(dump: str) -> int:
    """The instructions of which one of callgrind's files tells, of all threads."""
    lines = [line for line in dump.splitlines() if line.startswith(TOTALS)]
    if not lines:
        raise LoopFailedError("callgrind has counted nothing")
    return sum(int(line.removeprefix(TOTALS).split()[0]) for line in lines)


def per_operation(windows: Sequence[tuple[int, int]]) -> float:
    """Instructions for an operation, by those and the operations of a short and a long window."""
    (few, cheap), (many, dear) = windows
    if many <= few:
        raise LoopFailedError(f"{few} operations in the short window, {many} in the long one")
    return (dear - cheap) / (many - few)


class Counted:
    """A session under callgrind."""

    def __init__(self, bench: Bench, loop: str, workload: Workload, folder: Path) -> None:
        self._dumps = folder / "counts"
        callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self._dumps}"]
        self._session = Session(replace(bench, under=tuple(callgrind)), loop, workload)
        self._number = 0

    def close(self) -> None:
        """Ends the processes."""
        self._session.close()

    def window(self, window_ms: int) -> tuple[int, int]:
        """The operations of a window, and the instructions since the last look."""
        operations = int(self._session.measure(window_ms)["operations"])
        return operations, self.look()

    def look(self) -> int:
        """The instructions since the last look."""
        command = ["callgrind_control", "--dump", str(self._session.pid)]
        try:
            asked = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise LoopFailedError("callgrind does not answer") from None
        self._number += 1
        dump = self._dumps.with_name(f"{self._dumps.name}.{self._number}")
        if asked.returncode or not dump.exists():
            raise LoopFailedError(f"callgrind does not answer: {asked.stderr.strip()}")
        return total(dump.read_text())


def count(bench: Bench, loop: str, workload: Workload) -> float:
    """The instructions for an operation. Raises LoopFailedError where that cannot be told."""
    with tempfile.TemporaryDirectory(prefix="cloverleaf-bench-") as folder:
        session = Counted(bench, loop, workload, Path(folder))
        with contextlib.closing(session):
            # The first of all operations are dearer than all others.
            session.window(WINDOWS_MS[0])
            return per_operation([session.window(window_ms) for window_ms in WINDOWS_MS])


def compare(bench: Bench, loops: list[str], workload: Workload, rounds: int) -> Found:
    """Every loop at one workload."""
    row: dict[str, list[float] | str] = {}
    for loop in loops:
        try:
            row[loop] = [count(bench, loop, workload) for _ in range(rounds)]
        except (LoopFailedError, NoServiceError) as problem:
            row[loop] = str(problem)
    return {workload.name: row}


def table(found: Found, loops: list[str]) -> str:
    """What was counted, in Markdown."""
    peers = [loop for loop in loops if loop != OURS]
    lines = [f"| instructions | {' | '.join(loops)} | {OURS} / best peer |"]
    lines.append("| --- " + "| ---: " * (len(loops) + 1) + "|")
    for name, row in found.items():
        medians = {
            loop: statistics.median(counts)
            for loop, counts in row.items()
            if isinstance(counts, list)
        }
        cells = [f"{medians[loop]:,.0f}" if loop in medians else "cannot" for loop in loops]
        best = min((loop for loop in peers if loop in medians), key=medians.__getitem__, default="")
        ratio = f"{medians[OURS] / medians[best]:.2f} ({best})" if best and OURS in medians else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def main() -> int:
    """Counts, and prints a table or JSON."""
    options = parser().parse_args()
    lacking = [name for name in ("valgrind", "callgrind_control") if shutil.which(name) is None]
    if lacking:
        environment.say(f"not installed: {', '.join(lacking)} (apt-get install valgrind)")
        return 1
    loops = options.loops.split(",")
    load = (options.load or environment.load_generator(ROOT)).resolve()
    cores = processor.choose("split")
    services = Services(cores.load)
    bench = Bench(options.python.absolute(), load, ROOT, cores, True, 100, services)
    found: Found = {}
    os.sched_setaffinity(0, cores.load)
    with services:
        for workload in registry.matching(options.only, registry.WORKLOADS):
            if isinstance(workload, LoopWorkload) and workload.children:
                continue  # callgrind counts none of theirs
            found |= compare(bench, loops, workload, options.rounds)
            environment.say(table({workload.name: found[workload.name]}, loops).splitlines()[-1])
    sys.stdout.write((json.dumps(found, indent=2) if options.json else table(found, loops)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
