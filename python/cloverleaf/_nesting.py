"""Which runs of a loop are within which, and which task runs in each."""

import asyncio
from asyncio import tasks
from collections.abc import Callable
from typing import Any

from ._cloverleaf import run_nested
from ._running import Running

# Who runs, who lets go of it, who takes it up again.
_Register = tuple[Callable[[Any], Any], Callable[[Any, Any], None], Callable[[Any, Any], None]]


class Nesting:
    """Which runs of one loop are within which."""

    def __init__(self) -> None:
        # Whether each run that has another one within it is to end as soon as it goes on.
        self._are_over: list[bool] = []

    @property
    def depth(self) -> int:
        """In how many runs the innermost one is."""
        return len(self._are_over)

    def run(self, loop: Running) -> None:
        """Run a loop that this thread runs already until `stop()` is called."""
        before = asyncio.events._get_running_loop()
        depth = len(self._are_over)
        # The tasks that run stand aside, so that others can. An interrupt may come after any call,
        # so what is going to be changed is noted first.
        left: list[tuple[Any, Callable[[Any, Any], None], Callable[[Any, Any], None]]] = []
        for current, leave, enter in _registers():
            task = current(loop)
            # Before 3.14 both know the same one.
            if task is not None and not (left and left[0][0] is task):
                left.append((task, leave, enter))
        try:
            self._are_over.append(False)
            asyncio.events._set_running_loop(loop)
            for task, leave, _ in left:
                leave(loop, task)
            run_nested(loop)
        finally:
            # Nothing here is called by way of Python code, where an interrupt would come before it.
            try:
                for task, _, enter in left:
                    try:
                        enter(loop, task)
                    except RuntimeError:
                        pass  # an interrupt came before it had stood aside
            finally:
                are_over = self._are_over[depth:]
                del self._are_over[depth:]
                try:
                    asyncio.events._set_running_loop(before)
                finally:
                    if True in are_over:
                        loop.stop()

    def end(self, loop: Running, depth: int) -> None:
        """End the run that is in so many others: now, or as soon as it goes on."""
        if depth < len(self._are_over):
            self._are_over[depth] = True
        else:
            loop.stop()


def _registers() -> list[_Register]:
    """Return where asyncio notes which task runs: since 3.14, tasks written in Python apart."""
    found: list[_Register] = [(tasks.current_task, tasks._leave_task, tasks._enter_task)]
    apart = getattr(tasks, "_py_current_task", None)
    # They are the same where there is no `_asyncio`.
    if apart is not None and apart is not tasks.current_task:
        found.append((apart, _of_python("_py_leave_task"), _of_python("_py_enter_task")))
    return found


def _of_python(name: str) -> Callable[[Any, Any], None]:
    function: Callable[[Any, Any], None] = getattr(tasks, name)
    return function
