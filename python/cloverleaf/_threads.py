"""The default executor: Python's thread pool, with a short way for the loop's own calls.

`run_in_executor` needs none of what a `concurrent.futures.Future` offers: nobody waits for it,
nobody sees it, and its lock, its condition and the callbacks that tie it to asyncio's future cost
more than all the rest. So a call of the loop's lies in the pool's queue by itself. Where the pool
is not what it is in the Pythons that we know, or somebody has changed how it submits, the ordinary
way is taken.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as pool
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from ._base import LoopBase

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_submit = ThreadPoolExecutor.submit
_NEEDED = ("_work_queue", "_shutdown_lock", "_shutdown", "_broken", "_adjust_thread_count")


class Threads(ThreadPoolExecutor):
    """A thread pool that can call for a loop."""

    def __init__(self) -> None:
        """Make a pool without threads; they start when there is work."""
        super().__init__(thread_name_prefix="asyncio")
        self._is_known = all(hasattr(self, name) for name in _NEEDED) and hasattr(
            pool, "_global_shutdown_lock"
        )

    def call(
        self, loop: "LoopBase", func: Callable[[Unpack[_Ts]], _T], args: tuple[*_Ts]
    ) -> asyncio.Future[_T]:
        """Call `func(*args)` in a thread, and return the future of `loop` that hears of it."""
        if not self._is_known or ThreadPoolExecutor.submit is not _submit:
            return asyncio.futures.wrap_future(self.submit(func, *args), loop=loop)
        future: asyncio.Future[_T] = loop.create_future()
        with self._shutdown_lock, pool._global_shutdown_lock:
            is_open = not (self._broken or self._shutdown or pool._shutdown)
            if is_open:
                self._work_queue.put(_Call(loop, future, func, args))  # type: ignore[arg-type]
                self._adjust_thread_count()
        if not is_open:
            self.submit(func, *args)  # raises what there is to raise
        return future


class _Call:
    """One entry of the pool's queue, with what the pool asks of an entry: `run`, and `future`."""

    __slots__ = ("args", "asked", "func", "loop")

    def __init__(
        self,
        loop: "LoopBase",
        asked: asyncio.Future[Any],
        func: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        self.loop = loop
        self.asked = asked
        self.func = func
        self.args = args

    @property
    def future(self) -> "_Call":
        """What the pool cancels, or fails, when it is shut down with this still in its queue."""
        return self

    def cancel(self) -> bool:
        """Cancel the future that hears of this; called in any thread."""
        self._tell(self.asked.cancel)
        return True

    def set_exception(self, error: BaseException) -> None:
        """Fail without having begun; called in any thread."""
        self._tell(_fail, self.asked, error)

    def run(self, *_context: object) -> None:
        """Do it, in a thread of the pool, which hands its own state over from Python 3.14 on."""
        if self.asked.cancelled():
            return
        try:
            result = self.func(*self.args)
        except BaseException as error:
            self._tell(_fail, self.asked, error)
            # The error's traceback leads here, and from here to the future that holds the error.
            self = None  # type: ignore[assignment]  # noqa: PLW0642
        else:
            self._tell(_succeed, self.asked, result)

    def _tell(self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts) -> None:
        try:
            self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # A loop that was closed meanwhile has nobody who waits.
            if not self.loop.is_closed():
                raise


def _succeed(future: asyncio.Future[_T], result: _T) -> None:
    if not future.done():  # else it was cancelled while the call was under way
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(_as_asyncio(error))


def _as_asyncio(error: BaseException) -> BaseException:
    """Return asyncio's exception for those that `concurrent.futures` has of its own."""
    if type(error) is concurrent.futures.CancelledError:
        own: BaseException = asyncio.CancelledError(*error.args)
    elif type(error) is concurrent.futures.InvalidStateError:
        own = asyncio.InvalidStateError(*error.args)
    else:
        return error
    return own.with_traceback(error.__traceback__)
