"""Signal handlers that run as callbacks of the loop.

Python writes the number of each signal to a pipe, which is made when the loop first runs in the
main thread, or when the first handler is added, and the loop reads it like any other descriptor;
while there is no handler, only when it wakes. Only the main thread may change handlers.
"""

import contextlib
import contextvars
import errno
import os
import reprlib
import signal
import sys
import threading
import warnings
from asyncio.log import logger
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple, Unpack

from ._cloverleaf import let_only_end_sleeps
from ._debug import refuse_coroutine
from ._running import Running

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_Handler = tuple[Callable[..., object], tuple[Any, ...], contextvars.Context]


class _Kernel:
    """The real calls for real descriptors: who fakes files (pyfakefs) replaces modules' `os`."""

    pipe = staticmethod(os.pipe2)
    read = staticmethod(os.read)
    close = staticmethod(os.close)


#: Where Python may write for any loop of this process, and for who waits for workers.
writers: set[int] = set()


class Signals(Running):
    """`add_signal_handler` and `remove_signal_handler`."""

    def __init__(self) -> None:
        super().__init__()
        self._signal_handlers: dict[int, _Handler] = {}
        # Where we read, and where Python writes.
        self._signal_pipe: tuple[int, int] | None = None
        #: Python writes to it for a handler, and only the main thread ends that.
        self._signal_pipe_is_written = False

    def close(self) -> None:
        """Close the loop, and give its signals back to the system."""
        super().close()
        try:
            self._give_signals_back()
        finally:
            self._close_signal_pipe()

    def _close_signal_pipe(self) -> None:
        # The loop has let go of it.
        pipe = self._signal_pipe
        if pipe is None:
            return
        # An interrupt or a fork may have left it there: the number is another file's next. Only the
        # main thread ends what Python writes; where this is another, a later `close` ends the pipe.
        if not write_no_more(pipe[1]) and self._signal_pipe_is_written:
            return
        self._signal_pipe = None
        writers.discard(pipe[1])
        for end in pipe:
            _Kernel.close(end)

    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts
    ) -> None:
        """Call `callback(*args)` from the loop whenever `sig` has come."""
        refuse_coroutine(callback, "add_signal_handler")
        _check_signal(sig)
        self._check_open()
        writer = self._signal_writer()
        try:
            # This raises first if we are not in the main thread.
            signal.set_wakeup_fd(writer)
        except (ValueError, OSError) as error:
            raise RuntimeError(str(error)) from error
        self._signal_pipe_is_written = True
        if not self._signal_handlers:
            self._forget_signals()
        self._signal_handlers[sig] = (callback, args, contextvars.copy_context())
        self._let_pipe_only_end_sleeps(False)
        try:
            # Without a handler of Python's own, the number would not be written.
            signal.signal(sig, _let_the_loop_do_it)
            signal.siginterrupt(sig, False)
        except OSError as error:
            del self._signal_handlers[sig]
            self._stop_wakeups_if_unused()
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Bring the default back for `sig`; return whether there was a handler."""
        _check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        try:
            signal.signal(
                sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
            )
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            raise
        self._stop_wakeups_if_unused()
        return True

    def _run(self) -> None:
        """Run until `stop()` is called."""
        self._run_heeding_signals(super()._run)

    def _run_heeding_signals(self, run: Callable[[], _T], *, may_sleep: bool = True) -> _T:
        """Run; in the main thread, any signal ends the loop's sleep.

        A signal that comes after the last look for signals and before the sleep would otherwise be
        noticed only when something else wakes the loop: as it is on asyncio's loop, and here once
        the last handler has been removed within the run. A wakeup descriptor of the program's own
        is left in place, and Python warns if what it leads to is full: whether it did is not told.
        It misses what comes while we look for it, so a run that does not sleep lets it be. One that
        has been closed leads nowhere, and ours takes its place.
        """
        if not may_sleep or self._signal_handlers:
            return run()
        if threading.get_ident() != threading.main_thread().ident:
            return run()
        try:
            ours = self._signal_writer()
        except OSError:
            return run()  # out of descriptors, of which asyncio's loop needs none to run
        try:
            former = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        except ValueError:
            return run()  # signals are for the main interpreter, and this is another one
        if former != -1 and write_again(former):
            return run()
        try:
            return run()
        finally:
            latter = signal.set_wakeup_fd(-1)
            if latter != ours or self._signal_handlers:
                write_again(latter)

    def _give_signals_back(self) -> None:
        if os.getpid() != self._process:
            self._signal_handlers.clear()
        elif sys.is_finalizing():
            if self._signal_handlers:
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, "
                    f"skipping signal handlers removal",
                    ResourceWarning,
                    source=self,
                    stacklevel=3,
                )
                self._signal_handlers.clear()
        else:
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)

    def _signal_writer(self) -> int:
        if self._signal_pipe is None:
            reader, writer = _Kernel.pipe(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                self._add_internal_reader(reader, self._read_signals, reader)
            except Exception:
                _Kernel.close(reader)
                _Kernel.close(writer)
                raise
            self._signal_pipe = reader, writer
            writers.add(writer)
            self._let_pipe_only_end_sleeps(True)
        return self._signal_pipe[1]

    def _stop_wakeups_if_unused(self) -> None:
        if self._signal_handlers:
            return
        self._let_pipe_only_end_sleeps(True)
        try:
            signal.set_wakeup_fd(-1)
            self._signal_pipe_is_written = False
        except (ValueError, OSError) as error:
            logger.info("set_wakeup_fd(-1) failed: %s", error)

    def _let_pipe_only_end_sleeps(self, only: bool) -> None:
        """Have it read in each turn, or only by a loop that wakes: each look is a system call."""
        if self._signal_pipe is not None and not self.is_closed():
            let_only_end_sleeps(self, self._signal_pipe[0], only)

    def _forget_signals(self) -> None:
        """Read what came while there was no handler, which a loop that was awake has left there."""
        assert self._signal_pipe is not None
        with contextlib.suppress(BlockingIOError):
            while _Kernel.read(self._signal_pipe[0], 65536):
                pass

    def _read_signals(self, reader: int) -> None:
        """Schedule the handler of every signal that has come."""
        try:
            numbers = _Kernel.read(reader, 4096)
        except (BlockingIOError, InterruptedError):
            return
        for number in numbers:
            handler = self._signal_handlers.get(number)
            if handler is not None:  # else it was removed after the signal had come
                self._schedule_handler(*handler)

    def _schedule_handler(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
    ) -> None:
        try:
            self.call_soon(callback, *args, context=context)
        except Exception as error:
            # In debug mode `call_soon` refuses what cannot be called. The signals that came with
            # this one were read with it, and would be lost.
            shown = ", ".join(map(reprlib.repr, args))
            message = f"Exception in callback {callback!r}({shown})"
            self.call_exception_handler({"message": message, "exception": error})


def _check_signal(sig: int) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def write_no_more(*ours: int) -> bool:
    """Have Python write the numbers of signals nowhere, if it writes them to one of these."""
    try:
        now = signal.set_wakeup_fd(-1)
    except ValueError:
        return False  # signals are for another thread
    if now not in (-1, *ours):
        write_again(now)
    return True


def write_again(writer: int) -> bool:
    """Have Python write there again; return whether it can: the program may have closed it."""
    try:
        signal.set_wakeup_fd(writer)
    except (ValueError, OSError):  # the number of a file that blocks, or of none
        return False
    return True


if sys.version_info < (3, 12):  # later, asyncio does it

    def _leave_the_parents_pipe() -> None:
        """Not write to a parent's pipe, nor to what has its number once the child has closed it."""
        if writers:
            write_no_more(*writers)

    os.register_at_fork(after_in_child=_leave_the_parents_pipe)


def _let_the_loop_do_it(signum: int, frame: FrameType | None) -> None:
    """Only there so that Python writes the signal's number to the wakeup descriptor."""
