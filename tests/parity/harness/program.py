"""Programs of their own, for what a test process must not do to itself: signals, forks, limits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .kinds import Kind

SECONDS = 90.0


@dataclass(frozen=True)
class Ended:
    """How a program ended and what it said."""

    status: int
    out: str
    err: str


class Program:
    """Runs Python source in a new interpreter; ``new_event_loop`` is imported for it."""

    def __init__(self, kind: Kind) -> None:
        self._prelude = kind.prelude
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, source: str, *options: str, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start the program with pipes to its stdin, stdout and stderr."""
        process = subprocess.Popen(
            [sys.executable, *options, "-c", self._prelude + textwrap.dedent(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # With what it may start, workers above all, which have its pipes and may outlive it.
            process_group=0,
            env={**os.environ, **(env or {})},
        )
        self._started.append(process)
        return process

    def asleep(self, process: subprocess.Popen[str]) -> None:
        """Wait until it sleeps in the kernel, where each signal wakes it.

        Between Python's last look for signals and the kernel's wait, one is not noticed by a loop
        that set no wakeup descriptor, as asyncio's has not without signal handlers of its own.
        """
        stat, pause = Path(f"/proc/{process.pid}/stat"), threading.Event()
        end = time.monotonic() + SECONDS
        while stat.read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < end, "the program never sleeps"
            pause.wait(0.001)

    def wait(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for the program's end and return what it said."""
        out, err = process.communicate(timeout=SECONDS)
        return Ended(process.returncode, out, err)

    def __call__(self, source: str, *options: str, env: dict[str, str] | None = None) -> Ended:
        """Run the program to its end."""
        return self.wait(self.start(source, *options, env=env))

    def output(self, source: str, *options: str, env: dict[str, str] | None = None) -> str:
        """Run a program that must succeed, and return what it printed."""
        ended = self(source, *options, env=env)
        assert ended.status == 0, f"status {ended.status}\n{ended.out}\n{ended.err}"
        return ended.out.strip()

    def end(self) -> None:
        """End what still runs, what that has started included, and close its pipes."""
        for process in self._started:
            process.poll()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
