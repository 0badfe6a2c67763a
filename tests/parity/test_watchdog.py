"""The watchdog tells once what blocks a loop, while it does, and once that it is over."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import re
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .harness.program import Program
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has none

DEADLINE = 60.0  # longer than any machine stands still


class Told:
    """What a watchdog reports, and something to wait for."""

    def __init__(self) -> None:
        self.stalls: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, stall: Any) -> None:
        with self._changed:
            self.stalls.append(stall)
            self._changed.notify_all()

    def wait(self, count: int, seconds: float = DEADLINE) -> bool:
        """Wait, without letting the loop go on, until so many reports have come."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.stalls) >= count, seconds)

    @property
    def ends(self) -> list[bool]:
        return [stall.is_over for stall in self.stalls]


def watch(loop: Loop, seconds: float | None, report: Callable[[Any], object] | None) -> None:
    """Set the watchdog of a loop whose type does not tell that it has one."""
    loop.set_watchdog(seconds, report)  # type: ignore[attr-defined]


def metrics(loop: Loop) -> Any:
    """Return the numbers of such a loop."""
    return loop.metrics()  # type: ignore[attr-defined]


def run_once(loop: Loop, callback: Callable[[], object]) -> None:
    """Run the loop for as long as one callback takes."""
    loop.call_soon(callback)
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_a_task_that_waits_is_told_of_once_while_it_does_and_once_after(loop: Loop) -> None:
    told = Told()
    watch(loop, 0.02, told)

    async def blocks() -> None:
        assert told.wait(1), "not while it blocks"
        assert not told.wait(2, 0.3), "twice"

    async def main() -> None:
        await asyncio.sleep(0)
        await blocks()

    task = loop.create_task(main(), name="culprit")
    loop.run_until_complete(task)
    assert told.wait(2)
    first, last = told.stalls
    assert told.ends == [False, True]
    assert first.task is last.task is task
    assert first.loop is loop
    assert [frame.name for frame in first.stack][:2] == ["main", "blocks"]
    assert 0.02 <= first.seconds < last.seconds
    assert last.seconds >= 0.3
    assert first.thread == threading.current_thread().name
    for words in ("'culprit'", "told.wait(1)", " so far by "):
        assert words in str(first)
    assert "'culprit'" in str(last)
    assert "so far" not in str(last)
    assert "\n" not in str(last)
    after = metrics(loop)
    assert (after.stalls, after.longest_stall_seconds) == (1, last.seconds)


def test_a_busy_callback_is_named_by_its_function(loop: Loop) -> None:
    told = Told()
    watch(loop, 0.02, told)

    def computes() -> None:
        while not told.stalls:
            pass

    run_once(loop, computes)
    assert told.wait(2)
    first = told.stalls[0]
    assert first.task is None
    assert "the callback computes() (" in str(first)
    assert not first.is_kept_waiting
    assert told.ends == [False, True]


def test_a_callback_in_c_is_named_in_debug_mode(loop: Loop) -> None:
    for debug in (False, True):
        told = Told()
        watch(loop, 0.02, told)
        loop.set_debug(debug)
        loop.slow_callback_duration = DEADLINE
        waiting = threading.Lock()
        waiting.acquire()

        def let_go(told: Told = told, waiting: threading.Lock = waiting) -> None:
            told.wait(1)
            waiting.release()

        thread = threading.Thread(target=let_go)
        thread.start()
        handle = loop.call_soon(waiting.acquire)
        loop.call_soon(loop.stop)
        loop.run_forever()
        thread.join()
        assert told.wait(2)
        first = told.stalls[0]
        assert list(first.stack) == []
        assert first.handle is (handle if debug else None)
        assert ("not written in Python" in str(first)) is not debug
        assert ("acquire" in str(first)) is debug


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="nobody can keep the GIL"
)
def test_c_code_that_keeps_the_gil_is_told_of_when_python_can_be_had(loop: Loop) -> None:
    told = Told()
    watch(loop, 0.02, told)

    def matches(length: int) -> None:
        # It takes twice as long for each letter, and lets nobody in before it has failed.
        assert re.match(r"(a+)+$", "a" * length + "b") is None
        # Whoever asked for the GIL meanwhile gets it, and finds this frame.
        told.wait(1, 0.1)

    for length in range(18, 28):
        run_once(loop, functools.partial(matches, length))
        kept = [stall for stall in told.stalls if stall.kept_seconds and not stall.is_over]
        if kept:
            break
        told.stalls.clear()
    assert "no other thread could run Python" in str(kept[0])
    assert "matches" in [frame.name for frame in kept[0].stack]
    assert kept[0].seconds >= kept[0].kept_seconds


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="nobody can keep the GIL"
)
def test_a_loop_that_another_thread_keeps_from_python_is_not_to_blame(loop: Loop) -> None:
    told = Told()
    watch(loop, 0.02, told)

    def match(length: int, go: threading.Event) -> None:
        go.wait()
        re.match(r"(a+)+$", "a" * length + "b")

    for length in range(18, 28):
        go = threading.Event()
        hog = threading.Thread(target=match, args=(length, go))
        hog.start()
        # The other thread gets Python when the loop sleeps. When its time has come it has to wait.
        loop.call_soon(go.set)
        loop.run_until_complete(asyncio.sleep(0.01))
        hog.join()
        kept = [stall for stall in told.stalls if stall.is_kept_waiting]
        if kept:
            break
        told.stalls.clear()
    assert "Python's lock (the GIL)" in str(kept[0])
    assert "by other threads" in str(kept[0])
    assert kept[0].task is None


def never_told_in_one_of_some_tries(loop: Loop, tries: Callable[[], object]) -> None:
    """Any machine may stand still in the midst of a callback, but not every time."""
    for _ in range(8):
        before = metrics(loop).stalls
        tries()
        if metrics(loop).stalls == before:
            return
    raise AssertionError("told of every time")


def test_many_short_callbacks_in_one_turn_are_no_stall(loop: Loop) -> None:
    watch(loop, 0.3, Told())

    def short() -> None:
        end = loop.time() + 0.001
        while loop.time() < end:
            pass

    def turn() -> None:
        for _ in range(900):
            loop.call_soon(short)
        turns = metrics(loop).turns
        run_once(loop, int)
        assert metrics(loop).turns == turns + 1

    never_told_in_one_of_some_tries(loop, turn)


def test_sleep_and_work_of_other_threads_are_no_stall(loop: Loop) -> None:
    watch(loop, 0.1, Told())

    async def main() -> None:
        await asyncio.sleep(0.5)
        await loop.run_in_executor(None, threading.Event().wait, 0.5)

    never_told_in_one_of_some_tries(loop, lambda: loop.run_until_complete(main()))


def test_a_stall_after_a_long_sleep_is_told_of(loop: Loop) -> None:
    """The watchdog sleeps as long as the loop does, and is up when the loop is."""
    told = Told()
    watch(loop, 0.02, told)

    async def main() -> None:
        for count in (1, 3):
            await asyncio.sleep(0.2)
            assert told.wait(count)
            await asyncio.sleep(0)
            await loop.run_in_executor(None, told.wait, count + 1)

    loop.run_until_complete(main())
    assert told.ends == [False, True, False, True]


def test_a_stall_that_ends_with_the_run_ends(loop: Loop) -> None:
    told = Told()
    watch(loop, 0.02, told)

    def blocks_and_stops() -> None:
        told.wait(1)
        loop.stop()

    loop.call_soon(blocks_and_stops)
    loop.run_forever()
    assert told.ends == [False, True], "at the end of the run, and not later"


def test_every_run_is_watched_and_nothing_stays_after_it(loop: Loop) -> None:
    threads = threading.active_count()
    told = Told()
    watch(loop, 0.02, told)
    for run in range(1, 4):
        run_once(loop, functools.partial(told.wait, 2 * run - 1))
        assert told.ends == [False, True] * run
        assert threading.active_count() == threads
    loop.close()
    assert threading.active_count() == threads


def test_it_can_be_set_and_unset_by_a_running_loop(loop: Loop) -> None:
    told, other = Told(), Told()

    async def main() -> None:
        watch(loop, 0.02, told)
        told.wait(1)
        await asyncio.sleep(0)
        watch(loop, 0.02, other)
        other.wait(1)
        watch(loop, None, None)
        assert other.ends == [False, True]
        assert not told.wait(3, 0.2)

    loop.run_until_complete(main())
    assert told.ends == other.ends == [False, True]


def test_a_report_that_raises_is_logged_and_the_watch_goes_on(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()

    def report(stall: Any) -> None:
        told(stall)
        raise LookupError("of the report")

    watch(loop, 0.02, report)
    with caplog.at_level(logging.ERROR, logger="cloverleaf"):
        run_once(loop, lambda: told.wait(1))
        run_once(loop, lambda: told.wait(3))
    assert told.ends == [False, True, False, True]
    assert sum("of the report" in str(record.exc_info) for record in caplog.records) == 4


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_report_that_raises_what_is_no_exception_does_not_end_the_watch(
    loop: Loop, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    told = Told()

    def report(stall: Any) -> None:
        told(stall)
        raise error

    watch(loop, 0.02, report)
    with caplog.at_level(logging.ERROR, logger="cloverleaf"):
        run_once(loop, lambda: told.wait(3, 0.3))
    assert told.ends == [False, True]
    assert len(caplog.records) == 2


def test_how_long_a_report_takes_is_not_the_stalls(loop: Loop) -> None:
    told, goes_on = Told(), threading.Event()

    def report(stall: Any) -> None:
        told(stall)
        goes_on.wait(DEADLINE)

    watch(loop, 0.02, report)

    async def main() -> None:
        told.wait(1)
        await asyncio.sleep(0.5)
        goes_on.set()

    loop.run_until_complete(main())
    first, last = told.stalls
    assert last.is_over
    assert first.seconds <= last.seconds < first.seconds + 0.4
    assert metrics(loop).longest_stall_seconds == last.seconds


def test_an_interrupt_while_the_last_report_is_waited_for_leaves_no_loop_running(
    program: Program,
) -> None:
    out = program.output("""
        import asyncio, signal, sys, threading
        loop = new_event_loop()
        told = threading.Event()
        def report(stall):
            told.set()
            threading.Event().wait(0.3)
            signal.raise_signal(signal.SIGINT)
            threading.Event().wait(0.3)
        loop.set_watchdog(0.02, report)
        hooks = sys.get_asyncgen_hooks()
        def block():
            told.wait(60)
            loop.stop()
        loop.call_soon(block)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", asyncio._get_running_loop(), sys.get_asyncgen_hooks() == hooks)
        loop.close()
    """)
    assert out == "interrupted None True"


def test_by_default_it_is_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    watch(loop, 0.02, None)
    logged = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.set()

    listener = Listener()
    logging.getLogger("cloverleaf").addHandler(listener)
    try:
        with caplog.at_level(logging.WARNING, logger="cloverleaf"):
            run_once(loop, lambda: logged.wait(DEADLINE))
    finally:
        logging.getLogger("cloverleaf").removeHandler(listener)
    first, last = (record.getMessage() for record in caplog.records)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert re.match(r"Event loop is blocked for 0\.\d{3} s so far by the callback <lambda>", first)
    assert "logged.wait(DEADLINE)" in first
    assert re.match(r"Event loop was blocked for \d+\.\d{3} s by the callback <lambda>", last)


@pytest.mark.parametrize(
    "seconds",
    [-1, float("nan"), float("inf"), -0.001, 1e300, 1e-12, 10**400],
    ids=lambda number: f"{number!r:.9}",
)
def test_what_is_no_time_is_refused(loop: Loop, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds"):
        watch(loop, seconds, None)
    with pytest.raises(ValueError, match="watchdog must be a number of seconds"):
        type(loop)(watchdog=seconds)  # type: ignore[call-arg]


@pytest.mark.parametrize("seconds", [True, "0.1", b"1", [1]])
def test_what_is_no_number_is_refused(loop: Loop, seconds: Any) -> None:
    with pytest.raises(TypeError, match="must be a number of seconds or None"):
        watch(loop, seconds, None)


def test_what_cannot_be_called_and_who_may_not_call_are_refused(loop: Loop) -> None:
    with pytest.raises(TypeError, match="report must be callable"):
        loop.set_watchdog(1, "report")  # type: ignore[attr-defined]

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="in the thread that runs the loop"):
            watch(loop, 1, None)

    async def main() -> None:
        await loop.run_in_executor(None, elsewhere)

    loop.run_until_complete(main())
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        watch(loop, 1, None)


def test_several_loops_are_watched_each_by_its_own(loop: Loop) -> None:
    mine, its = Told(), Told()
    watch(loop, 0.02, mine)

    def elsewhere() -> None:
        other = type(loop)()
        try:
            watch(other, 0.02, its)
            run_once(other, lambda: mine.wait(1) and its.wait(1))
        finally:
            other.close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    run_once(loop, lambda: mine.wait(1) and its.wait(1))
    thread.join()
    assert mine.ends == its.ends == [False, True]
    assert mine.stalls[0].loop is loop
    assert its.stalls[0].loop is not loop
    assert its.stalls[0].thread == thread.name


def test_a_loop_that_nobody_has_any_more_is_gone() -> None:
    import cloverleaf

    loop = cloverleaf.new_event_loop(watchdog=0.02)
    told = Told()
    loop.set_watchdog(0.02, told)
    run_once(loop, lambda: told.wait(1))
    told.stalls.clear()
    loop.close()
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None
