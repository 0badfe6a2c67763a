"""`create_task` and task factories, with the keywords that the running Python gives them.

Through Python 3.12 a factory never sees the name, which is set on the task that it returns; from
3.14 on, the factory is given every keyword as it came. 3.13 stands between the two.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeAlias, TypeVar

from ._base import LoopBase

_T = TypeVar("_T")
if sys.version_info >= (3, 12):
    _Coroutine: TypeAlias = Coroutine[Any, Any, _T]
else:
    _Coroutine: TypeAlias = Generator[Any, None, _T] | Coroutine[Any, Any, _T]
TaskFactory: TypeAlias = Callable[..., Any]


class Tasks(LoopBase):
    """`create_task`, `set_task_factory` and `get_task_factory`."""

    if sys.version_info >= (3, 14):

        def create_task(self, coro: _Coroutine[_T], **kwargs: Any) -> asyncio.Task[_T]:
            """Run `coro` as a task of this loop."""
            self._check_open()
            if self._task_factory is not None:
                made: asyncio.Task[_T] = self._task_factory(self, coro, **kwargs)
                return made
            task: asyncio.Task[_T] = asyncio.tasks.Task(coro, loop=self, **kwargs)
            if self.get_debug():
                _forget_this_frame(task)
            try:
                return task
            finally:
                # An eager task that failed refers to this frame through its traceback.
                del task

    else:

        def create_task(
            self,
            coro: _Coroutine[_T],
            *,
            name: str | None = None,
            context: Context | None = None,
            **kwargs: Any,
        ) -> asyncio.Task[_T]:
            """Run `coro` as a task of this loop."""
            self._check_open()
            if self._task_factory is None:
                task: asyncio.Task[_T] = asyncio.tasks.Task(
                    coro,
                    loop=self,
                    name=name,
                    context=context,
                    **kwargs,
                )
                if self.get_debug():
                    _forget_this_frame(task)
            else:
                # A factory of old takes a context only if there is one.
                if context is not None:
                    kwargs["context"] = context
                task = self._task_factory(self, coro, **kwargs)
                if name is not None:
                    task.set_name(name)
            try:
                return task
            finally:
                # An eager task that failed refers to this frame through its traceback.
                del task

    # The native half has a `create_task` for when there is nothing to decide; else it calls this.
    _create_any_task = create_task

    def set_task_factory(self, factory: TaskFactory | None) -> None:
        """Let `factory(loop, coro, **keywords)` make the tasks; None brings the default back."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory

    def get_task_factory(self) -> TaskFactory | None:
        """Return the task factory, or None for the default one."""
        return self._task_factory


def _forget_this_frame(task: asyncio.Task[Any]) -> None:
    """End the record of where a task was made at the caller of `create_task`, not inside it."""
    origin = getattr(task, "_source_traceback", None)
    if origin:
        del origin[-1]
