"""`Flight`: an operation of a file's that is under way, and what its end brings.

There is one at a time, and it comes to its end whoever has given up waiting for it. A child that
was forked forgets its parent's. One whose loop was closed is waited for if it changes the file, or
what is in memory of it, and forgotten then: nobody hears what came of it.
"""

import asyncio
import functools
import os
import threading
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


def forget(_result: object) -> None:
    """Hear the end of what nobody waits for."""


# How often to look whether what a closed loop has begun has ended.
LOOK_SECONDS = 0.005


class Last:
    """Makes a call when nobody has it any more; what that raises, Python tells."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def __del__(self) -> None:
        self._call()


class OnThread:
    """A call that an executor is given, of which one knows whether it has ended.

    What it brings is landed by whoever asks, if nobody else is left to hear of it.
    """

    __slots__ = (
        "_call",
        "_is_given_up",
        "_kept",
        "_land",
        "_lock",
        "_result",
        "_running",
        "_thread",
    )

    def __init__(self, call: Callable[[], Any], land: Callable[[Any], object]) -> None:
        self._call = call
        self._land: Callable[[Any], object] | None = land
        self._lock = threading.Lock()
        #: None before it begins, and False once it has ended.
        self._running: bool | None = None
        #: The number of the thread that is at it, or 0.
        self._thread = 0
        self._is_given_up = False
        self._result: Any = None
        self._kept: object = None

    def __call__(self) -> Any:
        """Make the call, unless that was given up."""
        with self._lock:
            if self._is_given_up:
                return None
            self._running, self._thread = True, threading.get_ident()
        try:
            self._result = self._call()
            return self._result
        finally:
            with self._lock:
                self._running, self._thread = False, 0
            self._kept = None

    @property
    def is_running(self) -> bool:
        """Whether a thread is at it; in a forked child, whether one was when it was forked."""
        return self._running is True

    @property
    def is_here(self) -> bool:
        """Whether the thread that is at it is the one that asks."""
        return self._thread == threading.get_ident()

    def then(self, last: Callable[[], object]) -> bool:
        """Make another call once this one has ended; False, and no call, if nothing of it goes on.

        It never will then.
        """
        with self._lock:
            self._is_given_up = self._running is None
            is_running = self._running is True
            if is_running:
                self._kept = Last(last)
        return is_running

    def has_ended(self) -> bool:
        """Whether nothing of it goes on, or will; nobody else hears of its result."""
        with self._lock:
            self._is_given_up = self._running is None
            if self._running:
                return False
        land, self._land = self._land, None
        if land is not None and self._result is not None:
            land(self._result)
        return True


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Landing:
    """Hears of the end of a request in place of a future, and tells whoever waits for it.

    Nobody can cancel it: the request comes to its end.
    """

    __slots__ = ("_callbacks", "_flight", "_land", "_loop", "waiter")

    def __init__(
        self, flight: "Flight", loop: asyncio.AbstractEventLoop, land: Callable[[Any], object]
    ) -> None:
        self._flight = flight
        self._loop = loop
        self._land = land
        self._callbacks: list[Callable[[Any], object]] = []
        #: Brings the result to whoever has made the request, unless that one gives up.
        self.waiter: asyncio.Future[Any] = loop.create_future()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def done(self) -> bool:
        return False

    def set_result(self, result: Any) -> None:
        self._flight._note_end()
        try:
            self._land(result)
        except Exception as error:
            # Such as no memory: whoever waits must not wait for ever.
            self.set_exception(error)
            return
        if not self.waiter.done():
            self.waiter.set_result(result)
        self._tell()

    def set_exception(self, error: BaseException) -> None:
        self._flight._note_end()
        if not self.waiter.done():
            self.waiter.set_exception(error)
            self.waiter.exception()  # tells asyncio that somebody cares
        self._tell()

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback(self)
        self._flight._note_landed()


class Flight:
    """What is under way on one file."""

    name: Any
    #: The interpreter ends, so a loop that does not run will not run again.
    is_last = False

    def __init__(self) -> None:
        self._flight: asyncio.Future[Any] | _Landing | None = None
        self._flight_process = 0
        #: The loop of whoever waited last. All who have the file's turn wait here, and say so.
        self.loop: asyncio.AbstractEventLoop | None = None
        #: Tells whether what was under way has ended, if others must wait for that.
        self._has_ended: Callable[[], bool] | None = None
        #: The thread that uses the file's stack itself.
        self._thread: OnThread | None = None
        #: Lands what was asked for of a stream, if nobody has heard of that, and tells whether it
        #: has ended; and in which process that was.
        self._reading: tuple[Callable[[], bool], int] | None = None

    async def let_others_run(self) -> None:
        """Wait for the loop's next turn."""
        self.loop = asyncio.get_running_loop()
        await asyncio.tasks.sleep(0)

    def perform(self, request: _cloverleaf.Request) -> asyncio.Future[Any]:
        """Begin a request that harms nothing if nobody hears of its end."""
        self.loop = asyncio.get_running_loop()
        return perform(request)

    async def land(self) -> None:
        """Wait until nothing is under way any more."""
        while self._flight is not None:
            await self._landing(self._flight)

    async def fly(
        self,
        begin: Callable[[], asyncio.Future[_T]],
        land: Callable[[_T], object],
        has_ended: Callable[[], bool] | None = None,
        thread: OnThread | None = None,
    ) -> _T:
        """Wait for what `begin` begins; `land` gets its result also if nobody waits any more.

        `has_ended` is asked if the loop was closed meanwhile; `thread` is the one that uses the
        file's stack.
        """
        self.loop = loop = asyncio.get_running_loop()
        flight = begin()
        waiter = loop.create_future()

        def landed(flight: asyncio.Future[_T]) -> None:
            self._note_end()
            # Asking for the exception tells asyncio that somebody cares.
            if not flight.cancelled() and flight.exception() is None:
                land(flight.result())
            _wake(waiter)
            self._note_landed()

        # The thread first, which may have begun, and must not take this for somebody else's.
        self._has_ended, self._thread = has_ended, thread
        self._flight, self._flight_process = flight, os.getpid()
        flight.add_done_callback(landed)
        await waiter
        return flight.result()

    async def carry_out(
        self,
        request: _cloverleaf.Request,
        land: Callable[[Any], object],
        *,
        changes: bool = False,
    ) -> Any:
        """Wait for the end of a request, as of what `fly` begins; tell whether it changes files."""
        has_ended = functools.partial(self._has_written, request, land) if changes else None
        self.loop = loop = asyncio.get_running_loop()
        if not isinstance(loop, _cloverleaf.Loop):
            return await self.fly(lambda: perform(request), land, has_ended)
        landing = _Landing(self, loop, land)
        loop._perform_for(request, landing)
        self._flight, self._flight_process = landing, os.getpid()
        self._has_ended = has_ended
        return await landing.waiter

    async def carry_on(self, request: _cloverleaf.Request, land: Callable[[Any], object]) -> None:
        """Land what a thread has read of a stream for a closed loop; else carry out the request.

        A stream brings each byte only once.
        """

        def heard(data: Any) -> None:
            self._reading = None
            land(data)

        self.loop = loop = asyncio.get_running_loop()
        if (before := self._reading) is not None and before[1] == os.getpid():
            while not before[0]():
                await asyncio.tasks.sleep(LOOK_SECONDS)
            if self._reading is None:
                return
        try:
            if isinstance(loop, _cloverleaf.Loop):
                self._reading = functools.partial(self._has_written, request, heard), os.getpid()
                await self.carry_out(request, heard)
            else:
                call = OnThread(request.run, heard)
                self._reading = call.has_ended, os.getpid()
                await self.fly(lambda: loop.run_in_executor(None, call), heard)
        finally:
            if self._flight is None:
                self._reading = None

    def may_bring_bytes(self) -> bool:
        """Whether a read of a stream that was given up may still bring something."""
        reading = self._reading
        if reading is not None and self._flight is None and reading[1] == os.getpid():
            # It has failed, or its loop was closed. What it has brought all the same is landed.
            if not reading[0]():
                return True
            self._reading = None
        return self._reading is not None

    def _has_written(self, request: _cloverleaf.Request, land: Callable[[Any], object]) -> bool:
        """Whether a request has ended that changes the file; what came of it is landed if known."""
        raise NotImplementedError

    def _note_landed(self) -> None:
        """Hear that what was under way has ended."""

    def _note_end(self) -> None:
        self._flight = self._has_ended = self._thread = None

    def _forget_flight(self) -> None:
        """Go on as if nothing were under way."""
        self._note_end()

    async def _landing(self, flight: asyncio.Future[Any] | _Landing) -> None:
        """Wait for what somebody has begun who does not wait for it any more."""
        self.loop = loop = asyncio.get_running_loop()
        if self.is_parents:
            raise RuntimeError(
                f"a thread was reading {self.name!r} when the process was forked; open it again"
            )
        if self._flight_process != os.getpid():
            self._forget_flight()  # the parent's, who will see it land
        elif flight.get_loop() is loop:
            waiter = loop.create_future()
            flight.add_done_callback(lambda _: _wake(waiter))
            await waiter
        elif flight.get_loop().is_closed():
            while self._has_ended is not None and not self._has_ended():
                # Threads and the kernel tell only the loop that has asked.
                await asyncio.tasks.sleep(LOOK_SECONDS)
            self._forget_flight()
            raise RuntimeError(
                f"the event loop was closed while an operation on {self.name!r} was under way"
            )
        else:
            raise RuntimeError(f"{self.name!r} is in use by another event loop")

    @property
    def is_parents(self) -> bool:
        """Whether a thread of the parent's used the file's stack when this child was forked.

        Python's own buffer is locked for good then.
        """
        thread = self._thread
        return thread is not None and self._flight_process != os.getpid() and thread.is_running

    def _is_flight_lost(self) -> bool:
        flight = self._flight
        if flight is None:
            return False
        loop = flight.get_loop()
        is_over = loop.is_closed() or (self.is_last and not loop.is_running())
        return is_over or self._flight_process != os.getpid()
