"""What every part of the Python half builds on: the native loop, seen as asyncio's abstract loop.

The parts (`_running`, `_tasks`, `_connect` and so on) each derive from the parts that they call,
and `_loop.EventLoop` joins them all. A part's `__init__` and `close` pass the call on.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, Self

from . import _cloverleaf

# Not asked of the instance, where a program may have put something else in its place.
_is_closed = _cloverleaf.Loop.is_closed


if TYPE_CHECKING:  # to make a protocol takes 0.15 million instructions of each import

    class _Attendant(Protocol):
        """Who is there while a loop runs."""

        def begin(self, loop: "LoopBase") -> None:
            """The loop is about to run."""

        def stay(self, loop: "LoopBase") -> None:
            """The loop is about to run one turn of many."""

        def end(self) -> None:
            """It has stopped."""

    class _Nesting(Protocol):
        """Who lets a loop run within itself."""

        @property
        def depth(self) -> int:
            """In how many runs the innermost one is."""

        def run(self, loop: Any) -> None:
            """Run it within itself."""

        def end(self, loop: Any, depth: int) -> None:
            """End the run that is in so many others."""


class LoopBase(_cloverleaf.Loop, asyncio.AbstractEventLoop):
    """The native loop, before any of its Python parts is added."""

    # Who watches it while it runs.
    _watchdog: "_Attendant | None"
    # Whether it may run within itself.
    _nesting: "_Nesting | None"
    # The process that the loop is for; zero until `__init__` has come far enough.
    _process: int

    # Those of all parts, since only one of a class's bases may have any. While nobody gives a loop
    # another attribute, it has no dictionary, and Python calls its methods without looking there.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_are_shut_down",
        "_default_executor",
        "_exception_handler",
        "_executor_is_shut_down",
        "_former_origin_depth",
        "_nesting",
        "_process",
        "_signal_handlers",
        "_signal_pipe",
        "_signal_pipe_is_written",
        "_threads",
        "_watchdog",
        "slow_callback_duration",
    )

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the native loop; the arguments belong to a subclass's own `__init__`."""
        loop = super().__new__(cls)
        loop._process = 0
        return loop

    @property
    def _closed(self) -> bool:  # private, and yet read by programs
        return _is_closed(self)

    def _check_open(self) -> None:
        if _is_closed(self):
            raise RuntimeError("Event loop is closed")
