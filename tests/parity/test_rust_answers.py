"""Answers that come from any thread, by the crate cloverleaf-futures: bursts and closed loops.

On Cloverleaf's loop they take no part in Python until the loop's thread has them.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from .harness.complaints import Complaints
from .harness.extension import module
from .harness.turns import until
from .harness.types import Loop, NewLoop

UNANSWERED = "dropped before it gave an answer"


@pytest.fixture(scope="module")
def probe() -> Any:
    """Return the module that is tried."""
    return module("probe")


async def later(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def awaited(awaitable: Any) -> object:
    return await awaitable


# -- answers from any thread -------------------------------------------------------------------


async def test_an_answer_comes_from_any_thread(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    assert answer.complete([1])
    assert not awaitable.done(), "it comes in the next turn"
    assert await awaitable == [1]

    answer, awaitable = probe.make_promise()
    thread = threading.Thread(target=answer.complete, args=("from a thread",))
    thread.start()
    assert await awaitable == "from a thread"
    thread.join()

    answer, awaitable = probe.make_promise()
    answer.fail(ZeroDivisionError("no"))
    with pytest.raises(ZeroDivisionError, match="no"):
        await awaitable

    answer, awaitable = probe.make_promise()
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await awaitable
    assert awaitable.cancelled()


@pytest.mark.only("cloverleaf")  # to asyncio's loop nobody comes without Python
async def test_an_answer_needs_no_python(loop: Loop, probe: Any) -> None:
    """This thread holds the GIL until the other one has answered."""
    for n in range(100):
        answer, awaitable = probe.make_promise()
        assert answer.complete_without_python(n)
        assert await awaitable == n


async def in_order(awaitables: list[Any]) -> list[int]:
    told: list[int] = []
    for awaitable in awaitables:
        awaitable.add_done_callback(lambda done: told.append(done.result()))
    await asyncio.gather(*awaitables)
    return told


async def test_every_answer_of_a_burst_arrives_once_and_is_the_right_one(
    loop: Loop, probe: Any
) -> None:
    for _ in range(5):
        awaitables = probe.burst(4000, 4)
        told = await in_order(awaitables)
        assert [awaitable.result() for awaitable in awaitables] == list(range(4000))
        assert sorted(told) == list(range(4000))
        for thread in range(4):
            ours = [n for n in told if n % 4 == thread]
            assert ours == sorted(ours), "the answers of one thread come in its order"


async def test_a_dropped_completer_ends_its_awaitable(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    answer.forget()
    with pytest.raises(RuntimeError, match=UNANSWERED):
        await asyncio.wait_for(awaitable, 60)
    answer, awaitable = probe.make_promise()
    del answer
    with pytest.raises(RuntimeError, match=UNANSWERED):
        await asyncio.wait_for(awaitable, 60)


async def test_a_completer_may_be_dropped_while_an_exception_is_on_its_way(
    loop: Loop, probe: Any
) -> None:
    awaitables: list[Any] = []

    def made() -> Any:
        answer, awaitable = probe.make_promise()
        awaitables.append(awaitable)
        return answer

    def take(*_: object) -> None:
        pass

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            take(made(), 1 // 0)  # the completer goes with the arguments of the call
    for awaitable in awaitables:
        with pytest.raises(RuntimeError, match=UNANSWERED):
            await asyncio.wait_for(awaitable, 60)


async def test_the_rust_side_hears_of_a_cancelled_awaitable_once(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    answer.hook()
    assert not answer.is_cancelled
    awaitable.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert answer.is_cancelled
    assert answer.hooked == 1
    answer.hook()
    assert answer.hooked == 2, "a hook that comes late is called at once"
    assert answer.complete(1), "which is nobody's error"
    await asyncio.sleep(0)
    assert awaitable.cancelled()


async def test_nobody_hears_of_a_cancel_when_the_answer_was_given(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    answer.hook()
    answer.complete(1)
    assert await awaitable == 1
    await asyncio.sleep(0)
    assert answer.hooked == 0

    answer, awaitable = probe.make_promise()
    answer.hook()
    answer.complete(1)
    awaitable.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (answer.hooked, awaitable.cancelled()) == (0, True)


async def test_what_python_has_set_stays(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    awaitable.set_result("Python's")
    answer.complete("Rust's")
    assert await awaitable == "Python's"
    await asyncio.sleep(0)


# -- closed loops ------------------------------------------------------------------------------


def test_an_answer_for_a_closed_loop_is_refused(new_loop: NewLoop, probe: Any) -> None:
    loop = new_loop()
    promises = loop.run_until_complete(promised(probe, 8))
    loop.close()
    (answer, _), *others = promises
    assert not answer.complete(object())
    assert probe.complete_until_closed([answer for answer, _ in others]) == 7
    assert not any(awaitable.done() for _, awaitable in promises)


async def promised(probe: Any, count: int) -> list[Any]:
    return [probe.make_promise() for _ in range(count)]


def test_answers_that_wait_when_the_loop_is_closed_are_dropped(
    new_loop: NewLoop, probe: Any
) -> None:
    class Value:
        pass

    loop = new_loop()
    [(answer, awaitable)] = loop.run_until_complete(promised(probe, 1))
    value = Value()
    gone = weakref.ref(value)
    assert answer.complete(value)
    del value
    assert gone() is not None
    loop.close()
    attached(probe)
    gc.collect()
    assert gone() is None
    assert not awaitable.done()


def attached(probe: Any) -> None:
    """Let PyO3 drop what was dropped where it could not be; any call does."""
    probe.Gate()


def test_futures_that_wait_when_the_loop_is_closed_are_dropped(
    new_loop: NewLoop, probe: Any
) -> None:
    async def begin(gate: Any) -> list[Any]:
        waiting = [gate.wait() for _ in range(10)]
        await until(lambda: gate.waiting == 10)
        return [*waiting, gate.wait()]  # the last one has not begun

    loop = new_loop()
    gate = probe.Gate()
    waiting = loop.run_until_complete(begin(gate))
    loop.close()
    gate.open(4)
    gc.collect()
    assert gate.dropped == 11
    assert not any(awaitable.done() for awaitable in waiting)


def test_a_loop_that_stands_still_has_the_answer_when_it_runs_again(loop: Loop, probe: Any) -> None:
    [(answer, awaitable)] = loop.run_until_complete(promised(probe, 1))
    thread = threading.Thread(target=answer.complete, args=(1,))
    thread.start()
    thread.join()
    assert loop.run_until_complete(asyncio.wait_for(awaited(awaitable), 60)) == 1


def test_many_loops_in_threads_have_their_own_answers(new_loop: NewLoop, probe: Any) -> None:
    async def main(number: int) -> None:
        for _ in range(5):
            assert await asyncio.gather(*probe.burst(500, 3)) == list(range(500))
            assert await probe.awaits(later(number)) == number

    ended: list[int] = []

    def body(number: int, loop: Loop) -> None:
        loop.run_until_complete(main(number))
        ended.append(number)

    threads = [threading.Thread(target=body, args=(n, new_loop())) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == list(range(6))


# -- who looks on ------------------------------------------------------------------------------


def test_debug_mode_names_a_future_that_takes_long(
    loop: Loop, probe: Any, logged: Complaints
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0

    async def main() -> object:
        return await probe.value(1)

    assert loop.run_until_complete(main()) == 1
    assert logged.take()


@pytest.mark.only("cloverleaf")
def test_a_loop_with_a_call_soon_threadsafe_of_its_own_has_it_called(probe: Any) -> None:
    import cloverleaf

    calls: list[object] = []

    class Own(cloverleaf.EventLoop):
        pass

    def call(self: Own, callback: Any, *args: Any, context: Any = None) -> Any:
        calls.append(callback)
        return cloverleaf.EventLoop.call_soon_threadsafe(self, callback, *args, context=context)

    Own.call_soon_threadsafe = call  # type: ignore[assignment, method-assign]
    loop = Own()
    try:
        assert loop.run_until_complete(awaited_value(probe)) == 1
        assert len(calls) == 1
    finally:
        loop.close()


async def awaited_value(probe: Any) -> object:
    return await probe.value(1)
