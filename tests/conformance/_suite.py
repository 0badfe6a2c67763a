"""The running of many tests in many processes, and what came of each.

Promises: every test asked for has a result, or is missing from `results`, which the report calls
lost. A crash or a hang costs only the test in which it happens; the others go on in a new process.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from _workers import Event, Worker, describe_exit

HERE = os.path.dirname(os.path.abspath(__file__))
# A loop that hangs often would keep a run going for hours.
HANGS_BEFORE_HASTE, HASTY_TIMEOUT = 10, 6
# Modules with long-running tests go first, so that no worker ends alone.
SLOW_FIRST = (
    "test_ssl",
    "test_events",
    "test_subprocess",
    "test_sendfile",
    "test_tasks",
    "test_unix_events",
    "test_streams",
)

Entry = dict[str, Any]


@dataclass(eq=False)
class Progress:
    """How far one process has come with its tests."""

    left: collections.deque[str]
    attempt: int
    current: str | None = None
    fixture: Event | None = None
    tainted: bool = False  # a test of this process failed before


@dataclass(eq=False)
class Suite:
    """Starts workers and keeps what they tell."""

    options: argparse.Namespace
    scratch: str
    ready: Event = field(default_factory=dict)  # the collecting worker's "ready" fields
    runs_are_seen: bool = False  # the tally of running loops works
    results: dict[str, Entry] = field(default_factory=dict)
    fixtures: list[Event] = field(default_factory=list)  # failures outside any test
    hangs: int = 0
    workers: set[Worker] = field(default_factory=set)
    serial: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    # -- one worker process ----------------------------------------------------------------

    def start_worker(self, arguments: list[str]) -> Worker:
        """Start a process of its own session, with a folder and a log of its own."""
        with self.lock:
            self.serial += 1
            folder = os.path.join(self.scratch, f"w{self.serial}")
        os.makedirs(folder)
        read_fd, write_fd = os.pipe()
        log = open(os.path.join(folder, "log"), "w+b")
        env = dict(
            os.environ,
            PYTHONDONTWRITEBYTECODE="1",
            TMPDIR=folder,
            CONFORMANCE_PATH=os.pathsep.join(self.options.path),
        )
        for name in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS"):
            env.pop(name, None)
        command = [self.options.python, os.path.join(HERE, "_worker.py")]
        command += ["--loop", self.options.loop, "--fd", str(write_fd)]
        command += ["--timeout", str(self.limit()), *arguments]
        command += ["--probe"] if self.options.probe else []
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=env,
            pass_fds=(write_fd,),
            start_new_session=True,
        )
        os.close(write_fd)
        worker = Worker(process, read_fd, log, folder, self.workers.discard)
        self.workers.add(worker)
        return worker

    def stop(self, signum: int, _frame: FrameType | None) -> None:
        """On SIGTERM or SIGINT: leave no worker, nor its children, behind."""
        workers = list(self.workers)
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)
        os._exit(128 + signum)

    def collect(self, names: list[str]) -> dict[str, Event]:
        """Return {module: {"tests": [...]}}, or with "skipped" or "error"."""
        worker = self.start_worker(["--collect", *names])
        modules: dict[str, Event] = {}
        try:
            for event in worker.events(lambda: 300):
                if event["event"] == "ready":
                    self.ready = event
                elif event["event"] == "module":
                    modules[event["name"]] = event
                elif event["event"] == "trial":
                    self.runs_are_seen = event["seen"]
                elif event["event"] == "fatal":
                    sys.exit(f"the loop could not be put in place:\n{event['detail']}")
        except TimeoutError:
            if len(modules) < len(names):
                sys.exit("collecting the tests hung:\n" + worker.tail())
        finally:
            tail = worker.tail()
            worker.end()
        missing = [n for n in names if n not in modules]
        if missing:
            sys.exit(f"collecting stopped before {missing[0]}:\n{tail}")
        return modules

    # -- many tests ------------------------------------------------------------------------

    def run_batch(self, module: str, ids: list[str], attempt: int = 1) -> None:
        """Run the tests, in as many processes as it takes."""
        left = list(ids)
        while left:
            before = left
            left = self.run_once(module, left, attempt)
            if left == before:  # not even one test ended
                self.record(
                    left.pop(0),
                    status="crashed",
                    attempt=attempt,
                    detail="the worker ended before the test began",
                )

    def run_once(self, module: str, ids: list[str], attempt: int) -> list[str]:
        """Run tests in one process and return those still to run."""
        with tempfile.NamedTemporaryFile(
            "w", dir=self.scratch, suffix=".ids", delete=False
        ) as listing:
            listing.write("\n".join(ids))
        worker = self.start_worker(["--module", module, "--tests", listing.name])
        progress = Progress(collections.deque(ids), attempt)
        status, detail = None, ""
        try:
            for event in worker.events(self.limit):
                self.follow(progress, event)
            code = worker.wait()
            if progress.current is not None or code != 0:
                status, detail = "crashed", f"{describe_exit(code)}\n{worker.tail()}"
        except TimeoutError:
            worker.dump_stacks()
            status, detail = "hung", f"no progress in {self.limit():g} s\n{worker.tail()}"
        finally:
            worker.end()
            os.unlink(listing.name)
        if status is not None and progress.left:
            self.blame(progress, status, detail)
        return list(progress.left)

    def follow(self, progress: Progress, event: Event) -> None:
        """Note one event of a worker."""
        kind = event.pop("event")
        if kind == "start":
            progress.current = event["id"]
        elif kind == "end":
            progress.current = None
            if event["id"] in progress.left:
                progress.left.remove(event["id"])
            if event["status"] == "failed":
                event["tainted"] = progress.tainted
                progress.tainted = True
            self.record(event.pop("id"), attempt=progress.attempt, **event)
        elif kind == "fixture":
            progress.fixture = event
            with self.lock:
                self.fixtures.append(event)
        elif kind == "fatal":
            sys.exit(event["detail"])
        elif kind == "done":
            if progress.fixture is not None and progress.left and progress.current is None:
                self.fail_all(progress, progress.fixture)
            progress.current = None

    def fail_all(self, progress: Progress, fixture: Event) -> None:
        """Give every test left the end of setUpClass or setUpModule: none of them ran."""
        for test_id in progress.left:
            self.record(
                test_id,
                status=fixture["status"],
                attempt=progress.attempt,
                detail=fixture["detail"],
            )
        progress.left.clear()

    def blame(self, progress: Progress, status: str, detail: str) -> None:
        """Find which test a crash or a hang belongs to."""
        current = progress.current
        victim = current if current in progress.left else progress.left[0]
        assert victim is not None
        progress.left.remove(victim)
        if progress.tainted:
            # Perhaps only what an earlier failure left behind: that test goes first in a fresh
            # process, where it cannot be excused.
            progress.left.appendleft(victim)
        else:
            self.record(victim, status=status, attempt=progress.attempt, detail=detail)

    def limit(self) -> float:
        """Return the seconds without news that make a hang; fewer after many hangs."""
        timeout: float = self.options.timeout
        return timeout if self.hangs < HANGS_BEFORE_HASTE else min(timeout, HASTY_TIMEOUT)

    def record(
        self, test_id: str, *, status: str, attempt: int, detail: str = "", **more: Any
    ) -> None:
        """Keep a test's end; a later attempt keeps the earlier one as "first"."""
        entry: Entry = {"status": status, "detail": detail, **more}
        with self.lock:
            first = self.results.get(test_id)
            if attempt > 1 and first is not None:
                entry["first"] = first
            self.results[test_id] = entry
            self.hangs += status == "hung"
        if self.options.verbose:
            print(f"{status:8} {test_id}", flush=True)


def batches(ids: list[str]) -> list[tuple[str, list[str]]]:
    """Group tests by class, slow modules first; one process runs one class."""
    classes: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for test_id in ids:
        module, cls, _ = test_id.split(".", 2)
        classes[module, cls].append(test_id)

    def order(item: tuple[tuple[str, str], list[str]]) -> tuple[int, int]:
        (module, _), tests = item
        slow = SLOW_FIRST.index(module) if module in SLOW_FIRST else len(SLOW_FIRST)
        return slow, -len(tests)

    return [(module, tests) for (module, _), tests in sorted(classes.items(), key=order)]
