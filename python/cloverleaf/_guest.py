"""Single turns, for a thread that runs somebody else's loop: a toolkit's for windows, or any other.

docs/embedding.md shows a host, and says what it can rely on.
"""

import functools
import os
import sys

from ._cloverleaf import next_deadline, pollable, run_once
from ._signals import Signals


class Guest(Signals):
    """`run_once`, `fileno` and `next_deadline`."""

    def run_once(self, timeout: float | None = 0.0) -> bool:
        """Run one turn of a loop that does not run; return whether there was anything to run.

        If nothing is ready, it waits for that for at most `timeout` seconds, or without end if that
        is None, and may come back earlier. What is ready then runs, and what that schedules does
        not: it is the next turn's. `stop()` changes nothing but that the turn does not wait.
        """
        seconds = _checked(timeout)
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        self._check_may_run()
        hooks = sys.get_asyncgen_hooks()
        try:
            self._take_thread()
            if self._watchdog is not None:
                self._watchdog.stay(self)
            # A run within the turn may sleep also where the turn does not.
            may_sleep = seconds != 0 or self._nesting is not None
            turn = functools.partial(run_once, self, seconds)
            return self._run_heeding_signals(turn, may_sleep=may_sleep)
        finally:
            self._leave_thread(hooks)

    def fileno(self) -> int:
        """Return a descriptor that can be read when the loop should run, for `select` and its kin.

        That is when its descriptors have something for it, a signal with a handler of the loop's
        has come, or something was scheduled while it did not run, by any thread. Timers, and what
        a turn leaves for the next one, do not show: `next_deadline` tells of those. It is the
        loop's own, which closes it.
        """
        self._check_open()
        if os.getpid() != self._process:
            raise RuntimeError(
                f"This event loop was made in process {self._process}, and has no descriptor in "
                f"process {os.getpid()}, which was forked from it; make a new event loop there"
            )
        return pollable(self)

    def next_deadline(self) -> float | None:
        """Return the time, as `time()` tells it, at which the loop should run next.

        It is the present time if a callback is ready, else the first timer's, or None if there is
        none. What comes earlier makes `fileno()` readable.
        """
        return next_deadline(self)


def _checked(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(
            f"timeout must be a number of seconds or None, not {type(timeout).__name__}"
        )
    # A NaN is none of all.
    if not timeout >= 0:
        raise ValueError(f"timeout must be a number of seconds from zero on, not {timeout!r}")
    return None if timeout > _LONGEST else float(timeout)


# Longer than anybody waits, and no more than what a duration can tell.
_LONGEST = 1e9
