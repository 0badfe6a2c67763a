"""Loops for tests: the clock jumps instead of waiting, and a seed shuffles tasks that are ready.

It is imported only by those who ask for it; docs/testing.md says what one can rely on.
"""

import asyncio
import concurrent.futures
import functools
import operator
import os
import socket
import sys
import threading
import types
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

from . import _cloverleaf, _loop

__all__ = ["DeadlockError", "EventLoop", "new_event_loop", "run", "seeds"]

_T = TypeVar("_T")

# Whoever waits for the end of a test that takes too long cannot bring that test anything.
_WATCHDOGS = ("pytest_timeout", "cloverleaf-watchdog")


class DeadlockError(RuntimeError):
    """Nothing can happen in a loop any more, and yet it is to go on."""


class EventLoop(_loop.EventLoop):
    """A loop whose time stands still while there is anything to do, and then jumps.

    `start` is its time at the beginning. `seed` shuffles the tasks that are ready at the same
    moment. `patience` says for how many real seconds the loop waits, each time before its clock
    jumps, for others that it cannot see: peers outside of the process, and threads that are not
    its own. `on_deadlock` says what happens when nothing can happen any more: DeadlockError is
    raised from the run, or the loop waits for ever, as asyncio's does.
    """

    def __init__(
        self,
        *,
        start: float = 0.0,
        seed: int | None = None,
        patience: float = 0.0,
        on_deadlock: Literal["raise", "wait"] = "raise",
        backend: Literal["auto", "epoll", "io_uring"] | None = None,
    ) -> None:
        try:
            start, patience = _seconds("start", start), _seconds("patience", patience)
            seed = None if seed is None else _whole("seed", seed)
            self._check(start, seed, patience, on_deadlock)
        except BaseException:
            self._close()  # it leaves nothing to close
            raise
        super().__init__(backend=backend)
        self._raises_deadlock = on_deadlock == "raise"
        self._steered = _cloverleaf.Steered(self, start, patience, seed)

    @staticmethod
    def _check(start: float, seed: int | None, patience: float, on_deadlock: str) -> None:
        if not 0 <= start <= sys.maxsize / 1e9:
            raise ValueError(f"start is a number of seconds from 0 to 2**63 / 10**9, not {start!r}")
        if seed is not None and not 0 <= seed < 2**64:
            raise ValueError(f"seed is a number from 0 to 2**64 - 1, or None, not {seed!r}")
        if not patience >= 0:
            raise ValueError(f"patience is a number of seconds from 0 on, not {patience!r}")
        if on_deadlock not in ("raise", "wait"):
            raise ValueError(f'on_deadlock is "raise" or "wait", not {on_deadlock!r}')

    def time(self) -> float:
        """Return the loop's time in seconds, which only jumps."""
        return self._steered.time()

    def run_in_executor(  # type: ignore[override]  # more general than asyncio's
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[..., _T],
        *args: Any,
    ) -> asyncio.Future[_T]:
        """Call `func(*args)` in an executor; the clock does not jump before its future is done."""
        future = super().run_in_executor(executor, func, *args)
        self._steered.hold()
        future.add_done_callback(self._steered.release)
        return future

    async def _sock_connected(self, sock: socket.socket, address: Any) -> None:
        self._steered.hold()
        try:
            await super()._sock_connected(sock, address)
        finally:
            self._steered.release()

    async def _shut_executor_down(self, patience: float | None) -> None:
        self._steered.hold()
        try:
            await super()._shut_executor_down(patience)
        finally:
            self._steered.release()

    def _nothing_comes(self) -> None:
        """Decide what becomes of a loop that has nothing to do or to wait for; called by it."""
        if not self._raises_deadlock or self._is_accompanied():
            return
        waiting = [f"\n  {task!r}" for task in asyncio.tasks.all_tasks(self)]
        raise DeadlockError(
            "nothing can happen in this loop any more: no callback is ready, no timer, file, "
            "socket, child or thread is waited for"
            + (", and these tasks wait:" + "".join(sorted(waiting)) if waiting else "")
        )

    def _is_accompanied(self) -> bool:
        """Whether there are threads that may yet call, which idle ones of our own do not."""
        threads = {thread.ident: thread for thread in threading.enumerate()}
        own = getattr(self._default_executor, "_threads", ())
        queue = getattr(self._default_executor, "_work_queue", None)
        if queue is not None and not queue.empty():
            return True
        return any(
            ident != threading.get_ident()
            and not (threads.get(ident) in own and _is_idle(frame))
            and not (ident in threads and threads[ident].name.startswith(_WATCHDOGS))
            for ident, frame in sys._current_frames().items()
        )


def _seconds(name: str, value: float) -> float:
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__name__}")
    return float(value)


def _whole(name: str, value: int) -> int:
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name} is a whole number or None, not {type(value).__name__}")
    return operator.index(value)


def _is_idle(frame: types.FrameType) -> bool:
    """Whether a thread of an executor waits for work: what it is given is called by others."""
    return frame.f_code is concurrent.futures.thread._worker.__code__


def new_event_loop(
    *,
    start: float = 0.0,
    seed: int | None = None,
    patience: float = 0.0,
    on_deadlock: Literal["raise", "wait"] = "raise",
    backend: Literal["auto", "epoll", "io_uring"] | None = None,
) -> EventLoop:
    """Make a loop for tests; see `EventLoop` for what the arguments mean."""
    return EventLoop(
        start=start, seed=seed, patience=patience, on_deadlock=on_deadlock, backend=backend
    )


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    start: float = 0.0,
    seed: int | None = None,
    patience: float = 0.0,
    on_deadlock: Literal["raise", "wait"] = "raise",
    backend: Literal["auto", "epoll", "io_uring"] | None = None,
) -> _T:
    """Run a coroutine in a new loop for tests, and close the loop after it.

    What it raises bears a note of the seed, if there is one.
    """
    if asyncio.events._get_running_loop() is not None:
        raise RuntimeError("cloverleaf.testing.run() cannot be called from a running event loop")
    factory = functools.partial(
        new_event_loop,
        start=start,
        seed=seed,
        patience=patience,
        on_deadlock=on_deadlock,
        backend=backend,
    )
    try:
        with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
            return runner.run(main)
    except BaseException as error:
        if seed is not None:
            error.add_note(f"The tasks of cloverleaf.testing ran with seed={seed}.")
        raise


def seeds(count: int) -> list[int]:
    """Return so many seeds, or the one that the environment variable CLOVERLEAF_SEED gives."""
    given = os.environ.get("CLOVERLEAF_SEED")
    if not given:
        return list(range(count))
    try:
        return [int(given)]
    except ValueError:
        raise ValueError(f"CLOVERLEAF_SEED is a whole number, not {given!r}") from None
