"""Runs of a loop within its own callbacks, on the loops for which that is allowed.

asyncio refuses them, and so do we unless a program asks: `allow_nested` is a bridge for code that
cannot await, above all in notebooks. docs/embedding.md says what one can rely on.
"""

import asyncio
import sysconfig
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from ._loop import EventLoop
from ._nesting import Nesting

_T = TypeVar("_T")


def allow_nested(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Allow `loop.run_until_complete` and `run_forever` in callbacks and tasks of the same loop.

    It is the running loop if none is given. Nothing of asyncio is changed, and no other loop.
    A Python that is built to run without the GIL raises RuntimeError: there a callback's context
    cannot be left, so a connection would hear of nothing in a run within its own call.
    """
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise RuntimeError("a loop does not run within itself on a Python built without the GIL")
    if loop is None:
        loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise TypeError(
            f"allow_nested() takes a loop of Cloverleaf's, not {loop!r}; such a loop is made by "
            "cloverleaf.run() and cloverleaf.new_event_loop()"
        )
    loop._check_open()
    if loop._nesting is None:
        loop._nesting = Nesting()


def run_nested(main: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
    """Run what can be awaited in the loop that runs already; return its result.

    This is for code that is called by a task or a callback and cannot await, where
    `asyncio.run` refuses to work. `allow_nested` must have been called for the loop.
    """
    loop = asyncio.events._get_running_loop()
    if loop is None:
        raise RuntimeError("no running event loop; where none runs, use cloverleaf.run()")
    if not isinstance(loop, EventLoop) or loop._nesting is None:
        raise RuntimeError(
            f"{loop!r} does not run within itself; cloverleaf.allow_nested() lets a loop of "
            "Cloverleaf's do so"
        )
    return loop.run_until_complete(main)
