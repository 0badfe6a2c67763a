"""Every test ends in time, or its stacks are printed and it fails.

A first alarm raises in the main thread. A loop that does not even notice a signal is ended,
with the whole process, by faulthandler a little later.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

SECONDS = 120.0
GRACE_SECONDS = 60.0


class DeadlineError(BaseException):
    """A test did not end in time. Not an ``Exception``, so that no loop swallows it."""


class Stderr:
    """The process's own stderr, kept from before pytest began to capture it."""

    descriptor = -1


def keep_stderr(config: pytest.Config) -> None:
    """Remember the stderr that the user sees."""
    if Stderr.descriptor >= 0:
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        Stderr.descriptor = os.dup(2)
        return
    with capture.global_and_fixture_disabled():
        Stderr.descriptor = os.dup(2)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let the body take so long at most."""

    def on_alarm(_signal: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback(file=Stderr.descriptor)
        raise DeadlineError(f"the test did not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=Stderr.descriptor)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
