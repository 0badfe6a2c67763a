"""`Turns`: who may use a file next; in the order in which they came.

A child that was forked finds the turns free: who had one, or waited for it, is its parent. The
child may close its copy of that one, so a turn knows in which process it was taken.

Whoever has a turn of a loop that was closed will never go on. So its coroutine is closed for it,
which undoes what it has begun, before anybody else has the turn.
"""

import asyncio
import gc
import os
from collections import deque
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, Protocol

#: Which process this is, counted by forks.
process = 1

#: One use of a file: the loop that it is of, and the process. Whoever has it keeps it in a
#: variable, by which its coroutine is found.
Turn = tuple[asyncio.AbstractEventLoop | None, int]

#: A turn that was taken at once. To ask for the loop takes a system call, so whoever has to wait
#: then notes it where it waits, and nobody sees the turn before.
at_once: Turn = None, process

# How long to wait for another loop before looking whether that was closed.
_LOOK_SECONDS = 0.05


def _count_fork() -> None:
    global process, at_once  # noqa: PLW0603  # there is one for each process
    process += 1
    at_once = None, process


os.register_at_fork(after_in_child=_count_fork)


class Waiter(Protocol):
    """Where those who have a turn wait, all of them."""

    #: The loop of the one who waited there last.
    loop: asyncio.AbstractEventLoop | None

    @property
    def closed(self) -> bool:
        """Whether the file takes nothing more."""

    #: Others may have the descriptor as well.
    is_shared: bool

    def hand_over(self) -> None:
        """Have the descriptor stand where the file does."""


class _Place:
    """A place in the line."""

    __slots__ = ("is_behind_others", "is_left", "reached", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_behind_others: bool) -> None:
        self.turn: Turn = loop, process
        self.reached: asyncio.Future[None] = loop.create_future()
        #: Someone of another loop comes before.
        self.is_behind_others = is_behind_others
        #: Nobody waits there any more.
        self.is_left = False

    @property
    def is_free(self) -> bool:
        """Whether nobody will go on from there."""
        return self.is_left or self.reached.done() or self.reached.get_loop().is_closed()


class Turns:
    """Whose turn it is, and who waits for one."""

    __slots__ = ("_forsake", "_waiter", "_waiting", "is_taken_over", "taken")

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        #: The turn that somebody has.
        self.taken: Turn | None = None
        #: A coroutine that has the turn is closed for somebody who goes on in its place.
        self.is_taken_over = False
        self._waiting: deque[_Place] = deque()
        self._forsake: Callable[[asyncio.Task[None]], None] | None = None

    @property
    def is_parents(self) -> bool:
        """Whether the turn is one of the process from which this one was forked."""
        return self.taken is not None and self.taken[1] != process

    @property
    def busy(self) -> bool:
        """Whether somebody has the turn who will leave it: in this process, of an open loop."""
        while (turn := self.taken) is not None:
            if turn[1] != process:
                self._waiting.clear()
                self.taken = None
                continue
            loop = self._loop_of(turn)
            if loop is None or not loop.is_closed() or not self._evict(turn):
                return True
        return False

    def take(self, use: Callable[[Turn], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Take a place now, and have a task use the turn when it comes; `use` leaves it."""
        loop = asyncio.get_running_loop()
        place = self._line_up(loop) if self.busy else None
        turn = (loop, process) if place is None else place.turn
        if place is None:
            self.taken = turn
        has_begun = False

        async def use_turn() -> None:
            nonlocal has_begun
            has_begun = True
            if place is not None:
                await self._reach(place)
            await use(turn)

        def forsake(_task: asyncio.Task[None] | None) -> None:
            # One that is cancelled before its first step has run nothing, so left nothing either.
            if not has_begun and (place is None or not place.reached.cancel()):
                self.leave(turn)

        coroutine = use_turn()
        try:
            task = loop.create_task(coroutine)
        except BaseException:
            # As the program's own factory of tasks may raise.
            coroutine.close()
            forsake(None)
            raise
        task.add_done_callback(forsake)
        self._forsake = forsake
        return task

    def give_up(self, task: asyncio.Task[None]) -> None:
        """Give up the turn that was taken last, or the place, for a task whose loop is closed."""
        coroutine: Any = task.get_coro()
        self._close([coroutine])
        if self._forsake is not None:
            self._forsake(task)

    async def wait(self) -> Turn:
        """Wait for our turn, which is then taken."""
        loop = asyncio.get_running_loop()
        if not self.busy:
            self.taken = turn = loop, process
            return turn
        return await self._reach(self._line_up(loop))

    def leave(self, turn: Turn) -> None:
        """Give the turn to whoever waits, unless another one has it by now."""
        if self.taken is not turn:
            return
        self.taken = None
        if not self._waiting:
            return
        if turn[1] != process:
            self._waiting.clear()  # they wait in the parent
            return
        while self._waiting:
            place = self._waiting.popleft()
            if not place.is_free:
                self.taken = place.turn
                place.reached.set_result(None)
                return

    def _line_up(self, loop: asyncio.AbstractEventLoop) -> _Place:
        before = self._waiting[-1] if self._waiting else None
        turn = before.turn if before is not None else self.taken
        is_behind = before is not None and before.is_behind_others
        is_behind = is_behind or turn is None or self._loop_of(turn) is not loop
        place = _Place(loop, is_behind_others=is_behind)
        self._waiting.append(place)
        return place

    async def _reach(self, place: _Place) -> Turn:
        turn, reached = place.turn, place.reached
        try:
            if place.is_behind_others:
                # Nobody would say that the loop was closed.
                while not reached.done() and self.busy:
                    await asyncio.tasks.wait([reached], timeout=_LOOK_SECONDS)
            await reached
        except BaseException:
            place.is_left = True
            self.leave(turn)  # if it was reached
            raise
        return turn

    def _loop_of(self, turn: Turn) -> asyncio.AbstractEventLoop | None:
        return turn[0] or self._waiter.loop

    def _evict(self, turn: Turn) -> bool:
        """Close the coroutine that has the turn, which then leaves it; not if it runs just now."""
        having = [
            each
            for each in gc.get_objects()
            # `isinstance` would ask proxies for their class, and those of dead objects raise.
            if type(each) is CoroutineType and self._has(each, turn)
        ]
        if any(each.cr_running for each in having):
            return False
        try:
            self._close(having)
        finally:
            # One that has not begun, or that is nowhere to be found, leaves nothing.
            self.leave(turn)
        return True

    def _close(self, coroutines: list[Any]) -> None:
        self.is_taken_over = True
        try:
            for each in coroutines:
                each.close()
        finally:
            self.is_taken_over = False

    def _has(self, coroutine: "CoroutineType[Any, Any, Any]", turn: Turn) -> bool:
        """Whether it is one of ours that has a turn of this file."""
        frame = coroutine.cr_frame
        if frame is None or frame.f_globals.get("__package__") != __package__:
            return False
        found = frame.f_locals
        if not any(value is turn for value in found.values()):
            return False
        # Those of other files have the same that was taken at once; but then not this file.
        return turn is not at_once or getattr(found.get("self"), "_turns", None) is self


class HandingOver(Turns):
    """Those of a file whose descriptor others may have: they find it where each of them left it."""

    __slots__ = ()

    def leave(self, turn: Turn) -> None:
        """Move the descriptor, and give the turn to whoever waits."""
        if self.taken is turn and self._waiter.is_shared and not self._waiter.closed:
            self._waiter.hand_over()
        super().leave(turn)
