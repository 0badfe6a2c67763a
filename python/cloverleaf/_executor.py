"""Calls that can only block, run in an executor; and the end of the default executor."""

import asyncio
import concurrent.futures
import sys
import threading
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from ._later import imported
from ._running import Running

if TYPE_CHECKING:
    from ._threads import Threads

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Executing(Running):
    """`run_in_executor`, `set_default_executor` and `shutdown_default_executor`."""

    def __init__(self) -> None:
        super().__init__()
        self._default_executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._executor_is_shut_down = False
        # The default executor, if it is the one that we have made.
        self._threads: Threads | None = None

    def close(self) -> None:
        """Close the loop, and let go of the default executor without waiting for its work."""
        try:
            super().close()
        finally:
            # Only the main thread takes signal handlers back; the loop is closed all the same.
            if self.is_closed():
                self._let_go_of_executor()

    def _let_go_of_executor(self) -> None:
        self._executor_is_shut_down = True
        executor, self._default_executor, self._threads = self._default_executor, None, None
        if executor is not None:
            executor.shutdown(wait=False)

    def run_in_executor(
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[[Unpack[_Ts]], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """Call `func(*args)` in `executor`, or in the default one, and return its future."""
        self._check_open()
        if self.get_debug():
            self._check_callback(func, "run_in_executor")
        if executor is None:
            self._check_executor()
            executor = self._default_executor
            if executor is None:
                # As asyncio does, and not under the lock that forks wait for: it asks to be told of
                # forks, and one that waits already would tell it of its end alone.
                import_module("concurrent.futures.thread")
                # With what it needs of the library, a millisecond that the import is spared.
                threads: Threads = imported("_threads").Threads()
                executor = self._default_executor = self._threads = threads
        if executor is self._threads is not None:
            return self._threads.call(self, func, args)
        return asyncio.futures.wrap_future(executor.submit(func, *args), loop=self)

    def _check_executor(self) -> None:
        """Refuse what asyncio would give its default executor, once that is shut down."""
        if self._executor_is_shut_down:
            self._check_open()
            raise RuntimeError("Executor shutdown has been called")

    def set_default_executor(self, executor: concurrent.futures.Executor) -> None:
        """Use `executor` where `run_in_executor` is given None."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    if sys.version_info >= (3, 12):

        async def shutdown_default_executor(
            self,
            timeout: float | None = None,  # noqa: ASYNC109  # the name is asyncio's
        ) -> None:
            """Refuse new work, and wait for the old; after `timeout` seconds warn and go on."""
            await self._shut_executor_down(timeout)

    else:

        async def shutdown_default_executor(self) -> None:
            """Refuse new work, and wait for the old."""
            await self._shut_executor_down(None)

    async def _shut_executor_down(self, patience: float | None) -> None:
        self._executor_is_shut_down = True
        executor = self._default_executor
        if executor is None:
            return
        finished = self.create_future()
        thread = threading.Thread(target=self._join_executor, args=(executor, finished))
        thread.start()
        try:
            async with asyncio.timeouts.timeout(patience):
                await finished
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {patience} seconds.",
                RuntimeWarning,
                stacklevel=3,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    def _join_executor(
        self, executor: concurrent.futures.Executor, finished: asyncio.Future[Any]
    ) -> None:
        """Wait for the executor's threads, in a thread of our own, and tell the loop."""
        error: Exception | None = None
        try:
            executor.shutdown(wait=True)
        except Exception as raised:
            error = raised
        try:
            self.call_soon_threadsafe(_settle, finished, error)
        except RuntimeError:
            # The loop was closed meanwhile, so nobody waits for this any more.
            if not self.is_closed():
                raise


def _settle(future: asyncio.Future[Any], error: Exception | None) -> None:
    if future.done():
        return  # cancelled, or out of time
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
