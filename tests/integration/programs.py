"""Programs in processes of their own: started, listened to, signalled and always reaped.

A program's output is read by a thread into a queue, so that a test can wait for a line with a
deadline instead of sleeping.
"""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

DEADLINE_S = 60
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Program:
    """One running process, with its output line by line."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=HERE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def wait_for_line(self, pattern: str, deadline_s: float = DEADLINE_S) -> re.Match[str]:
        """The first new line that matches; fails at the deadline or when the program ends."""
        until = time.monotonic() + deadline_s
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line like {pattern!r} in time; {self.text()}") from None
            if line is None:
                raise AssertionError(f"the program ended without {pattern!r}; {self.text()}")
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match

    def text(self) -> str:
        """Everything it has printed and we have read, for messages and checks."""
        return "output:\n" + "\n".join(self.lines)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Its exit code; what it printed is then all in `lines`."""
        code = self.process.wait(deadline_s)
        self._reader.join(deadline_s)
        while not self._queue.empty():
            line = self._queue.get()
            if line is not None:
                self.lines.append(line)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def kill(self) -> None:
        """Ends it, however it feels about that, and reaps it."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


class Programs:
    """All the programs of a session."""

    def __init__(self) -> None:
        self._started: list[Program] = []

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> Program:
        """Starts any program."""
        program = Program(command, env)
        self._started.append(program)
        return program

    def python(self, *arguments: str, env: Mapping[str, str] | None = None) -> Program:
        """Starts this interpreter."""
        return self.start(sys.executable, *arguments, env=env)

    def kill_all(self) -> None:
        """Ends every program that still runs."""
        for program in self._started:
            program.kill()
