"""The race of a connection's attempts leaves nothing open but what the winner has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from cloverleaf._race import first_connected

from .harness.turns import turns
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio's is its own

Attempt = Callable[[], Coroutine[Any, Any, "Opened"]]
NEVER = 1000.0


class Opened:
    """What an attempt opens."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        """Close it."""
        assert self.is_open
        self.is_open = False


def failing(error: BaseException) -> Attempt:
    async def attempt() -> Opened:
        await asyncio.sleep(0)
        raise error

    return attempt


def winning(opened: Opened, when: Awaitable[object] | None = None) -> Attempt:
    async def attempt() -> Opened:
        await (when or asyncio.sleep(0))
        return opened

    return attempt


async def idle() -> Opened:
    await asyncio.sleep(NEVER)
    raise AssertionError("nobody waits for that long")


def stubborn(end: Awaitable[object], opened: Opened | None = None) -> Attempt:
    """An attempt that does not end at once when it is cancelled, and may have opened something."""

    async def attempt() -> Opened:
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            await end
            if opened is None:
                raise
        assert opened is not None
        return opened

    return attempt


@pytest.mark.parametrize("head_start", [0.0, NEVER])
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_none_wins_where_all_fail(loop: Loop, head_start: float, count: int) -> None:
    attempts = [failing(OSError(number)) for number in range(count)]
    assert await first_connected(loop, attempts, head_start) is None


@pytest.mark.parametrize("head_start", [0.0, NEVER])
async def test_the_first_that_connects_wins(loop: Loop, head_start: float) -> None:
    opened = Opened()
    attempts = [failing(OSError()), winning(opened), idle]
    assert await first_connected(loop, attempts, head_start) is opened
    assert opened.is_open
    assert len(asyncio.all_tasks()) == 1


async def test_what_a_loser_opens_is_closed(loop: Loop) -> None:
    opened, late = Opened(), Opened()
    attempts = [stubborn(turns(3), late), winning(opened)]
    assert await first_connected(loop, attempts, 0.0) is opened
    assert opened.is_open
    assert not late.is_open


async def test_two_that_connect_at_once_have_one_winner(loop: Loop) -> None:
    both: asyncio.Future[None] = loop.create_future()
    opened = [Opened(), Opened()]
    attempts = [winning(each, asyncio.shield(both)) for each in opened]
    racing = loop.create_task(first_connected(loop, attempts, 0.0))
    await turns(10)
    both.set_result(None)
    winner = await racing
    assert [each.is_open for each in opened] == [each is winner for each in opened]


async def test_what_is_no_refusal_ends_the_race(loop: Loop) -> None:
    late = Opened()
    attempts = [stubborn(turns(3), late), failing(ZeroDivisionError())]
    with pytest.raises(ZeroDivisionError):
        await first_connected(loop, attempts, 0.0)
    assert not late.is_open


@pytest.mark.parametrize("is_won", [True, False])
async def test_a_race_that_is_cancelled_leaves_nothing_open(loop: Loop, is_won: bool) -> None:
    end: asyncio.Future[None] = loop.create_future()
    opened, late = Opened(), Opened()
    second = winning(opened) if is_won else stubborn(asyncio.shield(end))
    attempts = [stubborn(asyncio.shield(end), late), second]
    racing = loop.create_task(first_connected(loop, attempts, 0.0))
    await turns(10)
    racing.cancel()
    await turns(10)
    if is_won:
        assert racing.cancelled()  # while it waited for the other one to end
        assert not opened.is_open
    end.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await racing
    await turns(3)
    assert not late.is_open
