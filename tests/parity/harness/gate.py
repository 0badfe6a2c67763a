"""A program whose execution the kernel holds up until a test lets it: by a lease, fcntl(2)."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest


class Gate:
    """An executable file on which this process holds a lease: who opens it must wait for us."""

    def __init__(self, path: Path, script: str = "exit 7") -> None:
        self.path = path
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        self.reached = 0
        self._fd = os.open(path, os.O_RDONLY)
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """Note that somebody waits; the kernel says so by SIGIO."""
        self.reached += 1

    def open(self) -> None:
        """Let everybody through; a child with a copy of the descriptor would keep the lease."""
        if self._fd != -1:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            os.close(self._fd)
            self._fd = -1


@contextmanager
def gate(path: Path, script: str = "exit 7") -> Iterator[Gate]:
    """Make a gate that is open in the end; for the main thread."""
    try:
        made = Gate(path, script)
    except OSError as error:
        pytest.skip(f"this file system has no leases: {error}")
    before = signal.signal(signal.SIGIO, made.note)
    try:
        yield made
    finally:
        made.open()
        signal.signal(signal.SIGIO, before)
