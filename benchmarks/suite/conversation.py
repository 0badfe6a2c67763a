"""A child process that answers lines with lines, and never keeps us waiting for ever."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.suite import processor


class LoopFailedError(Exception):
    """The child cannot do what it is asked. `unsupported` tells a lack from a fault."""

    def __init__(self, reason: str, *, unsupported: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unsupported = unsupported


class Conversation:
    """A process with pipes to it. Close it, or use it in a `with` statement."""

    def __init__(self, command: list[str], cores: frozenset[int], directory: Path) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        with processor.on(cores):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                cwd=directory,
            )
        self._pending = b""

    @property
    def pid(self) -> int:
        """The child's process identifier."""
        return self._process.pid

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills the child and waits for it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._complaints.close()

    def tell(self, line: str) -> None:
        """Sends one line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LoopFailedError(self._last_words()) from None

    def hear(self, seconds: float) -> str:
        """The child's next line. Raises LoopFailedError when it ends or is silent for too long."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise LoopFailedError(f"no answer within {seconds:.0f} s")
            piece = os.read(descriptor, 65536)
            if not piece:
                raise LoopFailedError(self._last_words())
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        ending = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit {status}"
        return f"{ending}: {lines[-1]}" if lines else ending
