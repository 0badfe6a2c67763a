"""Names for the types of the fixtures, so that tests read shortly and are checked strictly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], asyncio.AbstractEventLoop]
Context = dict[str, Any]


class Run(Protocol):
    """Runs a coroutine on the test's loop until it is done."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        """Return what the coroutine returns."""
