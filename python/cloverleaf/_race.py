"""A race of connection attempts with staggered starts (RFC 8305, "Happy Eyeballs").

An attempt starts when the one before it has failed, or has had its head start. The first to
succeed wins. Whatever the other attempts have opened is closed before the race is over.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar


class Closable(Protocol):
    """What an attempt opens."""

    def close(self) -> None:
        """Close it."""


_T = TypeVar("_T", bound=Closable)


async def first_connected(
    loop: asyncio.AbstractEventLoop,
    attempts: Iterable[Callable[[], Coroutine[Any, Any, _T]]],
    head_start: float,
) -> _T | None:
    """Return the winner's socket, or None if every attempt ended with an OSError."""
    waiting = iter(attempts)
    running: set[asyncio.Task[_T]] = set()
    latest: asyncio.Task[_T] | None = None
    next_start = loop.time()
    more = True
    winner: _T | None = None
    try:
        while True:
            now = loop.time()
            if more and (latest is None or latest.done() or now >= next_start):
                attempt = next(waiting, None)
                if attempt is None:
                    more = False
                else:
                    latest = loop.create_task(attempt())
                    running.add(latest)
                    next_start = now + head_start
            if not running:
                return None  # none was left to be started
            done, _ = await asyncio.tasks.wait(
                running,
                timeout=max(0.0, next_start - loop.time()) if more else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            winner = _take_winner(running, done)
            if winner is not None:
                return winner
    finally:
        try:
            await _call_off(running)
        except BaseException:
            if winner is not None:
                # Nobody else will know of it.
                winner.close()
            raise


def _take_winner(running: set[asyncio.Task[_T]], done: set[asyncio.Task[_T]]) -> _T | None:
    """Take ended attempts out of `running` until one has succeeded."""
    for task in done:
        running.discard(task)
        error = task.exception()
        if error is None:
            return task.result()
        if not isinstance(error, OSError):
            raise error
        # The attempt has noted it for the caller. Raising it here, even to catch it at once, would
        # tie it to this frame, and through the task to itself.
    return None


async def _call_off(losers: set[asyncio.Task[_T]]) -> None:
    for task in losers:
        task.cancel()
        # As a callback, this also happens if we are cancelled while we wait.
        task.add_done_callback(_close_what_it_opened)
    if losers:
        await asyncio.tasks.wait(losers)


def _close_what_it_opened(task: asyncio.Task[_T]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
