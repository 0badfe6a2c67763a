"""What every part of the Python half builds on: the native loop, seen as asyncio's abstract loop.

The parts (`_running`, `_tasks`, `_connect` and so on) each derive from the parts that they call,
and `_loop.EventLoop` joins them all. A part's `__init__` and `close` pass the call on.
"""

import asyncio
from typing import Any, Self

from . import _cloverleaf

# Not asked of the instance, where a program may have put something else in its place.
_is_closed = _cloverleaf.Loop.is_closed


class LoopBase(_cloverleaf.Loop, asyncio.AbstractEventLoop):
    """The native loop, before any of its Python parts is added."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the native loop; the arguments belong to a subclass's own `__init__`."""
        return super().__new__(cls)

    @property
    def _closed(self) -> bool:  # private, and yet read by programs
        return _is_closed(self)

    def _check_open(self) -> None:
        if _is_closed(self):
            raise RuntimeError("Event loop is closed")
