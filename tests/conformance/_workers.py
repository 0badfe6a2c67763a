"""One worker process of the suite, seen from the runner: its events, its log, its end.

Promises: whatever happens in a worker, its whole process group is gone after `end()`.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import IO, Any

Event = dict[str, Any]


class Worker:
    """A process that runs tests and tells of them, a JSON line at a time."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        fd: int,
        log: IO[bytes],
        folder: str,
        forget: Callable[[Worker], None],
    ) -> None:
        self.process, self.fd, self.log, self.folder = process, fd, log, folder
        self.forget = forget

    def events(self, limit: Callable[[], float]) -> Iterator[Event]:
        """Yield the events as they come; TimeoutError after limit() seconds without one."""
        data = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.fd, selectors.EVENT_READ)
            while True:
                if not selector.select(limit()):
                    raise TimeoutError
                chunk = os.read(self.fd, 65536)
                if not chunk:
                    return
                data += chunk
                *lines, data = data.split(b"\n")
                for line in lines:
                    if not line.startswith(b"@{"):
                        continue  # a stray write of some test
                    event: Event = json.loads(line[1:])
                    last = event["event"] == "done"
                    yield event
                    if last:
                        return  # children may hold the pipe open

    def wait(self) -> int | None:
        """Return the exit status, or None if the process does not end."""
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            return None

    def dump_stacks(self) -> None:
        """Have faulthandler write every thread's stack to the log, which it does on SIGABRT."""
        try:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass  # end() kills it

    def tail(self, size: int = 4000) -> str:
        """Return the end of what the worker wrote, or the place where it says that it dies."""
        self.log.flush()
        self.log.seek(0)
        text = self.log.read().decode("utf-8", "replace")
        at = max(text.rfind(mark) for mark in ("panicked at", "Fatal Python"))
        at = max(0, at - 500) if at >= 0 else max(0, len(text) - size)
        return text[at : at + size]

    def kill(self) -> None:
        """Kill the process group, which the worker leads."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # it is gone already

    def end(self) -> None:
        """Kill what is left of it and put everything away."""
        self.kill()
        self.process.wait()
        self.forget(self)
        os.close(self.fd)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def describe_exit(code: int | None) -> str:
    """Say in words how a worker ended."""
    if code is None:
        return "the process did not end"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code} in the middle of the test"
