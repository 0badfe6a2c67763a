"""Awaitables of an extension module written in Rust, by the crate cloverleaf-futures.

On Cloverleaf's loop the module reaches it natively, on asyncio's by ``call_soon_threadsafe``; a
program sees no difference but in what the machine does for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from .harness.extension import module
from .harness.turns import until
from .harness.types import Loop

UNANSWERED = "dropped before it gave an answer"


@pytest.fixture(scope="module")
def probe() -> Any:
    """Return the module that is tried."""
    return module("probe")


@pytest.fixture
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Take what Rust writes of a panic."""
    yield
    assert "panicked" in capfd.readouterr().err


async def later(value: object) -> object:
    await asyncio.sleep(0)
    return value


# -- what a Rust future brings -----------------------------------------------------------------


async def test_a_rust_future_brings_its_value(loop: Loop, probe: Any) -> None:
    value = [1]
    assert await probe.value(value) is value
    assert await probe.nothing() is None


async def test_it_is_a_future_of_the_loop(loop: Loop, probe: Any) -> None:
    awaitable = probe.value(1)
    assert isinstance(awaitable, asyncio.Future)
    assert awaitable.get_loop() is loop
    assert not awaitable.done(), "it begins in the next turn"
    assert await asyncio.wait_for(awaitable, 60) == 1
    assert await asyncio.gather(*(probe.value(n) for n in range(50))) == list(range(50))


async def test_it_begins_in_the_order_of_call_soon(loop: Loop, probe: Any) -> None:
    seen: list[str] = []
    loop.call_soon(seen.append, "before")
    awaitable = probe.calls(lambda: seen.append("polled"))
    loop.call_soon(seen.append, "after")
    assert seen == []
    await awaitable
    assert seen == ["before", "polled", "after"]


async def test_it_raises_the_exception_that_rust_gives(loop: Loop, probe: Any) -> None:
    error = KeyError("this one")
    with pytest.raises(KeyError) as raised:
        await probe.raises(error)
    assert raised.value is error


@pytest.mark.parametrize("error", [StopIteration("x"), StopAsyncIteration("x"), OSError(2, "x")])
async def test_no_exception_leaves_anybody_waiting(
    loop: Loop, probe: Any, error: Exception
) -> None:
    with pytest.raises((RuntimeError, TypeError, type(error))):
        await asyncio.wait_for(probe.raises(error), 60)


async def test_a_cancelled_error_cancels_the_awaitable(loop: Loop, probe: Any) -> None:
    awaitable = probe.raises(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await awaitable
    assert awaitable.cancelled()


async def test_a_cancelled_error_keeps_its_message(loop: Loop, probe: Any) -> None:
    awaitable = probe.raises(asyncio.CancelledError("why"))
    with pytest.raises(asyncio.CancelledError, match=r"^why$"):
        await awaitable
    assert awaitable.cancelled()


async def test_a_panic_becomes_an_exception(loop: Loop, probe: Any, quiet: None) -> None:
    with pytest.raises(BaseException, match="out of order") as raised:
        await probe.panics("out of order")
    assert type(raised.value).__name__ == "PanicException"
    assert await probe.value(1) == 1, "the loop goes on"


async def test_what_wakes_itself_is_polled_once_a_turn(loop: Loop, probe: Any) -> None:
    turns: list[int] = []
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        handles[:] = [loop.call_soon(count)]

    handles = [loop.call_soon(count)]
    assert await probe.wakes_itself(5, lambda: turns.append(passed)) == 5
    handles.pop().cancel()
    assert turns == [1, 2, 3, 4, 5, 6]


def test_outside_of_a_loop_there_is_none(loop: Loop, probe: Any) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        probe.value(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        probe.make_promise()


# -- contexts ----------------------------------------------------------------------------------

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="nothing")


async def test_it_runs_in_a_copy_of_the_callers_context(loop: Loop, probe: Any) -> None:
    def look() -> str:
        before = VARIABLE.get()
        VARIABLE.set("set in Rust")
        return before

    VARIABLE.set("the caller's")
    awaitable = probe.calls(look)
    VARIABLE.set("set after the call")
    assert await awaitable == "the caller's"
    assert VARIABLE.get() == "set after the call"


async def test_it_keeps_its_context_when_it_is_woken_from_elsewhere(loop: Loop, probe: Any) -> None:
    seen: list[str] = []
    gate = probe.Gate()
    VARIABLE.set("the caller's")
    awaitable = gate.wait(lambda: seen.append(VARIABLE.get()))
    VARIABLE.set("another")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await contextvars.Context().run(loop.create_task, opened(gate))
    await awaitable
    assert seen == ["the caller's"]


async def opened(gate: Any) -> None:
    gate.open(1)


async def test_a_coroutine_that_rust_begins_has_that_context(loop: Loop, probe: Any) -> None:
    async def body() -> str:
        await asyncio.sleep(0)
        return VARIABLE.get()

    VARIABLE.set("the caller's")
    awaitable = probe.awaits_call(body)
    VARIABLE.set("another")
    assert await awaitable == "the caller's"


# -- wakers ------------------------------------------------------------------------------------


async def wait_for_a_gate(probe: Any) -> Any:
    gate = probe.Gate()
    waiting = [gate.wait() for _ in range(100)]
    await until(lambda: gate.waiting == 100)
    gate.open(4)
    await asyncio.gather(*waiting)
    return gate


async def test_threads_that_wake_at_once_have_it_polled_and_lose_nobody(
    loop: Loop, probe: Any
) -> None:
    for _ in range(20):
        gate = await wait_for_a_gate(probe)
        assert gate.dropped == 100
        assert gate.polled == 200, "those who are woken often are polled once"


async def test_what_nobody_can_wake_ends(loop: Loop, probe: Any) -> None:
    with pytest.raises(RuntimeError, match=UNANSWERED):
        await asyncio.wait_for(probe.pending(), 60)
    gate = probe.Gate()
    awaitable = gate.wait()
    await until(lambda: gate.waiting)
    gate.forget()
    with pytest.raises(RuntimeError, match=UNANSWERED):
        await asyncio.wait_for(awaitable, 60)
    assert gate.dropped == 1


# -- cancelled ---------------------------------------------------------------------------------


async def test_cancelled_by_python_it_is_dropped_in_its_context(loop: Loop, probe: Any) -> None:
    seen: list[tuple[str, int]] = []
    gate = probe.Gate()
    VARIABLE.set("the caller's")
    awaitable = gate.wait(lambda: seen.append((VARIABLE.get(), threading.get_ident())))
    await until(lambda: gate.waiting)
    VARIABLE.set("another")
    task = asyncio.ensure_future(awaited(awaitable))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: gate.dropped)
    assert seen == [("the caller's", threading.get_ident())]
    gate.open(2)  # wakes what has ended
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (gate.polled, gate.dropped) == (1, 1)


async def awaited(awaitable: Any) -> object:
    return await awaitable


async def test_cancelled_before_it_began_it_is_not_polled(loop: Loop, probe: Any) -> None:
    gate = probe.Gate()
    awaitable = gate.wait()
    awaitable.cancel()
    await until(lambda: gate.dropped)
    # asyncio queues the callback behind the poll that was queued before.
    assert gate.polled <= 1
    assert awaitable.cancelled()


async def test_cancelled_while_it_is_polled_it_is_dropped_after_that(
    loop: Loop, probe: Any
) -> None:
    def cancel() -> None:
        awaitable.cancel()

    awaitable = probe.calls(cancel)
    with pytest.raises(asyncio.CancelledError):
        await awaitable


# -- what Python can await, in Rust ------------------------------------------------------------


async def test_rust_awaits_coroutines_futures_and_other_awaitables(loop: Loop, probe: Any) -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return later(3).__await__()

    done = loop.create_future()
    done.set_result(4)
    assert await probe.awaits(later(1)) == 1
    assert await probe.awaits(loop.create_task(later(2))) == 2
    assert await probe.awaits(Awaitable()) == 3
    assert await probe.awaits(done) == 4
    assert await probe.awaits(probe.awaits(probe.value(5))) == 5
    assert await probe.awaits_call(lambda: later(6)) == 6


async def test_rust_gets_the_exception_of_what_it_awaits(loop: Loop, probe: Any) -> None:
    async def body() -> None:
        await asyncio.sleep(0)
        raise LookupError("of the coroutine")

    with pytest.raises(LookupError, match="of the coroutine"):
        await probe.awaits(body())
    with pytest.raises(TypeError):
        await probe.awaits_call(lambda: 5)


async def test_rust_gets_the_panic_of_what_it_awaits(loop: Loop, probe: Any, quiet: None) -> None:
    async def body() -> None:
        await probe.panics("of the inner one")

    for awaitable in (probe.panics("of the inner one"), body()):
        with pytest.raises(BaseException, match="of the inner one") as raised:
            await asyncio.wait_for(probe.awaits(awaitable), 60)
        assert type(raised.value).__name__ == "PanicException"


@pytest.mark.only("asyncio")  # Cloverleaf's loop is reached without Python
def test_an_interrupt_amid_a_wake_is_the_loops_and_the_wake_is_not_lost(
    loop: Loop, probe: Any
) -> None:
    reach = loop.call_soon_threadsafe
    calls = 0

    def interrupted(*args: Any, **names: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return reach(*args, **names)

    async def begin() -> Any:
        return probe.wakes_itself(5, int)

    loop.call_soon_threadsafe = interrupted  # type: ignore[assignment, method-assign]
    awaitable = loop.run_until_complete(begin())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.wait_for(awaited(awaitable), 60))
    assert loop.run_until_complete(asyncio.wait_for(awaited(awaitable), 60)) == 5


async def test_cancelling_passes_through_rust_both_ways(loop: Loop, probe: Any) -> None:
    ended: list[str] = []

    async def body() -> None:
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            ended.append("inner")
            raise

    inner = loop.create_task(body())
    outer = probe.awaits(inner)
    await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await inner
    assert ended == ["inner"]

    inner = loop.create_task(body())
    outer = probe.awaits(inner)
    await asyncio.sleep(0)
    inner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert outer.cancelled()
