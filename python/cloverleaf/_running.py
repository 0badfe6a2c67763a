"""Running and closing the loop: who may do it and when, and asynchronous generators' ends.

A loop belongs to the process that made it. In a forked child it refuses to run, and closing it
there only lets go of what the child inherited.
"""

import asyncio
import functools
import os
import sys
import warnings
import weakref
from asyncio.log import logger
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Any, TypeVar

from ._debug import Debugging
from ._exceptions import Reporting
from ._tasks import Tasks

_T = TypeVar("_T")


class Running(Debugging, Reporting, Tasks):
    """`run_forever`, `run_until_complete`, `close` and `shutdown_asyncgens`."""

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_are_shut_down = False
        self._watchdog = None
        self._nesting = None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    def run_forever(self) -> None:
        """Run until `stop()` is called, or until a callback raises what is no Exception."""
        self._check_may_run()
        if self._nesting is not None and self.is_running():
            self._nesting.run(self)
            return
        hooks = sys.get_asyncgen_hooks()
        try:
            self._take_thread()
            if self._watchdog is not None:
                self._watchdog.begin(self)
            self._run()
        finally:
            self._leave_thread(hooks)
            # Last, as it may wait for a report, and so be interrupted.
            if self._watchdog is not None:
                self._watchdog.end()

    def run_until_complete(self, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
        """Run until `future` is done; return its result, or raise its exception.

        A coroutine is run as a task.
        """
        self._check_may_run()
        is_ours = not asyncio.futures.isfuture(future)
        waited: asyncio.Future[_T] = asyncio.tasks.ensure_future(
            future,  # type: ignore[arg-type]
            loop=self,
        )
        if is_ours:
            # Should the loop stop early, the exception below says enough.
            waited._log_destroy_pending = False  # type: ignore[attr-defined]
        depth = 0
        if self._nesting is not None and self.is_running():
            depth = self._nesting.depth + 1
        # Its own, as the same future may be waited for by the run outside, too.
        has_left: list[bool] = []
        stop_after = functools.partial(self._stop_after, depth=depth, has_left=has_left)
        waited.add_done_callback(stop_after)
        try:
            self.run_forever()
        except BaseException:
            if is_ours and waited.done() and not waited.cancelled():
                # The same exception is on its way to the caller, who cannot see our task.
                waited.exception()
            raise
        finally:
            has_left.append(True)
            waited.remove_done_callback(stop_after)
        if not waited.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return waited.result()

    def close(self) -> None:
        """Close the loop for good; what is still scheduled never runs."""
        if self.is_closed():
            return
        if os.getpid() == self._process:
            if self.is_running():
                raise RuntimeError("Cannot close a running event loop")
            if self._watchdog is not None:
                self._watchdog.end()
            if self.get_debug():
                logger.debug("Close %r", self)
        self._close()

    def __del__(self) -> None:
        if self.is_closed():
            return
        # Nothing is set yet if a signal's handler has raised while the loop was made.
        if not getattr(self, "_process", 0):
            self._close()  # `__init__` has not come far enough for more
            return
        if os.getpid() == self._process:
            warnings.warn(
                f"unclosed event loop {self!r}", ResourceWarning, source=self, stacklevel=1
            )
            if self.is_running():
                return
        self.close()

    async def shutdown_asyncgens(self) -> None:
        """Close every asynchronous generator that was iterated here and is not exhausted."""
        self._asyncgens_are_shut_down = True
        closing = list(self._asyncgens)
        self._asyncgens.clear()
        if not closing:
            return
        results = await asyncio.tasks.gather(
            *[generator.aclose() for generator in closing], return_exceptions=True
        )
        for generator, result in zip(closing, results, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of asynchronous "
                        f"generator {generator!r}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )

    def _take_thread(self) -> None:
        """Be this thread's loop, until `_leave_thread`."""
        self._track_coroutine_origins(self.get_debug())
        sys.set_asyncgen_hooks(firstiter=self._note_asyncgen, finalizer=self._finalize_asyncgen)
        asyncio.events._set_running_loop(self)

    def _leave_thread(self, hooks: Any) -> None:
        """Be it no more, and leave it the hooks of asynchronous generators that it had before."""
        asyncio.events._set_running_loop(None)
        self._track_coroutine_origins(False)
        sys.set_asyncgen_hooks(*hooks)

    def _check_may_run(self) -> None:
        self._check_open()
        if os.getpid() != self._process:
            raise RuntimeError(
                f"This event loop was made in process {self._process} and cannot run in "
                f"process {os.getpid()}, which was forked from it; make a new event loop there"
            )
        running = asyncio.events._get_running_loop()
        if self.is_running():
            if self._nesting is None or not self._is_owner_thread():
                raise RuntimeError("This event loop is already running")
            if running is self:
                return
        if running is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def _stop_after(self, future: asyncio.Future[Any], depth: int, has_left: list[bool]) -> None:
        """End `run_until_complete`, unless what ended the future ends the loop anyway.

        It is within so many runs of the loop, and `has_left` is not empty once it is over.
        """
        is_end_of_loop = not future.cancelled() and isinstance(
            future.exception(), (SystemExit, KeyboardInterrupt)
        )
        if self._nesting is None:
            if not is_end_of_loop:
                self.stop()
        elif not has_left:
            # Such an exception may have ended a run within this one, and have been caught there.
            # But once this one is over, there may be another one in its place.
            self._nesting.end(self, depth)

    def _note_asyncgen(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_are_shut_down:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after "
                f"loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(generator)

    def _finalize_asyncgen(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Close a generator that was collected half-way, which may happen in any thread."""
        self._asyncgens.discard(generator)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, generator.aclose())
