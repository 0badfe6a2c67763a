"""Other threads: waking a loop, giving it work, and running loops of their own."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import Callable
from typing import Any

import pytest

from .harness.types import Loop, NewLoop

SECONDS = 60.0


class Thread:
    """A thread whose exception is raised where it is joined."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # raised in join
            self._error = error

    def join(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


def test_wakeups_a_job_injected_while_the_loop_sleeps_wakes_it(loop: Loop) -> None:
    asleep = threading.Event()
    loop.call_soon(asleep.set)

    def wake() -> None:
        assert asleep.wait(SECONDS)
        loop.call_soon_threadsafe(loop.stop)

    thread = Thread(wake)
    loop.run_forever()
    thread.join()


def test_wakeups_a_job_injected_before_the_loop_sleeps_is_seen(loop: Loop) -> None:
    seen: list[int] = []
    Thread(lambda: loop.call_soon_threadsafe(seen.append, 1)).join()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_wakeups_a_caller_may_hold_what_its_callback_needs(loop: Loop) -> None:
    rounds = 200
    lock = threading.Lock()
    step = threading.Semaphore(0)
    seen: list[int] = []
    processors = os.sched_getaffinity(0)

    def share_one_processor() -> None:
        os.sched_setaffinity(0, {min(processors)})

    def on_step(n: int) -> None:
        with lock:
            seen.append(n)
        step.release()

    def drive() -> None:
        share_one_processor()
        for n in range(rounds):
            with lock:
                loop.call_soon_threadsafe(on_step, n)
            assert step.acquire(timeout=SECONDS)
        loop.call_soon_threadsafe(loop.stop)

    share_one_processor()
    try:
        thread = Thread(drive)
        loop.run_forever()
        thread.join()
    finally:
        os.sched_setaffinity(0, processors)
    assert seen == list(range(rounds))


def test_wakeups_none_is_lost_over_many_sleeps(loop: Loop) -> None:
    rounds = 2000
    step = threading.Semaphore(0)
    seen: list[int] = []

    def on_step(n: int) -> None:
        seen.append(n)
        step.release()

    def drive() -> None:
        for n in range(rounds):
            loop.call_soon_threadsafe(on_step, n)
            assert step.acquire(timeout=SECONDS)
        loop.call_soon_threadsafe(loop.stop)

    thread = Thread(drive)
    loop.run_forever()
    thread.join()
    assert seen == list(range(rounds))


def test_calls_that_come_one_by_one_and_in_bursts_by_turns_all_run_in_order(loop: Loop) -> None:
    seen: list[int] = []
    come = threading.Semaphore(0)

    def drive() -> None:
        count = 0
        for burst in [1] * 40 + [500] + [1] * 40 + [2, 3, 1, 700] + [1] * 10:
            for _ in range(burst):
                loop.call_soon_threadsafe(seen.append, count)
                count += 1
            loop.call_soon_threadsafe(come.release)
            assert come.acquire(timeout=SECONDS)
            assert len(seen) == count
        loop.call_soon_threadsafe(loop.stop)

    thread = Thread(drive)
    loop.run_forever()
    thread.join()
    assert seen == list(range(len(seen)))


def test_call_soon_threadsafe_keeps_each_threads_order(loop: Loop) -> None:
    threads, calls = 8, 500
    seen: dict[int, list[int]] = {n: [] for n in range(threads)}
    left = threads

    def end() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()

    def inject(name: int) -> None:
        for n in range(calls):
            loop.call_soon_threadsafe(seen[name].append, n)
        loop.call_soon_threadsafe(end)

    started = [Thread(lambda name=name: inject(name)) for name in range(threads)]  # type: ignore[misc]
    loop.run_forever()
    for thread in started:
        thread.join()
    assert seen == {n: list(range(calls)) for n in range(threads)}


def test_a_handle_from_another_thread_can_be_cancelled_there(loop: Loop) -> None:
    seen: list[int] = []

    def inject() -> None:
        handle = loop.call_soon_threadsafe(seen.append, 1)
        assert isinstance(handle, asyncio.Handle)
        handle.cancel()
        loop.call_soon_threadsafe(loop.stop)

    Thread(inject).join()
    loop.run_forever()
    assert seen == []


def test_call_soon_threadsafe_on_a_closed_loop_raises_in_the_calling_thread(loop: Loop) -> None:
    loop.close()
    thread = Thread(lambda: loop.call_soon_threadsafe(print))
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        thread.join()


def test_stop_from_another_thread_through_the_injector(loop: Loop) -> None:
    running = threading.Event()
    loop.call_soon(running.set)

    def stop() -> None:
        running.wait(SECONDS)
        loop.call_soon_threadsafe(loop.stop)

    thread = Thread(stop)
    loop.run_forever()
    thread.join()


def test_run_coroutine_threadsafe_brings_result_and_exception(loop: Loop) -> None:
    async def divide(a: int, b: int) -> float:
        await asyncio.sleep(0)
        return a / b

    def use() -> None:
        try:
            assert asyncio.run_coroutine_threadsafe(divide(6, 3), loop).result(SECONDS) == 2
            failed = asyncio.run_coroutine_threadsafe(divide(1, 0), loop)
            with pytest.raises(ZeroDivisionError):
                failed.result(SECONDS)
        finally:
            loop.call_soon_threadsafe(loop.stop)

    thread = Thread(use)
    loop.run_forever()
    thread.join()


def test_a_loop_runs_in_another_thread(new_loop: NewLoop) -> None:
    results: list[int] = []

    def work() -> None:
        loop = new_loop()
        results.append(loop.run_until_complete(asyncio.sleep(0.001, 7)))
        loop.close()

    Thread(work).join()
    assert results == [7]


def test_a_loop_may_be_made_in_one_thread_run_in_others_and_closed_here(loop: Loop) -> None:
    results: list[int] = []

    def work(n: int) -> None:
        results.append(loop.run_until_complete(asyncio.sleep(0.001, n)))

    for n in range(3):
        Thread(lambda n=n: work(n)).join()  # type: ignore[misc]
    assert results == [0, 1, 2]
    assert loop.run_until_complete(asyncio.sleep(0, 3)) == 3


def test_many_loops_run_at_once(new_loop: NewLoop) -> None:
    count, laps = 6, 50
    loops = [new_loop() for _ in range(count)]
    ready = threading.Barrier(count)
    trace: list[tuple[int, int]] = []

    async def talk(n: int) -> None:
        other = loops[(n + 1) % count]
        for lap in range(laps):
            future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, lap), other)
            assert await asyncio.wrap_future(future) == lap
        trace.append((n, laps))

    async def both(n: int) -> None:
        await talk(n)
        # Another loop may still want an answer from this one.
        while len(trace) < count:  # noqa: ASYNC110 - other threads fill it
            await asyncio.sleep(0.001)

    def work(n: int) -> None:
        ready.wait(SECONDS)
        loops[n].run_until_complete(both(n))

    threads = [Thread(lambda n=n: work(n)) for n in range(count)]  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert sorted(trace) == [(n, laps) for n in range(count)]


def test_a_running_loop_cannot_be_run_in_another_thread(loop: Loop) -> None:
    def intrude() -> None:
        coroutine = asyncio.sleep(0)
        try:
            with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
                loop.run_until_complete(coroutine)
        finally:
            coroutine.close()
            loop.call_soon_threadsafe(loop.stop)

    started: list[Thread] = []
    loop.call_soon(lambda: started.append(Thread(intrude)))
    loop.run_forever()
    started[0].join()


def test_the_current_thread_alone_has_the_running_loop(loop: Loop) -> None:
    seen: list[Any] = []

    async def look() -> None:
        await loop.run_in_executor(None, lambda: seen.append(asyncio._get_running_loop()))

    loop.run_until_complete(look())
    assert seen == [None]


def test_an_idle_loop_sleeps(new_loop: NewLoop) -> None:
    def sleep() -> tuple[int, float]:
        loop = new_loop()  # the first sleep of each
        loop.call_later(0.3, loop.stop)
        before = resource.getrusage(resource.RUSAGE_THREAD)
        loop.run_forever()
        after = resource.getrusage(resource.RUSAGE_THREAD)
        computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return after.ru_nvcsw - before.ru_nvcsw, computed

    # More than one, where the kernel has rings to take down that this thread has closed before.
    # A machine that is in trouble itself may wake it more often, but not each time.
    assert any(waits <= 20 and computed < 0.05 for waits, computed in (sleep() for _ in range(20)))


def test_other_threads_run_while_the_loop_sleeps(loop: Loop) -> None:
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    thread = Thread(count)
    # Asleep for once, however long the machine makes the thread wait for its turn.
    for _ in range(100):
        loop.call_later(0.05, loop.stop)
        before = counted
        loop.run_forever()
        if counted - before > 1000:
            break
    done.set()
    thread.join()
    assert counted - before > 1000


def test_a_call_soon_from_another_thread_is_not_lost(loop: Loop) -> None:
    """It is misuse, which only debug mode refuses; the running loop sees it in a later turn."""
    seen: list[int] = []
    futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(3)]

    def misuse() -> None:
        loop.call_soon(seen.append, 1)
        loop.call_later(0, seen.append, 2)
        for future in futures:
            future.set_result(3)
            future.add_done_callback(lambda future: seen.append(future.result()))

    loop.call_soon(lambda: Thread(misuse).join())
    for _ in range(4):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert sorted(seen) == [1, 2, 3, 3, 3]


def test_state_can_be_asked_for_from_any_thread(loop: Loop) -> None:
    answers: list[object] = []

    def ask() -> None:
        answers.extend([loop.is_running(), loop.is_closed(), loop.get_debug(), loop.time() > 0])
        loop.create_future().cancel()
        repr(loop)

    loop.call_soon(lambda: Thread(ask).join())
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert answers == [True, False, False, True]
