"""Exceptions that nobody awaits: the loop's exception handler, and the default one.

Whatever a handler raises is logged and goes no further, but for SystemExit and KeyboardInterrupt.
"""

import sys
import traceback
from asyncio.log import logger
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeAlias

from . import _cloverleaf
from ._base import LoopBase

ErrorContext: TypeAlias = dict[str, Any]
ExceptionHandler: TypeAlias = Callable[[Any, ErrorContext], object]

# Tracebacks of where an object was made, and the words that introduce them.
_ORIGINS = {
    "source_traceback": "Object created at (most recent call last):\n",
    "handle_traceback": "Handle created at (most recent call last):\n",
}


class Reporting(LoopBase):
    """`call_exception_handler` and its kin."""

    def __init__(self) -> None:
        super().__init__()
        self._exception_handler: ExceptionHandler | None = None

    def get_exception_handler(self) -> ExceptionHandler | None:
        """Return the handler in use, or None for the default one."""
        return self._exception_handler

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Use `handler(loop, context)` from now on; None brings the default one back."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: ErrorContext) -> None:
        """Log the message, the exception and everything else that the context holds."""
        exception = context.get("exception")
        if "source_traceback" not in context:
            handle = self._current_handle()
            origin = getattr(handle, "_source_traceback", None)
            if origin:
                context["handle_traceback"] = origin

        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context.keys() - {"message", "exception"}):
            if key in _ORIGINS:
                stack = "".join(traceback.format_list(context[key])).rstrip()
                lines.append(f"{key}: {_ORIGINS[key]}{stack}")
            else:
                lines.append(f"{key}: {context[key]!r}")
        logger.error(
            "\n".join(lines),
            exc_info=(type(exception), exception, exception.__traceback__)
            if exception is not None
            else False,
        )

    def call_exception_handler(self, context: ErrorContext) -> None:
        """Hand `context` to the exception handler; never raises an ordinary exception."""
        handler = self._exception_handler
        if handler is None:
            self._call_default_handler(context, "Exception in default exception handler")
            return
        try:
            where = _context_of(context)
            if where is not None:
                where.run(handler, self, context)
            else:
                handler(self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            report = {
                "message": "Unhandled error in exception handler",
                "exception": error,
                "context": context,
            }
            self._call_default_handler(
                report,
                "Exception in default exception handler while handling an unexpected error "
                "in custom exception handler",
            )

    def _call_default_handler(self, context: ErrorContext, if_it_fails: str) -> None:
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # A subclass may have its own default handler, and that may fail.
            logger.error(if_it_fails, exc_info=True)

    def _report_callback_error(
        self, handle: _cloverleaf.Handle | _cloverleaf.TimerHandle, error: BaseException
    ) -> None:
        """Report what a callback raised; called natively."""
        context: ErrorContext = {
            "message": f"Exception in callback {_describe_callback(handle)}",
            "exception": error,
            "handle": handle,
        }
        origin = getattr(handle, "_source_traceback", None)
        if origin:
            context["source_traceback"] = origin
        self.call_exception_handler(context)


def _describe_callback(handle: _cloverleaf.Handle | _cloverleaf.TimerHandle) -> str:
    """Name the callback as this Python's own handles name it in their repr."""
    if handle._callback is None:
        return "None()"  # the callback cancelled its own handle before it raised
    # A handle that is not cancelled tells its class, a timer then its time, and then the callback.
    return handle._repr_info()[2 if isinstance(handle, _cloverleaf.TimerHandle) else 1]


def _context_of(context: ErrorContext) -> Context | None:
    """The contextvars context in which the handler runs: that of the task or handle at fault."""
    if sys.version_info >= (3, 12):
        for key in ("task", "future", "handle"):
            thing = context.get(key)
            if thing is not None:
                where = thing.get_context() if hasattr(thing, "get_context") else None
                return where if hasattr(where, "run") else None
    return None
