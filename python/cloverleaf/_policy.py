"""The event loop policy, for as long as Python has policies, and `install`.

Python deprecates policies from 3.14 on, and 3.16 is to have none. This module is imported only
when somebody asks for a policy, and keeps Python's deprecation warnings to itself.
"""

import asyncio
import sys
import warnings

from ._loop import EventLoop

if sys.version_info < (3, 16):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _Base = asyncio.DefaultEventLoopPolicy

    class EventLoopPolicy(_Base):
        """asyncio's default policy, with Cloverleaf's loops."""

        def new_event_loop(self) -> EventLoop:
            """Make a loop; it becomes the current one only by `set_event_loop`."""
            return EventLoop()


def install() -> None:
    """Let `asyncio.run()`, `asyncio.Runner` and `asyncio.new_event_loop()` make our loops."""
    if sys.version_info >= (3, 16):
        raise RuntimeError(
            "This Python has no event loop policies, so there is nothing to install; "
            "use cloverleaf.run(), or pass loop_factory=cloverleaf.new_event_loop"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())
