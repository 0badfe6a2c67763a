"""Debug mode: what it switches on, what it checks, and what it reports.

Debug mode is on from the start when PYTHONASYNCIODEBUG is set or Python runs in development mode.
The native half reads `slow_callback_duration` and calls `_report_slow_callback`, `_check_thread`,
`_check_callback`, `_log_transport` and `_log_transport_error`, and does all of that only while
debug mode is on.
"""

import asyncio
import inspect
import logging
import os
import sys
from asyncio.constants import DEBUG_STACK_DEPTH
from asyncio.log import logger
from typing import Any

from ._base import LoopBase

if sys.version_info >= (3, 14):
    # asyncio's own function is deprecated there.
    is_coroutine_function = inspect.iscoroutinefunction
else:
    is_coroutine_function = asyncio.iscoroutinefunction


def refuse_coroutine(callback: object, method: str) -> None:
    """Raise TypeError if calling `callback` would only make a coroutine, or if it is one."""
    if asyncio.coroutines.iscoroutine(callback) or is_coroutine_function(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")


class Debugging(LoopBase):
    """`set_debug`, the checks made in debug mode, and the report of slow callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_callback_duration = 0.1
        # The depth to go back to, while we have changed it.
        self._former_origin_depth: int | None = None
        self.set_debug(_debug_is_wanted())

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode on or off; a running loop follows from its next turn on."""
        self._set_debug(bool(enabled))
        if self.is_running():
            self.call_soon_threadsafe(self._track_coroutine_origins, bool(enabled))

    def _track_coroutine_origins(self, enabled: bool) -> None:
        """Let coroutines remember where they were made, for "was never awaited" warnings."""
        if enabled and self._former_origin_depth is None:
            self._former_origin_depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(DEBUG_STACK_DEPTH)
        elif not enabled and self._former_origin_depth is not None:
            sys.set_coroutine_origin_tracking_depth(self._former_origin_depth)
            self._former_origin_depth = None

    def _check_callback(self, callback: Any, method: str) -> None:
        refuse_coroutine(callback, method)
        if not callable(callback):
            raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")

    def _check_thread(self) -> None:
        if self.is_running() and not self._is_owner_thread():
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one"
            )

    def _report_slow_callback(self, what: object, seconds: float) -> None:
        """Say which task, callback or transport held the loop up; called natively, in debug mode.

        `what` is a handle, or the transport whose protocol took the time.
        """
        owner = getattr(getattr(what, "_callback", None), "__self__", None)
        culprit = owner if isinstance(owner, asyncio.Task) else what
        logger.warning("Executing %s took %.3f seconds", repr(culprit), seconds)

    def _log_transport(self, transport: asyncio.BaseTransport, level: str, text: str) -> None:
        """Log what a transport does; called natively, in debug mode."""
        logger.log(logging.getLevelNamesMapping()[level.upper()], text, transport)

    def _log_transport_error(
        self, transport: asyncio.BaseTransport, message: str, error: BaseException
    ) -> None:
        """Log a network failure, which is nobody's mistake; called natively, in debug mode."""
        logger.debug("%r: %s", transport, message, exc_info=error)


def _debug_is_wanted() -> bool:
    if sys.flags.dev_mode:
        return True
    return not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG"))
