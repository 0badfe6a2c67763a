"""The watchdog: a thread that tells what keeps a loop from going on, while it does.

The thread waits natively, without Python's lock, and looks at numbers that the loop changes anyway.
Only when a stall is to be told of does it need Python. It lives from the beginning of a run to the
end of it, and at the interpreter's end it is stopped before Python is taken down.
"""

import asyncio
import atexit
import logging
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import _cloverleaf
from ._base import LoopBase
from ._stacks import frames_of_callback, summary

logger = logging.getLogger("cloverleaf")

_VARIABLE = "CLOVERLEAF_WATCHDOG"
# What took longer to get Python than other threads' turns do was kept from it.
_KEPT_SECONDS = 0.05
# For how long the end of a run, or of the interpreter, waits for a report that is being made.
_PATIENCE_SECONDS = 2.0
_UNSEEN = "what was over when Python's lock (the GIL) could be had, and so was not seen"


@dataclass(frozen=True, slots=True)
class Stall:
    """What keeps a loop from going on, or has kept it from that."""

    loop: asyncio.AbstractEventLoop
    # How long it has lasted by now, or in all if it is over: for at least so long.
    seconds: float
    is_over: bool
    # What runs: the task, if it is one, or else the handle, which only debug mode knows.
    task: "asyncio.Task[Any] | None"
    handle: asyncio.Handle | None
    # The same in words, as it was when it was looked at.
    culprit: str
    # Where the loop's thread is: the frames of what the loop has called, outermost first. It is
    # empty where nothing of Python's runs, as in a callback that is written in C.
    stack: traceback.StackSummary
    # For so many seconds nobody else could run Python, as C code kept the GIL.
    kept_seconds: float
    # The loop does not run anything: it waits for Python, which other threads keep from it.
    is_kept_waiting: bool
    thread: str

    def __str__(self) -> str:
        """Tell all of it, in the words of the watchdog's log."""
        been = "was" if self.is_over else "is"
        held = "kept waiting for Python's lock (the GIL)" if self.is_kept_waiting else "blocked"
        so_far = "" if self.is_over else " so far"
        text = f"Event loop {been} {held} for {self.seconds:.3f} s{so_far} by {self.culprit}"
        if self.is_over:
            return text
        text += f", in thread {self.thread}"
        if self.kept_seconds and not self.is_kept_waiting:
            text += (
                f"; for {self.kept_seconds:.3f} s of it no other thread could run Python, "
                "so C code kept Python's lock (the GIL)"
            )
        if self.stack:
            text += ":\n" + "".join(self.stack.format()).rstrip()
        return text


def _named(
    task: "asyncio.Task[Any] | None", handle: asyncio.Handle | None, stack: traceback.StackSummary
) -> str:
    if task is not None:
        return _shown(task)
    if handle is not None:
        return _shown(handle)
    if stack:
        first = stack[0]
        return f"the callback {first.name}() ({first.filename}:{first.lineno})"
    return "a callback that is not written in Python (debug mode would name it)"


def _shown(what: object) -> str:
    try:
        return repr(what)
    except Exception as error:
        return f"<{type(what).__name__} whose repr() raises {type(error).__name__}>"


def wanted(seconds: float | None) -> float:
    """Return after how many seconds a stall is to be told of; zero if nobody is to watch.

    `seconds` says so, or if it is None the environment.
    """
    if seconds is not None:
        return _checked(seconds, "watchdog")
    text = os.environ.get(_VARIABLE, "")
    if not text.strip():
        return 0.0
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{_VARIABLE} must be a number of seconds, not {text!r}") from None
    return _checked(number, _VARIABLE)


def _checked(seconds: float, name: str) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        kind = type(seconds).__name__
        raise TypeError(f"{name} must be a number of seconds or None, not {kind}")
    # Threads cannot wait for longer, nor for less than a nanosecond. A NaN is none of all.
    if seconds != 0 and not 1e-9 <= seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a number of seconds from zero on, not {seconds!r}")
    return float(seconds)


def _tell(stall: Stall) -> None:
    logger.warning("%s", stall)


def _look(loop: LoopBase, sighting: tuple[bool, float, float, bool, int]) -> Stall:
    """Look what a loop is at that does not get on."""
    _, seconds, without_python, is_kept_waiting, _ = sighting
    ident = loop._thread_id
    frames = sys._current_frames()
    own_frame = frames.pop(ident, None) if ident is not None else None
    frames.pop(threading.get_ident(), None)
    if is_kept_waiting:
        seen = [(frame, frame.f_lineno) for frame in frames.values()]
    else:
        seen = frames_of_callback(own_frame)
    stack = summary(seen)
    del frames, own_frame, seen
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    task = None if is_kept_waiting else asyncio.tasks.current_task(loop)
    handle = None if is_kept_waiting else loop._current_handle()
    return Stall(
        loop=loop,
        seconds=seconds,
        is_over=False,
        task=task,
        handle=handle,
        culprit="other threads" if is_kept_waiting else _named(task, handle, stack),
        stack=stack,
        kept_seconds=without_python if without_python >= _KEPT_SECONDS else 0.0,
        is_kept_waiting=is_kept_waiting,
        thread=names.get(ident, f"with the number {ident}"),
    )


def _stand(
    watch: _cloverleaf.Watchdog,
    loop_ref: "weakref.ref[LoopBase]",
    watchdog_ref: "weakref.ref[Watchdog]",
) -> None:
    """Tell of every stall twice: while it lasts, and when it is over.

    Between two turns that a host runs, nothing here keeps the loop, nor a report that has it.
    """
    stall: Stall | None = None
    while (sighting := watch.wait()) is not None:
        stalls, seconds, _, _, progress = sighting
        if not stalls:
            if stall is not None:
                _make(watchdog_ref, replace(stall, seconds=seconds, is_over=True))
            stall = None
            continue
        if (loop := loop_ref()) is None:
            return
        stall = _look(loop, sighting)
        del loop
        if watch.is_still_at(progress):
            _make(watchdog_ref, stall)
        else:
            # Whatever runs by now is not to blame.
            empty = traceback.StackSummary()
            culprit = stall.culprit if stall.is_kept_waiting else _UNSEEN
            stall = replace(stall, task=None, handle=None, stack=empty, culprit=culprit)


def _make(watchdog_ref: "weakref.ref[Watchdog]", stall: Stall) -> None:
    if (watchdog := watchdog_ref()) is None:
        return
    report = watchdog._report
    del watchdog
    try:
        report(stall)
    except BaseException:
        # Whatever it is: it would end the watch, and nobody would hear of it.
        logger.exception("The watchdog's report has failed: %r of %s", report, stall)


class Watchdog:
    """Who watches one loop, for as long as that runs."""

    def __init__(self, seconds: float, report: Callable[[Stall], object] | None) -> None:
        self._seconds = seconds
        self._report = _tell if report is None else report
        self._watch: _cloverleaf.Watchdog | None = None
        self._thread: threading.Thread | None = None
        self._process = 0

    def begin(self, loop: LoopBase) -> None:
        """Watch a loop that is about to run."""
        if _ending.is_set():
            return
        self.end()  # it may have stayed from turn to turn
        watch = _cloverleaf.Watchdog(loop, self._seconds)
        # It must not keep a loop that nobody else has, even if a report takes for ever.
        thread = threading.Thread(
            target=_stand,
            args=(watch, weakref.ref(loop), weakref.ref(self)),
            name="cloverleaf-watchdog",
            daemon=True,
        )
        # First, so that whatever interrupts the start leaves no thread that nobody ends.
        self._watch, self._thread, self._process = watch, thread, os.getpid()
        _standing.add(self)
        try:
            thread.start()
        except BaseException:
            self.end()
            raise

    def stay(self, loop: LoopBase) -> None:
        """Watch a loop whose turns somebody else runs, from the first of them on.

        Between two turns it does not run, and so nothing keeps it.
        """
        if self._watch is None:
            self.begin(loop)

    def end(self) -> None:
        """Watch no more."""
        _standing.discard(self)
        watch, thread = self._watch, self._thread
        self._watch = self._thread = None
        # A forked child has the loop, but not the thread.
        if watch is None or thread is None or self._process != os.getpid():
            return
        watch.stop()
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE_SECONDS)


# Not kept: one that stays from turn to turn has a report, which may have the loop.
_standing: "weakref.WeakSet[Watchdog]" = weakref.WeakSet()
_ending = threading.Event()
os.register_at_fork(after_in_child=_standing.clear)


@atexit.register
def _end_all() -> None:
    """Leave no thread where it would need Python when that is gone."""
    _ending.set()
    for watchdog in list(_standing):
        watchdog.end()


class Watching(LoopBase):
    """`set_watchdog`."""

    def set_watchdog(
        self, seconds: float | None, report: Callable[[Stall], object] | None = None
    ) -> None:
        """Have a thread tell what keeps the loop from going on for longer than so many seconds.

        Each stall is told of twice: while it lasts, with the task and the stack of what blocks, and
        when it is over. That goes to the logger "cloverleaf" as a warning, or else to `report`,
        which is called in the watchdog's thread with a `Stall`; what it raises is logged.

        None or zero ends the watch. While the loop runs, only its own thread may call this.
        """
        limit = 0.0 if seconds is None else _checked(seconds, "seconds")
        if report is not None and not callable(report):
            raise TypeError(f"report must be callable or None, not {type(report).__name__}")
        self._check_open()
        is_running = self.is_running()
        if is_running and not self._is_owner_thread():
            raise RuntimeError("set_watchdog() must be called in the thread that runs the loop")
        former, self._watchdog = self._watchdog, None
        if former is not None:
            former.end()
        if limit:
            watchdog = Watchdog(limit, report)
            if is_running:
                watchdog.begin(self)
            self._watchdog = watchdog
