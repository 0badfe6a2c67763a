"""`Flight`: an operation of a file's that is under way, and what its end brings.

There is one at a time, and it comes to its end whoever has given up waiting for it. A child that
was forked forgets its parent's, and so does everybody whose loop was closed before it ended.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeVar

from . import _cloverleaf

_T = TypeVar("_T")


def perform(request: _cloverleaf.Request) -> asyncio.Future[Any]:
    """Have the running loop make a request; a loop of another kind gives it to its executor."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, _cloverleaf.Loop):
        return loop._perform(request)
    return loop.run_in_executor(None, request.run)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Flight:
    """What is under way on one file."""

    name: Any

    def __init__(self) -> None:
        self._flight: asyncio.Future[Any] | None = None
        self._flight_process = 0

    async def land(self) -> None:
        """Wait until nothing is under way any more."""
        while self._flight is not None:
            await self._landing(self._flight)

    async def fly(
        self,
        begin: Callable[[], asyncio.Future[_T]],
        land: Callable[[_T], object],
    ) -> _T:
        """Wait for what `begin` begins; `land` gets its result also if nobody waits any more."""
        loop = asyncio.get_running_loop()
        flight = begin()
        waiter = loop.create_future()

        def landed(flight: asyncio.Future[_T]) -> None:
            self._flight = None
            # Asking for the exception tells asyncio that somebody cares.
            if not flight.cancelled() and flight.exception() is None:
                land(flight.result())
            _wake(waiter)
            self._note_landed()

        self._flight, self._flight_process = flight, os.getpid()
        flight.add_done_callback(landed)
        await waiter
        return flight.result()

    def _note_landed(self) -> None:
        """Hear that what was under way has ended."""

    def _forget_flight(self) -> None:
        """Go on as if nothing were under way."""
        self._flight = None

    async def _landing(self, flight: asyncio.Future[Any]) -> None:
        """Wait for what somebody has begun who does not wait for it any more."""
        loop = asyncio.get_running_loop()
        if self._flight_process != os.getpid():
            self._forget_flight()  # the parent's, who will see it land
        elif flight.get_loop() is loop:
            waiter = loop.create_future()
            flight.add_done_callback(lambda _: _wake(waiter))
            await waiter
        elif flight.get_loop().is_closed():
            self._forget_flight()
            raise RuntimeError(
                f"the event loop was closed while an operation on {self.name!r} was under way"
            )
        else:
            raise RuntimeError(f"{self.name!r} is in use by another event loop")

    def _is_flight_lost(self) -> bool:
        flight = self._flight
        is_ours = self._flight_process == os.getpid()
        return flight is not None and (not is_ours or flight.get_loop().is_closed())
