"""A loop for tests that is watched: what it waits for in real time is no stall."""

from __future__ import annotations

import asyncio
import threading

import pytest

import cloverleaf
from cloverleaf import testing


def test_a_wait_for_a_thread_is_no_stall_and_a_sleep_of_the_loop() -> None:
    stalls: list[cloverleaf.Stall] = []
    proceed = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, testing.EventLoop)
        # To start threads takes its time on a machine that is busy, and the first one an import.
        await asyncio.to_thread(int)
        threading.Timer(2, proceed.set).start()
        loop.set_watchdog(0.5, stalls.append)
        await asyncio.to_thread(proceed.wait)
        found = loop.metrics()
        assert found.sleeps > 0
        assert found.asleep_seconds > 0.3

    testing.run(main())
    assert stalls == []


def test_a_deadlock_is_told_of_beside_a_watchdog() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, testing.EventLoop)
        loop.set_watchdog(60)
        await asyncio.Event().wait()

    with pytest.raises(testing.DeadlockError):
        testing.run(main())
