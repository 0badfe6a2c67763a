#!/usr/bin/env python3
"""Compares Cloverleaf's files with those of other packages: `benchmarks/files/run.py --help`.

Every measurement has a process of its own, and the packages take turns within a round. CPU time is
that of the whole process, threads included. "floor" is a program in Rust that makes the same system
calls and nothing else (`cloverleaf-load read`); "c" is one in C (`read.c`) that makes them by the C
library, of as many files as there are tasks; "plain" is `os.pread`, the built-in `open` and
`shutil`, which hold a loop up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MIB = 1 << 20


@dataclass(frozen=True)
class Workload:
    """What is measured, on a file of which size, and how often."""

    name: str
    title: str
    size: int
    count: int
    packages: tuple[str, ...]


OTHERS = ("aiofiles", "anyio", "turbofile", "urio", "ayafileio", "aerofs", "asyncfiles")
FLOORS = ("floor", "c")
READERS = ("cloverleaf", *OTHERS, "aiofile", "executor")
DIRECT = ("cloverleaf", "executor")
# "cloverleaf-open" reads by `async with cloverleaf.open(...)`, not by `read_bytes`.
WHOLES = ("plain", "cloverleaf", "cloverleaf-open", *OTHERS, "aiofile")
COPIES = ("plain", "cloverleaf", *OTHERS)

WORKLOADS = (
    Workload(
        "hot-1",
        "4 KiB random, cached, one at a time",
        64 * MIB,
        25600,
        (*FLOORS, "plain", *READERS),
    ),
    Workload(
        "hot-64", "4 KiB random, cached, 64 tasks", 64 * MIB, 25600, (*FLOORS, "plain", *READERS)
    ),
    Workload(
        "cold-1", "4 KiB random, not cached, one at a time", 256 * MIB, 1600, ("plain", *READERS)
    ),
    Workload("cold-64", "4 KiB random, not cached, 64 tasks", 256 * MIB, 6400, READERS),
    Workload("direct-1", "4 KiB random, O_DIRECT, one at a time", 256 * MIB, 1600, DIRECT),
    Workload("direct-64", "4 KiB random, O_DIRECT, 64 tasks", 256 * MIB, 6400, DIRECT),
    Workload("whole-1m", "a whole file of 1 MiB, cached", MIB, 300, WHOLES),
    Workload("copy-1g", "a copy of 1 GiB", 1024 * MIB, 1, COPIES),
    Workload("stream-64k", "1 GiB by reads of 64 KiB and writes", 1024 * MIB, 1, COPIES),
    Workload("stream-1m", "1 GiB by reads of 1 MiB and writes", 1024 * MIB, 1, COPIES),
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description="Compares packages for asynchronous files.")
    add = options.add_argument
    add("--only", action="append", default=[], metavar="PATTERN", help="workloads by name")
    add("--packages", metavar="A,B", help="of those (default: all that are installed)")
    add("--rounds", type=int, default=5, help="how often each is measured")
    add("--python", default=sys.executable, help="the Python in which the packages are installed")
    add("--load", type=Path, help="a cloverleaf-load that is built already, for the floor")
    add("--folder", type=Path, default=Path("/var/tmp"), help="where the files are made")
    add("--output", type=Path, default=ROOT / "benchmarks/results/local", help="for JSON and table")
    add("--list", action="store_true", help="name the workloads, and stop")
    return options


def make_file(folder: Path, size: int) -> Path:
    """Make a file of this size, on the disk, unless there is one."""
    path = folder / f"cloverleaf-bench-{size}"
    if not path.exists() or path.stat().st_size != size:
        with path.open("wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
            os.fsync(file.fileno())
    with path.open("rb") as file:
        while file.read(16 * MIB):
            pass
    return path


def compiled(folder: Path) -> Path | None:
    """Make a program of `read.c`, if there is a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = folder / "read"
    source = Path(__file__).with_name("read.c")
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return program


def measure(options: argparse.Namespace, workload: Workload, package: str, path: Path) -> object:
    """Measure once; a string says why that cannot be."""
    if package == "floor":
        if options.load is None:
            return "no --load"
        command = [str(options.load), "read", str(path), str(workload.count)]
    elif package == "c":
        if options.program is None:
            return "no compiler"
        tasks = workload.name.rpartition("-")[2]
        command = [str(options.program), str(path), str(workload.count), tasks]
    else:
        command = [options.python, "-m", "benchmarks.files.child", workload.name, package]
        command += [str(path), str(workload.count)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        return ended.stderr.strip().splitlines()[-1] if ended.stderr else "failed"
    return json.loads(ended.stdout)


def compare(options: argparse.Namespace, workload: Workload) -> dict[str, object]:
    """Measure each package in turn, round by round."""
    path = make_file(options.folder, workload.size)
    wanted = options.packages.split(",") if options.packages else workload.packages
    packages = [package for package in workload.packages if package in wanted]
    found: dict[str, list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    for number in range(options.rounds):
        first = number % len(packages)
        for package in packages[first:] + packages[:first]:
            result = measure(options, workload, package, path)
            if isinstance(result, dict):
                found.setdefault(package, []).append(result)
            else:
                failed[package] = str(result)
    return {"workload": workload.name, "results": found, "failed": failed}


def median(results: list[dict[str, float]], key: str) -> float:
    return statistics.median(each[key] for each in results)


def table(rows: list[dict[str, object]]) -> str:
    """Return what was measured as a table in Markdown."""
    lines = ["| workload | package | CPU µs | wall µs | CPU, of Cloverleaf's |", "|-|-|-:|-:|-:|"]
    for row in rows:
        results: dict[str, list[dict[str, float]]] = row["results"]  # type: ignore[assignment]
        ours = results.get("cloverleaf")
        for package, found in sorted(results.items(), key=lambda item: median(item[1], "cpu_us")):
            cpu, wall = median(found, "cpu_us"), median(found, "wall_us")
            ratio = f"{cpu / median(ours, 'cpu_us'):.2f}" if ours else ""
            lines.append(f"| {row['workload']} | {package} | {cpu:.2f} | {wall:.2f} | {ratio} |")
        failed: dict[str, str] = row["failed"]  # type: ignore[assignment]
        lines += [f"| {row['workload']} | {each} | {why} | | |" for each, why in failed.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print and save."""
    options = parser().parse_args()
    workloads = [
        each
        for each in WORKLOADS
        if not options.only or any(fnmatchcase(each.name, one) for one in options.only)
    ]
    if options.list:
        sys.stdout.writelines(f"{each.name:10} {each.title}\n" for each in workloads)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        options.program = compiled(Path(folder))
        rows = [compare(options, workload) for workload in workloads]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "files.json").write_text(json.dumps(rows, indent=1))
    text = table(rows)
    (options.output / "files.md").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
