"""Where things are, and what they are called, told without running any code of the program's.

So it can be told of what another thread has, and amid anything, as by a signal's handler.
"""

import asyncio
import functools
import gc
import types
from collections.abc import Iterator
from traceback import StackSummary
from types import FrameType
from typing import Any, TypeGuard

from ._nesting import Nesting
from ._running import Running
from ._signals import Signals

# Between these and what the loop calls there is nothing of Python's.
_OWN_CODE = frozenset(
    method.__code__ for method in (Running.run_forever, Signals._run_heeding_signals, Nesting.run)
)
# What is awaited in the place of something else, which only the collector's eyes find.
_WRAPPERS = frozenset(
    ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable")
)
# The attributes of what is suspended: its frame, and what it awaits.
_SUSPENDED = {
    types.CoroutineType: ("cr_frame", "cr_await"),
    types.GeneratorType: ("gi_frame", "gi_yieldfrom"),
    types.AsyncGeneratorType: ("ag_frame", "ag_await"),
}
# More than anybody can read; where awaitables lead in a circle, it ends there.
_DEEPEST = 1000


def frames_of_callback(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    """Return the frames that the loop has called, outermost first."""
    found = []
    while frame is not None and frame.f_code not in _OWN_CODE:
        found.append((frame, frame.f_lineno))
        frame = frame.f_back
    return found[::-1]


def summary(frames: list[tuple[FrameType, int]]) -> StackSummary:
    """Return where these frames are. The lines are looked up when they are shown."""
    return StackSummary.extract(iter(frames), lookup_lines=False)


def chain(awaitable: object) -> tuple[list[tuple[FrameType, int]], object]:
    """Return the frames of what is suspended, outermost first, and what it awaits in the end."""
    frames: list[tuple[FrameType, int]] = []
    for _ in range(_DEEPEST):
        names = _SUSPENDED.get(type(awaitable))
        if names is not None:
            frame, inner = getattr(awaitable, names[0]), getattr(awaitable, names[1])
            if frame is not None:
                frames.append((frame, frame.f_lineno))
        elif type(awaitable).__name__ in _WRAPPERS:
            inner = next(_wrapped(awaitable), None)
        else:
            break
        if inner is None:
            return frames, None
        awaitable = inner
    return frames, awaitable


def _wrapped(wrapper: object) -> Iterator[object]:
    for each in gc.get_referents(wrapper):
        if type(each) in _SUSPENDED or type(each).__name__ in _WRAPPERS:
            yield each


def named(what: object) -> str:
    """Return the name of a callback, with the place of its source if there is one."""
    while type(what) is functools.partial:
        what = what.func
    if type(what) is types.MethodType:
        what = what.__func__
    if type(what) is types.BuiltinMethodType or kind(what) == "TaskStepMethWrapper":
        owner = what.__self__  # type: ignore[attr-defined]
        if is_task(owner):
            return f"the next step of {task_name(owner)}"
    if type(what) is types.FunctionType:
        code = what.__code__
        return f"{what.__qualname__} ({code.co_filename}:{code.co_firstlineno})"
    if type(what) in (types.BuiltinFunctionType, type):
        return str(what.__qualname__)  # type: ignore[attr-defined]
    return future_name(what) if is_future(what) else kind(what)


def called(callback: object, argument: object) -> str:
    """Return the name of a callback, and for whom it is if its first argument is a future."""
    return named(callback) + (f" for {future_name(argument)}" if is_future(argument) else "")


def future_name(future: object) -> str:
    """Return what kind of future it is, or which task, and which tasks wait for it."""
    if is_task(future):
        return task_name(future)
    waiting = []
    for callback in getattr(future, "_callbacks", None) or ():
        owner = getattr(callback[0], "__self__", None) if _is_native(callback[0]) else None
        if is_task(owner):
            waiting.append(task_name(owner))
    return kind(future) + (f" of {', '.join(waiting)}" if waiting else "")


def is_future(what: object) -> TypeGuard["asyncio.Future[Any]"]:
    """Tell whether it is a future of asyncio's, by its class: `__class__` may be a program's."""
    return issubclass(type(what), asyncio.Future)


def is_task(what: object) -> TypeGuard["asyncio.Task[Any]"]:
    """Tell whether it is a task of asyncio's, by its class."""
    return issubclass(type(what), asyncio.Task)


def _is_native(callback: object) -> bool:
    return type(callback) is types.BuiltinMethodType


def task_name(task: "asyncio.Task[Any]") -> str:
    """Return a task's name."""
    return str(asked_of_task(task, "get_name", kind(task)))


def asked_of_task(task: "asyncio.Task[Any]", method: str, otherwise: Any) -> Any:
    """Call a method of a task as asyncio has it, whatever a subclass makes of it."""
    try:
        # Tasks that are written in Python have no class in common with the others.
        return getattr(asyncio.Task if is_task(task) else type(task), method)(task)
    except Exception:  # one that was never begun, or not asyncio's
        return otherwise


def kind(what: object) -> str:
    """Return the name of an object's class."""
    return type(what).__qualname__
