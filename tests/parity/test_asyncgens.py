"""Asynchronous generators: closed by the loop when nobody finishes them."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator

import pytest

from .harness.complaints import Complaints
from .harness.turns import until
from .harness.types import Context, Loop, NewLoop


class Trace(list[str]):
    """What happened to a generator."""

    async def numbers(self) -> AsyncGenerator[int, None]:
        """Count, and note the end, which needs the loop."""
        try:
            for n in range(10):
                yield n
        finally:
            await asyncio.sleep(0)
            self.append("closed")


async def test_a_generator_that_is_let_go_is_closed_by_the_loop(loop: Loop) -> None:
    trace = Trace()
    async for n in trace.numbers():
        if n == 2:
            break
    gc.collect()
    await until(lambda: trace)
    assert trace == ["closed"]


async def test_shutdown_asyncgens_closes_what_is_held(loop: Loop) -> None:
    trace = Trace()
    held = trace.numbers()
    assert await anext(held) == 0
    await loop.shutdown_asyncgens()
    assert trace == ["closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(held)


async def test_shutdown_asyncgens_closes_all(loop: Loop) -> None:
    trace = Trace()
    held = [trace.numbers() for _ in range(20)]
    for each in held:
        await anext(each)
    await loop.shutdown_asyncgens()
    assert trace == ["closed"] * 20


async def test_shutdown_asyncgens_without_any_returns(loop: Loop) -> None:
    await loop.shutdown_asyncgens()
    await loop.shutdown_asyncgens()


async def test_exceptions_of_a_closing_generator_reach_the_handler(
    loop: Loop, contexts: list[Context]
) -> None:
    async def failing() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise LookupError("closing failed")

    held = failing()
    await anext(held)
    await loop.shutdown_asyncgens()
    (context,) = contexts
    assert set(context) == {"message", "exception", "asyncgen"}
    assert context["message"].startswith(
        "an error occurred during closing of asynchronous generator"
    )
    assert isinstance(context["exception"], LookupError)
    assert context["asyncgen"] is held


async def test_a_generator_begun_after_shutdown_warns(loop: Loop) -> None:
    await loop.shutdown_asyncgens()
    held = Trace().numbers()
    with pytest.warns(
        ResourceWarning, match=r"was scheduled after loop.shutdown_asyncgens\(\) call"
    ):
        await anext(held)
    await held.aclose()


def test_a_finished_generator_is_forgotten(loop: Loop) -> None:
    trace = Trace()

    async def finish() -> list[int]:
        return [n async for n in trace.numbers()]

    assert loop.run_until_complete(finish()) == list(range(10))
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert trace == ["closed"]


def test_the_hooks_are_the_loops_only_while_it_runs(loop: Loop) -> None:
    before = sys.get_asyncgen_hooks()

    async def inside() -> None:
        assert sys.get_asyncgen_hooks() != before

    loop.run_until_complete(inside())
    assert sys.get_asyncgen_hooks() == before


def test_a_generator_let_go_after_the_run_is_closed_in_the_next(
    loop: Loop, logged: Complaints
) -> None:
    trace = Trace()

    async def begin() -> AsyncGenerator[int, None]:
        held = trace.numbers()
        await anext(held)
        return held

    held = loop.run_until_complete(begin())
    del held
    gc.collect()

    async def wait() -> None:
        await until(lambda: trace)

    loop.run_until_complete(wait())
    assert trace == ["closed"]
    assert logged.take() == []


def test_asyncio_runner_closes_generators(new_loop: NewLoop) -> None:
    trace = Trace()

    async def main() -> AsyncGenerator[int, None]:
        held = trace.numbers()
        await anext(held)
        return held

    with asyncio.Runner(loop_factory=new_loop) as runner:
        held = runner.run(main())
    assert trace == ["closed"]
    assert held is not None
