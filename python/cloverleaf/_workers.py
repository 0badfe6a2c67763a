"""`run_workers`: one loop per core, in threads or in processes, from start to end.

The calling thread runs no loop. It waits for workers and signals, and does all the steering: if
one fails, it has the others cancelled, and whoever does not end in time is killed, or if it is a
thread, given up.
"""

import asyncio
import contextlib
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import FrameType
from typing import Any, Literal, TypeVar

from ._loop import chosen_factory
from ._signals import write_again, write_no_more, writers
from ._worker import Job, Worker, WorkerError
from ._worker_kinds import Member, ProcessMember, ThreadMember

_T = TypeVar("_T")

# More than a pipe holds at first.
_WAKEUP_BYTES = 1 << 17
# What stops all workers, if the program has no handler of its own for it.
_DEFAULTS: dict[signal.Signals, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
# Linux has no numbers for more threads and processes (`PID_MAX_LIMIT` in proc(5)).
_MOST_WORKERS = 2**22
# What poll(2) can wait for is less than a month.
_LONGEST_POLL_SECONDS = 1e6
# How late a signal may be heard of where Python tells of its signals elsewhere.
_LONGEST_DEAF_SECONDS = 1.0


class _Crew:
    """All workers, from the start of the first to the end of the last."""

    def __init__(self, members: Sequence[Member], graceful_timeout: float) -> None:
        self._members = members
        self._timeout = graceful_timeout
        # Signal handlers wake, too, and may interrupt who has the lock in this thread.
        self._lock = threading.RLock()
        # Where we read, and where we and Python write.
        self._wakeup: tuple[int, int] | None = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._hears_signals = False
        # When who has been told to stop must have; None if nobody has been told.
        self._deadline: float | None = None
        self._is_killed = False
        self._is_hurried = False
        # The first signal that came, and those that come here.
        self.signum: int | None = None
        self.handled: list[int] = []

    def run(self, job: Job) -> None:
        """Start all, and wait until all have ended."""
        try:
            with self._signals():
                try:
                    for member in self._members:
                        member.start(job, self)
                    self._wait()
                except BaseException:
                    # One could not be started, or a signal handler of the program's has raised.
                    self._give_up()
                    raise
        finally:
            with self._lock:
                self._close_wakeup()
            for member in self._members:
                member.close()

    def results(self) -> list[Any]:
        """Return or raise what has come of it, when nothing runs any more."""
        if self._is_hurried:
            raise KeyboardInterrupt
        errors = [error for member in self._members if (error := self._error(member)) is not None]
        for error in errors:
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise error
        if errors:
            raise BaseExceptionGroup("workers have failed", errors)
        outcomes = [member.outcome for member in self._members if member.outcome is not None]
        is_cancelled = any(outcome.kind == "cancelled" for outcome in outcomes)
        if self.signum is not None and (is_cancelled or self._deadline is None):
            # It does now what it would have done without workers. That may be the end.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            signal.raise_signal(self.signum)
        return [outcome.value for outcome in outcomes]

    def wake(self) -> None:
        """Have who waits look at the workers, from any thread and from signal handlers."""
        with self._lock:
            if self._wakeup is not None:
                # What is full wakes, too.
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wakeup[1], b"\0")

    def close_in_child(self, own: ProcessMember) -> None:
        """Keep nothing there by which others would miss the end of the parent or of each other."""
        self._close_wakeup()
        for member in self._members:
            if isinstance(member, ProcessMember):
                if member is own:
                    member.hang_up()
                else:
                    member.disown()

    def _close_wakeup(self) -> None:
        if self._wakeup is not None:
            ends, self._wakeup = self._wakeup, None
            # In a child, too, which has it from its parent. Where the program's own is in place, it
            # would miss a signal that comes while we look.
            if self._hears_signals:
                write_no_more(ends[1])
            writers.discard(ends[1])
            for end in ends:
                os.close(end)

    def _hear_signals(self) -> None:
        """Have each signal end our sleep.

        One that comes after Python's last look for signals and before the sleep would else be heard
        of when something else happens. A wakeup descriptor of the program's own stays in place, and
        Python warns if what it leads to is full: whether it did is not told.
        """
        assert self._wakeup is not None
        reader, writer = self._wakeup
        writers.add(writer)
        self._hears_signals = True
        former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # One that the program has closed may have left its number to one of ours.
        ours = {reader, writer}.union(*(member.descriptors() for member in self._members))
        if former != -1 and former not in ours and write_again(former):
            self._hears_signals = False
            # What came meanwhile is the program's. That there is nothing, or no room, is no fault.
            with contextlib.suppress(OSError):
                os.write(former, os.read(reader, _WAKEUP_BYTES))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        try:
            self._hear_signals()
            for signum, default in _DEFAULTS.items():
                if signal.getsignal(signum) == default:
                    self.handled.append(signum)
                    signal.signal(signum, self._on_signal)
            yield
        finally:
            for signum, default in _DEFAULTS.items():
                if signal.getsignal(signum) == self._on_signal:
                    signal.signal(signum, default)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
        elif signum == signal.SIGINT:
            self._is_hurried = True
        self.wake()

    def _give_up(self) -> None:
        try:
            self._wait(is_failed=True)
        except BaseException:
            self._kill("did not stop at once")
            self._wait(is_failed=True)
            raise

    def _wait(self, is_failed: bool = False) -> None:
        while running := [member for member in self._members if member.is_running]:
            if is_failed or self.signum is not None or self._has_failed():
                self._stop()
            timeout = self._remaining()
            if not self._is_killed and (self._is_hurried or timeout == 0):
                seconds = f"did not stop within {self._timeout:g} s"
                self._kill("did not stop before a second SIGINT" if self._is_hurried else seconds)
                continue
            poll = select.poll()
            assert self._wakeup is not None
            reader = self._wakeup[0]
            for fd in (reader, *(fd for member in running for fd in member.waits_on())):
                poll.register(fd, select.POLLIN)
            if not self._hears_signals:
                timeout = min(_LONGEST_DEAF_SECONDS, math.inf if timeout is None else timeout)
            poll.poll(None if timeout is None else math.ceil(timeout * 1e3))
            with contextlib.suppress(BlockingIOError):
                os.read(reader, _WAKEUP_BYTES)
            for member in running:
                member.look()

    def _remaining(self) -> float | None:
        """Return the seconds until the deadline, or until it may be asked for again."""
        if self._deadline is None or self._is_killed:
            return None
        return min(max(self._deadline - time.monotonic(), 0.0), _LONGEST_POLL_SECONDS)

    def _stop(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._timeout
            for member in self._members:
                if member.is_running:
                    member.stop()

    def _kill(self, why: str) -> None:
        self._stop()
        self._is_killed = True
        for member in self._members:
            if member.is_running:
                member.kill(why)

    def _has_failed(self) -> bool:
        return any(self._error(member) is not None for member in self._members)

    def _error(self, member: Member) -> BaseException | None:
        outcome = member.outcome
        if outcome is None or outcome.kind == "result":
            return None
        if outcome.kind == "error":
            assert isinstance(outcome.value, BaseException)
            return outcome.value
        if outcome.value is None or self.signum is not None:
            return None
        return WorkerError(f"{member} was stopped by {signal.Signals(outcome.value).name}")


def run_workers(
    main: Callable[[Worker], Coroutine[Any, Any, _T]],
    workers: int | None = None,
    *,
    kind: Literal["auto", "threads", "processes"] = "auto",
    pin: bool = False,
    graceful_timeout: float | None = 30.0,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    backend: Literal["auto", "epoll", "io_uring"] | None = None,
    watchdog: float | None = None,
) -> list[_T]:
    """Run `main(worker)` in several loops at once, and return the results in the workers' order.

    There are as many workers as processors that this process may use, unless `workers` says how
    many. Each is a thread where Python runs without the GIL, or else a forked process; `kind`
    chooses. With `pin`, each runs on one processor, and so do the threads that it starts.

    If one fails, the others are cancelled, and an ExceptionGroup has what went wrong. SIGINT and
    SIGTERM cancel all, and do what they do otherwise when all have ended. Who does not end within
    `graceful_timeout` seconds is killed or, as nothing can end a thread, given up.

    The loops are made as by `run`. It must be called from the main thread. A descriptor that the
    program has given to `signal.set_wakeup_fd` stays, and Python warns if what it leads to is full,
    whatever `warn_on_full_buffer` said.
    """
    factory = chosen_factory("run_workers", loop_factory, backend, watchdog)
    count, timeout = _count(workers), _seconds(graceful_timeout)
    if not callable(main):
        raise TypeError(f"main must be a function of a Worker, not {type(main).__name__}")
    if kind not in ("auto", "threads", "processes"):
        raise ValueError(f'kind must be "auto", "threads" or "processes", not {kind!r}')
    if asyncio.events._get_running_loop() is not None:
        raise RuntimeError("cloverleaf.run_workers() cannot be called from a running event loop")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("cloverleaf.run_workers() can be called from the main thread only")
    is_threads = not _has_gil() if kind == "auto" else kind == "threads"
    if not is_threads and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        raise RuntimeError("where SIGCHLD is ignored, nobody can tell how a process has ended")
    cpus = sorted(os.sched_getaffinity(0))
    known = [
        Worker(index, count, cpus[index % len(cpus)] if pin else None) for index in range(count)
    ]
    make: type[ThreadMember] | type[ProcessMember] = ThreadMember if is_threads else ProcessMember
    crew = _crew(make, known, timeout)
    crew.run(Job(main, debug, factory))
    return crew.results()


def _crew(
    make: type[ThreadMember] | type[ProcessMember], workers: Sequence[Worker], timeout: float
) -> _Crew:
    members: list[Member] = []
    try:
        for worker in workers:
            members.append(make(worker))  # noqa: PERF401  # those that were made are closed
        return _Crew(members, timeout)
    except BaseException:
        for member in members:
            member.close()
        raise


def _has_gil() -> bool:
    return sys.version_info < (3, 13) or sys._is_gil_enabled()


def _count(workers: int | None) -> int:
    if workers is None:
        if sys.version_info >= (3, 13):
            return os.process_cpu_count() or 1
        return len(os.sched_getaffinity(0))
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"workers must be a number or None, not {type(workers).__name__}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if workers > _MOST_WORKERS:
        raise ValueError(f"workers must be at most {_MOST_WORKERS}, not {workers}")
    return workers


def _seconds(graceful_timeout: float | None) -> float:
    if graceful_timeout is None:
        return math.inf
    if isinstance(graceful_timeout, bool) or not isinstance(graceful_timeout, int | float):
        kind = type(graceful_timeout).__name__
        raise TypeError(f"graceful_timeout must be a number of seconds or None, not {kind}")
    if not graceful_timeout >= 0:
        raise ValueError(
            f"graceful_timeout must be a number of seconds from zero on, not {graceful_timeout}"
        )
    return float(graceful_timeout)
