"""Signals that interrupt the loop everywhere cost no byte, no timer and no wakeup."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator

import pytest

from parity.harness.links import both_ends
from parity.harness.protocols import Echo
from parity.harness.turns import until
from parity.harness.types import Loop

DATA = random.Random(10).randbytes(8 << 20)


@pytest.fixture(params=[signal.ITIMER_PROF, signal.ITIMER_VIRTUAL], ids=["prof", "virtual"])
def storm(request: pytest.FixtureRequest) -> Iterator[list[int]]:
    """Interrupt the process after every fifth of a millisecond that it computes."""
    number = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_VIRTUAL: signal.SIGVTALRM}
    seen: list[int] = []
    before = signal.signal(number[request.param], lambda *_: seen.append(1))
    signal.setitimer(request.param, 0.0002, 0.0002)
    yield seen
    signal.setitimer(request.param, 0)
    signal.signal(number[request.param], before)


async def test_a_storm_of_signals_costs_no_byte(loop: Loop, storm: list[int]) -> None:
    async with both_ends(loop, server=Echo) as ends:
        await until(lambda: storm)
        ends.client.transport.write(DATA)
        ends.client.transport.write_eof()
        assert await ends.client.received(len(DATA)) == DATA


def test_a_storm_of_signals_costs_no_wakeup(loop: Loop, storm: list[int]) -> None:
    answered = threading.Semaphore(0)
    laps = 1000

    def drive() -> None:
        for _ in range(laps):
            loop.call_soon_threadsafe(answered.release)
            assert answered.acquire(timeout=60), "a wakeup was lost"
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=drive)
    thread.start()
    loop.run_forever()
    thread.join()


def test_a_storm_of_signals_makes_no_timer_early(loop: Loop, storm: list[int]) -> None:
    early: list[float] = []

    def fire(due: float) -> None:
        if loop.time() < due - 2e-9:
            early.append(due)

    for n in range(300):
        due = loop.time() + n / 3000
        loop.call_at(due, fire, due)
    loop.call_later(0.12, loop.stop)
    loop.run_forever()
    assert early == []


def test_handlers_of_the_loop_hear_every_signal_of_a_burst(loop: Loop) -> None:
    """As many as the wakeup descriptor holds; asyncio's holds some hundreds too."""
    heard: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, heard.append, 1)
    for _ in range(200):
        signal.raise_signal(signal.SIGUSR1)
    loop.call_later(0, int)
    while len(heard) < 200:
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert len(heard) == 200
    loop.remove_signal_handler(signal.SIGUSR1)
