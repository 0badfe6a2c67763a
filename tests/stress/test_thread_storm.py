"""Many threads and one loop: nothing injected is lost, and each thread's order is kept."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from parity.harness.types import Loop, NewLoop

THREADS = 16
CALLS = 3000


def test_wakeups_a_storm_of_threads_loses_nothing_and_keeps_each_order(loop: Loop) -> None:
    seen: list[list[int]] = [[] for _ in range(THREADS)]
    ready = threading.Barrier(THREADS)
    left = THREADS

    def ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def inject(name: int) -> None:
        chance = random.Random(name)
        ready.wait(60)
        for n in range(CALLS):
            handle = loop.call_soon_threadsafe(seen[name].append, n)
            if chance.random() < 0.1:
                # A handle that is cancelled too late is no loss; the number is injected again.
                handle.cancel()
                loop.call_soon_threadsafe(seen[name].append, n)
        loop.call_soon_threadsafe(ended)

    threads = [threading.Thread(target=inject, args=(name,)) for name in range(THREADS)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    for each in seen:
        assert sorted(set(each)) == list(range(CALLS))
        assert each == sorted(each)


def test_wakeups_one_call_at_a_time_always_wakes_a_sleeping_loop(loop: Loop) -> None:
    laps = 3000
    answered = threading.Semaphore(0)

    def drive() -> None:
        for _ in range(laps):
            loop.call_soon_threadsafe(answered.release)
            assert answered.acquire(timeout=60), "a wakeup was lost"
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=drive)
    thread.start()
    loop.run_forever()
    thread.join()


def test_loops_in_threads_wake_each_other(new_loop: NewLoop) -> None:
    count, laps = 4, 300
    loops = [new_loop() for _ in range(count)]
    sums = [0] * count

    async def add(n: int, value: int) -> int:
        sums[n] += value
        return value

    async def drive(n: int) -> None:
        for lap in range(laps):
            future = asyncio.run_coroutine_threadsafe(
                add((n + lap) % count, 1), loops[(n + lap) % count]
            )
            assert await asyncio.wrap_future(future) == 1

    runners = [threading.Thread(target=each.run_forever) for each in loops]
    for runner in runners:
        runner.start()
    drives = [asyncio.run_coroutine_threadsafe(drive(n), each) for n, each in enumerate(loops)]
    for each in drives:
        each.result(60)
    for each_loop in loops:
        each_loop.call_soon_threadsafe(each_loop.stop)
    for runner in runners:
        runner.join()
    assert sum(sums) == count * laps


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let threads take turns often, so that none floods the loop for long."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
def test_closing_while_threads_inject_raises_there_and_loses_no_thread(new_loop: NewLoop) -> None:
    for _ in range(5):
        loop = new_loop()
        refused = threading.Semaphore(0)
        # Without a GIL nothing else keeps four threads from injecting more than the loop can run.
        room = threading.Semaphore(1000)

        def inject(
            loop: Loop = loop,
            refused: threading.Semaphore = refused,
            room: threading.Semaphore = room,
        ) -> None:
            while True:
                # What the closed loop has dropped gives no room back.
                room.acquire(timeout=0.01)
                try:
                    loop.call_soon_threadsafe(room.release)
                except RuntimeError as error:
                    assert str(error) == "Event loop is closed"  # noqa: PT017 - in a thread
                    refused.release()
                    return

        threads = [threading.Thread(target=inject) for _ in range(4)]
        for thread in threads:
            thread.start()
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
        loop.close()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
            assert refused.acquire(blocking=False)


def test_a_loop_that_does_not_run_serves_its_user_while_threads_inject(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    over = threading.Event()
    seen: list[int] = []

    def inject() -> None:
        n = 0
        while not over.is_set():
            loop.call_soon_threadsafe(seen.append, n)
            n += 1

    thread = threading.Thread(target=inject)
    thread.start()
    try:
        for lap in range(2000):
            loop.add_reader(ours, int)
            loop.call_later(60, int).cancel()
            assert loop.remove_reader(ours)
            if lap % 100 == 0:
                loop.call_soon(loop.stop)
                loop.run_forever()
    finally:
        over.set()
        thread.join()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    ours.close()
    theirs.close()
    assert seen
    assert seen == list(range(len(seen)))


def test_closing_waits_for_threads_that_are_in_the_loop_for_a_moment(new_loop: NewLoop) -> None:
    for _ in range(5):
        loop = new_loop()
        ready = threading.Barrier(3)
        # The queue of timers is packed now and then, which takes a while.
        timers = [[loop.call_later(3600, int) for _ in range(10_000)] for _ in range(2)]

        def cancel(mine: list[asyncio.TimerHandle], ready: threading.Barrier = ready) -> None:
            ready.wait()
            for timer in mine:
                timer.cancel()

        threads = [threading.Thread(target=cancel, args=(mine,)) for mine in timers]
        for thread in threads:
            thread.start()
        ready.wait()
        loop.close()
        assert loop.is_closed()
        for thread in threads:
            thread.join()


@pytest.mark.only("cloverleaf")  # asyncio's looks first and takes the loop later: two may have it
def test_one_of_two_runs_at_once_is_refused(loop: Loop) -> None:
    ends: list[str] = []
    ready = threading.Barrier(3)
    running = threading.Event()

    def run() -> None:
        ready.wait()
        try:
            loop.run_forever()
            ends.append("ran")
        except RuntimeError as error:
            ends.append(str(error))
            loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(running.set)
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait()
    assert running.wait(60)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert sorted(ends) == ["This event loop is already running", "ran"]
