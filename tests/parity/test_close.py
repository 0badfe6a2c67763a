"""``close``: what a closed loop refuses, and that nothing of it remains."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import weakref
from collections.abc import Callable

import pytest

from .harness.complaints import Complaints
from .harness.leaks import descriptors
from .harness.turns import turn
from .harness.types import Loop, NewLoop

CLOSED = r"^Event loop is closed$"


def test_close_closes(loop: Loop) -> None:
    assert not loop.is_closed()
    loop.close()
    assert loop.is_closed()


def test_close_twice_is_close_once(loop: Loop) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_a_running_loop_cannot_be_closed(loop: Loop) -> None:
    async def closing() -> None:
        with pytest.raises(RuntimeError, match=r"^Cannot close a running event loop$"):
            loop.close()
        await asyncio.sleep(0)

    loop.run_until_complete(closing())
    assert not loop.is_closed()


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(0, print),
    ],
    ids=["call_soon", "threadsafe", "call_later", "call_at", "run", "executor", "reader", "writer"],
)
def test_a_closed_loop_refuses_work(loop: Loop, use: Callable[[Loop], object]) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match=CLOSED):
        use(loop)


def test_a_closed_loop_refuses_coroutines(loop: Loop) -> None:
    loop.close()
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match=CLOSED):
        loop.run_until_complete(coroutine)
    with pytest.raises(RuntimeError, match=CLOSED):
        loop.create_task(coroutine)
    coroutine.close()


def test_a_closed_loop_still_tells_the_time_and_its_settings(loop: Loop) -> None:
    loop.close()
    assert loop.time() > 0
    assert loop.get_debug() is False
    assert not loop.is_running()
    assert "closed=True" in repr(loop)
    loop.create_future().cancel()


def test_a_closed_loop_has_no_reader_to_remove(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, print)
        loop.close()
        for remove in (loop.remove_reader, loop.remove_writer):
            assert remove(ours) is False


def test_what_was_scheduled_never_runs_and_is_freed(loop: Loop) -> None:
    class Held:
        def __call__(self) -> None:
            raise AssertionError("a closed loop runs nothing")

    held = [Held() for _ in range(3)]
    references = [weakref.ref(each) for each in held]
    loop.call_soon(held[0])
    loop.call_later(0, held[1])
    loop.call_soon_threadsafe(held[2])
    loop.close()
    held.clear()
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_endings_after_close_no_descriptor_remains(new_loop: NewLoop) -> None:
    before = descriptors()
    for _ in range(50):
        loop = new_loop()
        turn(loop)
        loop.close()
    assert descriptors() == before


def test_endings_after_a_run_no_argument_by_name_holds_the_loop(new_loop: NewLoop) -> None:
    one = new_loop()
    turn(one)
    one.run_until_complete(asyncio.sleep(0))
    referrers = gc.get_referrers(one)
    assert {"loop": one} not in referrers


def test_endings_after_close_no_python_reference_remains(new_loop: NewLoop) -> None:
    class Held:
        pass

    held = Held()
    reference = weakref.ref(held)
    ours, theirs = socket.socketpair()
    loop = new_loop()
    loop.call_soon(print, held)
    loop.call_later(60, print, held)
    loop.add_reader(ours, print, held)
    loop.add_writer(theirs, print, held)
    loop.set_exception_handler(lambda _loop, _context, held=held: None)  # type: ignore[misc]
    loop.set_task_factory(lambda loop, coroutine, held=held, **_: asyncio.Task(coroutine))
    loop.close()
    ours.close()
    theirs.close()
    loop.set_exception_handler(None)
    loop.set_task_factory(None)
    del held
    gc.collect()
    assert reference() is None


def test_a_closed_loop_is_freed(kind_factory: Callable[[], Loop]) -> None:
    loop = kind_factory()
    turn(loop)
    loop.close()
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None


def let_go(made: list[Loop]) -> None:
    made.clear()
    gc.collect()


def test_a_loop_that_is_not_closed_warns(
    kind_factory: Callable[[], Loop], logged: Complaints
) -> None:
    made = [kind_factory()]
    with pytest.warns(ResourceWarning, match=r"unclosed event loop <.*>"):
        let_go(made)
    logged.take_unraisable()


def test_a_loop_that_is_not_closed_leaves_no_descriptor(
    kind_factory: Callable[[], Loop],
) -> None:
    before = descriptors()
    made = [kind_factory()]
    assert descriptors() != before
    with pytest.warns(ResourceWarning):
        let_go(made)
    assert descriptors() == before


def test_close_lets_an_executor_end_without_waiting(loop: Loop) -> None:
    assert loop.run_until_complete(loop.run_in_executor(None, sys.getrecursionlimit)) > 0
    loop.close()


async def test_a_replaced_is_closed_does_not_close_the_loop(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "is_closed", lambda: True)
        ran = loop.create_future()
        loop.call_soon(ran.set_result, "ran")
        assert await loop.create_task(asyncio.wait_for(ran, 60)) == "ran"


def test_the_private_mark_of_a_closed_loop(new_loop: NewLoop) -> None:
    loop = new_loop()
    assert loop._closed is False  # type: ignore[attr-defined]
    loop.close()
    assert loop._closed is True  # type: ignore[attr-defined]
