"""The command line: sets up, measures, prints and saves."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.suite import environment, machine, processor, report
from benchmarks.suite.loops import CANDIDATES, NAMES, OURS
from benchmarks.suite.results import Results
from benchmarks.suite.rounds import Rounds
from benchmarks.suite.services import Services
from benchmarks.suite.session import Bench
from benchmarks.workloads import registry

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK_LOOPS = [candidate.name for candidate in CANDIDATES if candidate.quick]


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="benchmarks/run.py",
        description="Compares Cloverleaf with other event loops on this machine.",
    )
    add = options.add_argument
    add("--quick", action="store_true", help="about four minutes: 3 rounds of 200 ms each")
    add("--only", action="append", default=[], metavar="PATTERN", help="workloads by name")
    add("--loops", metavar="A,B", help=f"of {','.join(NAMES)} (--quick: {','.join(QUICK_LOOPS)})")
    add("--rounds", type=int, help="how often each loop is measured (default: 7)")
    add("--window", type=int, metavar="MS", help="how long each time (default: 1000)")
    add("--python", default=sys.executable, help="the CPython for all loops: PGO and LTO, please")
    add("--cloverleaf", default=str(ROOT), help="a wheel, or a directory to build from")
    add("--venv", type=Path, default=ROOT / "benchmarks" / ".venv", help="where to install")
    add("--no-install", action="store_true", help="take the venv as it is")
    add("--load", type=Path, metavar="BINARY", help="a load generator that is built already")
    add("--pin", choices=("split", "same", "none"), default="split", help="loops and load on cores")
    add("--no-prime", action="store_true", help="leave the C library's allocator as it starts")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "local", help="for files")
    add("--curve", action="store_true", help="1 to 10,000 connections, 1 to 64 deep, and no more")
    add("--list", action="store_true", help="name the workloads, and stop")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmarks; 0 when everything asked for was measured or is known to be lacking."""
    options = parser().parse_args(arguments)
    pool = registry.CURVE if options.curve else registry.WORKLOADS
    workloads = registry.matching(options.only, pool)
    if options.list:
        sys.stdout.writelines(f"{each.name:28} {each.title}\n" for each in workloads)
        return 0
    usual = QUICK_LOOPS if options.quick else list(NAMES)
    loops = options.loops.split(",") if options.loops else usual
    unknown = [loop for loop in loops if loop not in NAMES]
    if unknown or not workloads:
        parser().error(f"no such loop: {unknown}" if unknown else "no workload matches --only")
    try:
        results, bench = set_up(options, loops)
    except environment.SetupError as problem:
        environment.say(str(problem))
        return 1
    present = [loop for loop in loops if not results.loops[loop].startswith("not installed")]
    settings = results.settings
    rounds = Rounds(bench, settings["rounds"], settings["window_ms"], keep=settings["keep"])
    with bench.services:
        for workload in workloads:
            results.rows.append(rounds.run(workload, present))
    publish(results, options.output)
    draw(bench.python, options.output)
    return 0 if OURS not in loops or OURS in present else 1


def set_up(options: argparse.Namespace, loops: list[str]) -> tuple[Results, Bench]:
    """Everything that precedes the first measurement."""
    allow_descriptors()
    # First of all: what we build ourselves below is no reason to distrust the machine.
    found = machine.machine()
    if options.no_install:
        python, problems = options.venv / "bin" / "python", {}
    else:
        python = environment.virtual_environment(options.python, options.venv)
        problems = environment.install(python, loops, options.cloverleaf)
        environment.callback_floor(ROOT, python)
    load = (options.load or environment.load_generator(ROOT)).resolve()
    built = machine.interpreter(python)
    cores = processor.choose(options.pin)
    warnings = machine.warnings(found, built)
    for warning in warnings:
        environment.say(f"warning: {warning}")
    environment.say(f"CPython {built['version']} is {built['optimisation']}")
    environment.say(f"its build flags: {built['decisive_flags']}")
    services = Services(cores.load)
    bench = Bench(python, load, ROOT, cores, not options.no_prime, 100, services)
    settings = {
        "loops": ["floor", *loops],
        "rounds": options.rounds or (3 if options.quick else 7),
        "window_ms": options.window or (200 if options.quick else 1000),
        "keep": options.quick,
        "prime": bench.prime,
        "pinning": options.pin,
        "loop_cores": sorted(cores.loops),
        "load_cores": sorted(cores.load),
        "warnings": warnings,
    }
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    versions = environment.versions(python, loops, problems)
    os.sched_setaffinity(0, cores.load)
    return Results(when, found, built, versions, settings), bench


def allow_descriptors() -> None:
    """Lets this process and its children have as many descriptors as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def publish(results: Results, directory: Path) -> None:
    """Prints the report, and saves it beside the raw results."""
    directory.mkdir(parents=True, exist_ok=True)
    text = report.markdown(results)
    results.save(directory / "raw.json")
    (directory / "table.md").write_text(text)
    sys.stdout.write(text)
    environment.say(f"saved in {directory}")


def draw(python: Path, directory: Path) -> None:
    """Draws the results; they are whole without."""
    command = [str(python), "-m", "benchmarks.suite.plots", str(directory / "raw.json")]
    done = subprocess.run(
        [*command, str(directory)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        environment.say(f"not drawn: {environment.last_line(done.stderr)}")
