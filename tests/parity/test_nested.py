"""A loop that runs within itself: whose turn it is, which task runs, what ends which run.

All on a plain loop and on one for tests; asyncio refuses it, as we do unless a program asks.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.nests import NEEDS_GIL, answer, in_callback, nest_of_kind, spin
from .harness.types import Loop

pytestmark = NEEDS_GIL


@pytest.fixture(params=["real", "steered"], name="nest")
def _nest(request: pytest.FixtureRequest, guard: None) -> Iterator[cloverleaf.EventLoop]:
    yield from nest_of_kind(request.param)


def test_without_being_asked_a_loop_refuses_to_run_within_itself(loop: Loop) -> None:
    def try_it() -> None:
        coroutine = answer()
        with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
            loop.run_until_complete(coroutine)
        coroutine.close()
        with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
            loop.run_forever()

    in_callback(loop, try_it)


@pytest.mark.only("cloverleaf")
def test_who_did_not_ask_is_told_how_to(loop: Loop) -> None:
    def try_it() -> None:
        coroutine = answer()
        with pytest.raises(RuntimeError, match=r"allow_nested\(\)"):
            cloverleaf.run_nested(coroutine)
        coroutine.close()

    in_callback(loop, try_it)
    coroutine = answer()
    with pytest.raises(RuntimeError, match=r"no running event loop.*cloverleaf\.run\(\)"):
        cloverleaf.run_nested(coroutine)
    coroutine.close()
    with pytest.raises(RuntimeError, match="no running event loop"):
        cloverleaf.allow_nested()


def test_only_our_loops_are_allowed_to() -> None:
    loop = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="Cloverleaf"):
        cloverleaf.allow_nested(loop)
    loop.close()
    ours = cloverleaf.new_event_loop()
    ours.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        cloverleaf.allow_nested(ours)


def test_a_task_gets_the_result_of_a_run_within_it(nest: Loop) -> None:
    assert in_callback(nest, lambda: nest.run_until_complete(answer())) == 42
    assert in_callback(nest, lambda: cloverleaf.run_nested(answer(7))) == 7


def test_it_may_be_allowed_while_the_loop_runs() -> None:
    async def main() -> int:
        cloverleaf.allow_nested()
        return cloverleaf.run_nested(answer())

    assert cloverleaf.run(main()) == 42


def test_a_callback_gets_the_exception_of_a_run_within_it(nest: Loop) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("lost")

    def call() -> None:
        with pytest.raises(LookupError, match="lost"):
            nest.run_until_complete(fail())

    nest.call_soon(call)
    spin(nest)
    in_callback(nest, call)


@pytest.mark.parametrize("kinds", ["native", "python", "python in native", "native in python"])
def test_the_current_task_is_the_inner_one_and_then_the_outer_one(nest: Loop, kinds: str) -> None:
    python: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
    native: Any = asyncio.Task
    inner_class = python if kinds.startswith("python") else native
    outer_class = python if kinds.endswith("python") else native
    seen: list[Any] = []

    def current() -> Any:
        found = asyncio.current_task()
        # Since 3.14 tasks that are written in Python are noted apart.
        return found or getattr(asyncio.tasks, "_py_current_task", asyncio.current_task)()

    async def inner() -> None:
        await asyncio.sleep(0)
        seen.append(current())

    async def outer() -> None:
        before = current()
        nest.call_soon(lambda: seen.append(current()))
        task = inner_class(inner(), loop=nest)
        nest.run_until_complete(task)
        assert seen == [None, task]
        assert current() is before is outer_task
        await asyncio.sleep(0)
        assert current() is before

    outer_task = outer_class(outer(), loop=nest)
    nest.run_until_complete(outer_task)
    assert current_outside(nest) is None


def current_outside(loop: Loop) -> Any:
    return asyncio.current_task(loop)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks")
def test_an_eager_task_may_run_the_loop_before_it_is_one(nest: Loop) -> None:
    async def eager() -> int:
        before = asyncio.current_task()
        result = nest.run_until_complete(answer())
        assert asyncio.current_task() is before is not None
        await asyncio.sleep(0)
        return result

    async def main() -> int:
        task = asyncio.Task(eager(), loop=nest, eager_start=True)  # type: ignore[call-arg]
        assert asyncio.current_task() is not task
        return await task

    assert nest.run_until_complete(main()) == 42


def test_what_is_left_of_a_turn_is_done_first_once_and_in_order(nest: Loop) -> None:
    seen: list[str] = []

    async def inner() -> None:
        seen.append("inner")

    def begin() -> None:
        nest.call_soon(seen.append, "made in it")
        seen.append("begin")
        nest.run_until_complete(inner())
        seen.append("end")
        nest.call_soon(seen.append, "later")

    for callback in (lambda: seen.append("before"), begin):
        nest.call_soon(callback)
    for each in ("third", "fourth"):
        nest.call_soon(seen.append, each)
    spin(nest)
    assert seen == [
        "before",
        "begin",
        "third",
        "fourth",
        "made in it",
        "inner",
        "end",
        "later",
    ]


def test_what_an_inner_run_leaves_of_the_turn_is_done_by_the_outer_one(nest: Loop) -> None:
    seen: list[str] = []

    def fail() -> None:
        seen.append("fail")
        raise SystemExit(3)

    def begin() -> None:
        with pytest.raises(SystemExit):
            nest.run_forever()
        seen.append("end")

    for callback in (begin, fail):
        nest.call_soon(callback)
    nest.call_soon(seen.append, "left")
    spin(nest)
    assert seen == ["fail", "end", "left"]


def test_a_reader_that_was_to_be_told_is_told_once(nest: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    seen: list[int] = []

    def read(index: int) -> None:
        seen.append(index)
        # It would wait for ever if it were called again.
        assert pairs[index][0].recv(1) == b"x"
        if index == seen[0]:
            nest.run_until_complete(answer())

    for index, (near, far) in enumerate(pairs):
        nest.add_reader(near, read, index)
        far.send(b"x")
    spin(nest)
    assert sorted(seen) == [0, 1, 2]
    for near, far in pairs:
        nest.remove_reader(near)
        near.close()
        far.close()


def test_the_interrupt_key_ends_the_inner_run(nest: Loop) -> None:
    def inner() -> None:
        nest.call_soon(signal.raise_signal, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            nest.run_forever()

    in_callback(nest, inner)


def test_signal_handlers_are_called_in_the_inner_run(nest: Loop) -> None:
    async def inner() -> None:
        came = asyncio.Event()
        nest.add_signal_handler(signal.SIGUSR1, came.set)
        signal.raise_signal(signal.SIGUSR1)
        await came.wait()

    in_callback(nest, lambda: nest.run_until_complete(inner()))
    came: list[int] = []

    async def outer() -> None:
        nest.add_signal_handler(signal.SIGUSR1, came.append, 1)
        signal.raise_signal(signal.SIGUSR1)
        while not came:  # noqa: ASYNC110
            await asyncio.sleep(0)
        nest.remove_signal_handler(signal.SIGUSR1)

    nest.run_until_complete(outer())


def test_timers_come_in_the_inner_run_in_order_and_never_early(nest: Loop) -> None:
    seen: list[int] = []
    early: list[int] = []

    def note(index: int, deadline: float) -> None:
        seen.append(index)
        if nest.time() < deadline:
            early.append(index)

    def inner() -> None:
        now = nest.time()
        for index in (3, 1, 2, 0):
            nest.call_at(now + 0.001 * index, note, index, now + 0.001 * index)
        nest.run_until_complete(asyncio.sleep(0.005))
        assert nest.time() >= now + 0.005

    in_callback(nest, inner)
    assert (seen, early) == ([0, 1, 2, 3], [])


def test_other_threads_reach_the_inner_run(nest: Loop) -> None:
    def inner() -> None:
        future: asyncio.Future[int] = nest.create_future()
        thread = threading.Thread(target=nest.call_soon_threadsafe, args=(future.set_result, 1))
        thread.start()
        assert nest.run_until_complete(future) == 1
        assert nest.run_until_complete(nest.run_in_executor(None, int, "5")) == 5
        thread.join()

    in_callback(nest, inner)
    nest.run_until_complete(nest.shutdown_default_executor())


def test_another_thread_cannot_run_it_meanwhile(nest: Loop) -> None:
    refused: list[str] = []

    def try_it() -> None:
        try:
            nest.run_forever()
        except RuntimeError as error:
            refused.append(str(error))

    def inner() -> None:
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()

    in_callback(nest, inner)
    assert refused == ["This event loop is already running"]


def test_no_other_loop_may_run_between_two_runs_of_one(nest: Loop) -> None:
    other = cloverleaf.new_event_loop()
    cloverleaf.allow_nested(other)

    def try_it() -> None:
        coroutine = answer()
        with pytest.raises(RuntimeError, match="while another loop is running"):
            other.run_until_complete(coroutine)
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            asyncio.run(coroutine)
        coroutine.close()

    in_callback(nest, try_it)
    other.close()


def test_a_loop_that_runs_within_itself_cannot_be_closed(nest: Loop) -> None:
    async def inner() -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            nest.close()

    in_callback(nest, lambda: nest.run_until_complete(inner()))
    assert not nest.is_running()


def test_the_running_loop_and_the_hooks_stay_as_they_are(nest: Loop) -> None:
    async def generate() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def inner() -> None:
        async for _ in generate():
            return

    def outer() -> None:
        hooks = sys.get_asyncgen_hooks()
        nest.run_until_complete(inner())
        assert sys.get_asyncgen_hooks() == hooks
        assert asyncio.get_running_loop() is nest
        assert nest.is_running()

    in_callback(nest, outer)


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="its limit for calls of C comes first, for everybody"
)
def test_too_many_runs_within_runs_are_refused_before_the_stack_ends(nest: Loop) -> None:
    limit = sys.getrecursionlimit()
    refused: list[RecursionError] = []
    depth = 0

    def dive() -> None:
        nonlocal depth
        depth += 1
        future = nest.create_future()
        if depth <= 1000:
            nest.call_soon(dive)
        nest.call_soon(future.set_result, None)
        try:
            nest.run_until_complete(future)
        except RecursionError as error:
            refused.append(error)

    sys.setrecursionlimit(10**6)
    try:
        nest.call_soon(dive)
        spin(nest)
    finally:
        sys.setrecursionlimit(limit)
    assert depth == 1001
    assert [str(error) for error in refused] == [
        "this event loop runs within itself too many times"
    ]
    assert nest.run_until_complete(answer()) == 42


def test_the_example_of_the_documentation_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "embedding.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        subprocess.run([sys.executable, "-c", example], check=True, timeout=60)
