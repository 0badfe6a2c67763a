"""`Turns`: who may use a file next; in the order in which they came.

A child that was forked finds the turns free: who had one, or waited for it, is its parent. The
child may close its copy of that one, so whoever leaves says in which process it took the turn.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

#: Which process this is, counted by forks.
process = 1


def _count_fork() -> None:
    global process  # noqa: PLW0603  # there is one for each process
    process += 1


os.register_at_fork(after_in_child=_count_fork)


class Turns:
    """Whose turn it is, and who waits for one."""

    __slots__ = ("_forsake", "_waiting", "taken")

    def __init__(self) -> None:
        #: The process that has the turn; 0 if nobody has it.
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._forsake: Callable[[asyncio.Task[None]], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody has the turn, in this process."""
        if self.taken not in (0, process):
            self._waiting.clear()
            self.taken = 0
        return self.taken != 0

    def take(self, use: Callable[[int], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Take a place now, and have a task use the turn when it comes; `use` leaves it."""
        loop = asyncio.get_running_loop()
        place = self._line_up(loop) if self.busy else None
        turn = self.taken = process
        has_begun = False

        async def use_turn() -> None:
            nonlocal has_begun
            has_begun = True
            if place is not None:
                await self._wait(place)
            await use(turn)

        def forsake(_task: asyncio.Task[None]) -> None:
            # One that is cancelled before its first step has run nothing, so left nothing either.
            if not has_begun and (place is None or not place.cancel()):
                self.leave(turn)

        task = loop.create_task(use_turn())
        task.add_done_callback(forsake)
        self._forsake = forsake
        return task

    def give_up(self, task: asyncio.Task[None]) -> None:
        """Give up the turn that was taken last, or the place, for a task whose loop is closed."""
        coroutine: Any = task.get_coro()
        coroutine.close()
        if self._forsake is not None:
            self._forsake(task)

    async def wait(self) -> None:
        """Wait for our turn, which is then taken."""
        if not self.busy:
            self.taken = process
            return
        await self._wait(self._line_up(asyncio.get_running_loop()))

    def leave(self, turn: int) -> None:
        """Give the turn to whoever waits; `turn` is the process that it was taken in."""
        if turn != process:
            return  # another one has it here, or nobody
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                if place.get_loop().is_closed():
                    continue  # nobody is left there
                place.set_result(None)
                return
        self.taken = 0

    def _line_up(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        place = loop.create_future()
        self._waiting.append(place)
        return place

    async def _wait(self, place: asyncio.Future[None]) -> None:
        turn = process
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.leave(turn)
            raise
