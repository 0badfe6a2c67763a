#!/usr/bin/env python3
"""Run CPython's own test_asyncio against any drop-in asyncio event loop.

    python run_cpython_suite.py --loop uvloop -j 2 --json out.json

Run it with the Python (or virtual environment) that has the loop installed; that Python must have
its Lib/test.  See README.md beside this file.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from _classify import Classification
from _report import Known, Report, Run, is_known, read_known, show, summarise, write_known
from _suite import Suite, batches


def installed(python: str) -> tuple[str, list[str]]:
    """Return a Python's version, and the modules of its test.test_asyncio."""
    code = "import sys, test.test_asyncio as t; print(sys.version.split()[0]); print(t.__path__[0])"
    out = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if out.returncode:
        sys.exit(
            f"{python} has no test.test_asyncio (its Lib/test is not installed):\n{out.stderr}"
        )
    version, folder = out.stdout.splitlines()
    names = (n for n in os.listdir(folder) if n.startswith("test_") and n.endswith(".py"))
    return version, sorted(n[:-3] for n in names)


def add_choice(p: argparse.ArgumentParser) -> None:
    """Add the options that choose what is run."""
    p.add_argument(
        "--loop",
        required=True,
        metavar="MODULE[:FACTORY]",
        help="the loop under test; FACTORY makes a loop (default: new_event_loop, "
        "EventLoopPolicy, EventLoop or Loop)",
    )
    p.add_argument(
        "--module",
        action="append",
        nargs="+",
        default=[],
        help="only these modules, such as test_events",
    )
    p.add_argument(
        "--module-list",
        metavar="FILE",
        help="only the modules that a name or pattern in FILE means, one a line; "
        "what this Python does not have is passed over",
    )
    p.add_argument(
        "--test",
        action="append",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="only tests whose module.Class.test matches (* and ? as in a shell)",
    )
    p.add_argument(
        "--include-white-box",
        action="store_true",
        help="also run white-box and duplicate tests (never counted)",
    )
    p.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="FOLDER",
        help="put FOLDER on sys.path (a loop that is not installed)",
    )
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--list", action="store_true", help="print every test with its class and end")


def add_rules(p: argparse.ArgumentParser) -> None:
    """Add the options that say how tests are run and judged."""
    p.add_argument("-j", "--jobs", type=int, default=1)
    p.add_argument(
        "--timeout",
        type=float,
        default=20,
        metavar="SECONDS",
        help="a test without an end by then is hung (default 20; after 10 hangs 6)",
    )
    p.add_argument(
        "--retries",
        type=int,
        default=1,
        help="a test that failed or hung is run this often again, alone, before it counts "
        "(default 1; if it passes, it is listed as flaky); a crash counts at once",
    )
    p.add_argument(
        "--known-failures",
        action="append",
        default=[],
        metavar="FILE",
        help="test ids that may fall short",
    )
    p.add_argument(
        "--strict",
        action="store_true",
        help="fail too on flaky tests and on known failures that now pass",
    )


def add_outputs(p: argparse.ArgumentParser) -> None:
    """Add the options that say what is written where."""
    p.add_argument("--json", metavar="FILE", help="write the results here")
    p.add_argument(
        "--details", metavar="FILE", help="write every test's status and every traceback here"
    )
    p.add_argument(
        "--write-known-failures",
        metavar="FILE",
        help="write the tests that fell short, with reasons",
    )
    p.add_argument(
        "--probe",
        metavar="FILE",
        help="(with --loop asyncio) write what private things each test touches; see _probe.py",
    )
    p.add_argument("-v", "--verbose", action="store_true")


def parse() -> argparse.Namespace:
    """Read the command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_choice(p)
    add_rules(p)
    add_outputs(p)
    options = p.parse_args()
    options.module = [m for group in options.module for m in group]
    options.test = [t for group in options.test for t in group]
    options.path = [os.path.abspath(f) for f in options.path]
    return options


def chosen_modules(options: argparse.Namespace, present: list[str]) -> list[str]:
    """Return the modules to run, of those that are there."""
    names = [m.removesuffix(".py") for m in options.module]
    for name in names:
        if name not in present:
            sys.exit(f"no module {name} in the installed test_asyncio")
    if options.module_list:
        with open(options.module_list, encoding="utf-8") as f:
            patterns = [line.partition("#")[0].strip() for line in f]
        names += [n for n in present if any(p and fnmatch.fnmatchcase(n, p) for p in patterns)]
        if not names:
            sys.exit(f"{options.module_list} names no module of the installed test_asyncio")
    return names or present


def run_all(options: argparse.Namespace, suite: Suite, to_run: list[str], known: Known) -> None:
    """Run the tests, and those that fell short again, each by itself."""
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for future in [pool.submit(suite.run_batch, m, ids) for m, ids in batches(to_run)]:
            future.result()
    for attempt in range(2, max(1, options.retries) + 2):
        # A failure after another failure in one process is always looked at again, by itself.
        again = [
            t
            for t in to_run
            if suite.results[t]["status"] in ("failed", "hung")
            and (options.retries or suite.results[t].get("tainted"))
            and not is_known(t, known)
        ]
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for future in [
                pool.submit(suite.run_batch, t.split(".")[0], [t], attempt) for t in again
            ]:
                future.result()


def dump(path: str, value: Any) -> None:
    """Write a JSON file."""
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_files(run: Run, report: Report) -> None:
    """Write every file that the command line asks for."""
    options, results = run.options, run.suite.results
    if options.json:
        dump(options.json, report)
    if options.probe:
        seen = {
            t: {"status": r["status"], "touched": r.get("touched", []), "loops": r.get("loops")}
            for t, r in sorted(results.items())
        }
        dump(options.probe, {"python": report["python"], "tests": seen})
    if options.details:
        dump(
            options.details,
            {t: dict(results.get(t, {}), kind=kind) for t, (kind, _) in sorted(run.kinds.items())},
        )
    if options.write_known_failures:
        write_known(options.write_known_failures, report)


def run(options: argparse.Namespace, suite: Suite, known: Known, began: float) -> int:
    """Collect, run, report; returns the exit status."""
    version, present = installed(options.python)
    classification = Classification(version)
    chosen = chosen_modules(options, present)
    # A module that is white-box as a whole is not even imported.
    whole = {n: classification.modules[n] for n in chosen if n in classification.modules}
    collected = suite.collect([n for n in chosen if n not in whole])
    kinds = {
        test_id: classification.of(test_id)
        for found in collected.values()
        for test_id in found["tests"]
        if not options.test or any(fnmatch.fnmatchcase(test_id, p) for p in options.test)
    }
    if options.list:
        for test_id, (kind, reason) in sorted(kinds.items()):
            print(f"{kind:12} {test_id}{'  # ' + reason if reason else ''}")
        return 0

    to_run = [
        t for t, (kind, _) in kinds.items() if kind == "behavioural" or options.include_white_box
    ]
    ready = suite.ready
    print(
        f"{ready['loop_type']} ({options.loop} {ready['version'] or ''}) on Python "
        f"{ready['python']}: {len(to_run)} of {len(kinds)} tests to run",
        flush=True,
    )
    run_all(options, suite, to_run, known)
    finished = Run(options, suite, kinds, whole, collected, known, began)
    report = summarise(finished)
    show(options, report)
    write_files(finished, report)
    print(f"{report['counts']['passed']} passed, {len(report['unexpected'])} failed", flush=True)
    return 1 if report["verdict"] != "ok" else 0


def main() -> int:
    """Run the suite in a scratch folder that does not outlive it."""
    options = parse()
    began = time.monotonic()
    known = read_known(options.known_failures)
    # The path of a Unix socket below it must stay under 108 bytes.
    short = "/tmp" if os.access("/tmp", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="cf", dir=short) as scratch:
        suite = Suite(options, scratch)
        signal.signal(signal.SIGTERM, suite.stop)
        signal.signal(signal.SIGINT, suite.stop)
        return run(options, suite, known, began)


if __name__ == "__main__":
    sys.exit(main())
