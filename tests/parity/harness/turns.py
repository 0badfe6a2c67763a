"""Steering a loop turn by turn, and waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .types import Loop


def turn(loop: Loop) -> None:
    """Run one turn: what is ready now, and nothing that it schedules."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def turns_until(loop: Loop, condition: Callable[[], object]) -> None:
    """Run turns until the condition holds; the test's deadline ends a vain wait."""
    while not condition():
        turn(loop)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds; the test's deadline ends a vain wait."""
    while not condition():  # noqa: ASYNC110 - any condition, not only an event
        await asyncio.sleep(0)


async def turns(count: int) -> None:
    """Let the loop make so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def alone() -> None:
    """Let the loop run until every task but the caller's has ended."""
    await until(lambda: len(asyncio.all_tasks()) == 1)
