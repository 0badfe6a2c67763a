"""`Turns`: who may use a file next; in the order in which they came."""

import asyncio
from collections import deque


class Turns:
    """Whose turn it is, and who waits for one."""

    __slots__ = ("_waiting", "busy")

    def __init__(self) -> None:
        self.busy = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def line_up(self) -> asyncio.Future[None]:
        """Take a place behind those who wait; somebody must `wait` there."""
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        return place

    async def wait(self, place: asyncio.Future[None]) -> None:
        """Wait for the turn of this place, which is then taken."""
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the turn to whoever waits."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                if place.get_loop().is_closed():
                    continue  # nobody is left there
                place.set_result(None)
                return
        self.busy = False
