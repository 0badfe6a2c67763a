"""A loop that runs within itself: what ends which run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import cloverleaf

from .harness.nests import NEEDS_GIL, answer, in_callback, nest_of_kind
from .harness.types import Loop

pytestmark = NEEDS_GIL


@pytest.fixture(params=["real", "steered"], name="nest")
def _nest(request: pytest.FixtureRequest, guard: None) -> Iterator[cloverleaf.EventLoop]:
    yield from nest_of_kind(request.param)


def test_stop_ends_the_innermost_run(nest: Loop) -> None:
    seen: list[str] = []

    def stop(name: str) -> None:
        seen.append(name)
        nest.stop()

    def inner() -> None:
        nest.call_soon(stop, "inner")
        nest.run_forever()
        seen.append("inner has ended")
        nest.call_soon(nest.call_soon, stop, "outer")

    nest.call_soon(inner)
    nest.run_forever()
    assert seen == ["inner", "inner has ended", "outer"]


def test_a_stop_that_came_first_is_the_outer_runs(nest: Loop) -> None:
    seen: list[str] = []

    def inner() -> None:
        nest.stop()
        assert nest.run_until_complete(answer()) == 42
        seen.append("inner has ended")
        nest.call_soon(seen.append, "later")

    nest.call_soon(inner)
    nest.run_forever()
    assert seen == ["inner has ended"]


def test_an_inner_run_that_is_stopped_early_says_so(nest: Loop) -> None:
    def inner() -> None:
        future = nest.create_future()
        nest.call_soon(nest.stop)
        with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
            nest.run_until_complete(future)
        future.cancel()

    in_callback(nest, inner)
    assert nest.run_until_complete(answer()) == 42


def test_what_the_outer_run_waits_for_does_not_end_the_inner_one(nest: Loop) -> None:
    outer: asyncio.Future[str] = nest.create_future()
    seen: list[int] = []

    def inner() -> None:
        nest.call_soon(outer.set_result, "outer")
        seen.append(nest.run_until_complete(answer(rounds=20)))
        nest.call_soon(seen.append, -1)
        nest.call_soon(nest.call_soon, seen.append, -2)

    nest.call_soon(inner)
    assert nest.run_until_complete(outer) == "outer"
    # It ends after the turn in which it goes on.
    assert seen == [42]


def test_of_three_runs_each_ends_with_its_own_future(nest: Loop) -> None:
    futures: list[asyncio.Future[int]] = [nest.create_future() for _ in range(3)]
    seen: list[int] = []

    def begin(index: int) -> None:
        if index < 2:
            nest.call_soon(begin, index + 1)
        else:
            # The outermost first.
            for each, future in enumerate(futures):
                nest.call_later(0.001 * each, future.set_result, each)
        seen.append(nest.run_until_complete(futures[index]))

    nest.call_soon(begin, 1)
    seen.append(nest.run_until_complete(futures[0]))
    assert seen == [2, 1, 0]


def test_two_runs_may_wait_for_one_future(nest: Loop) -> None:
    future: asyncio.Future[int] = nest.create_future()
    seen: list[int] = []

    def inner() -> None:
        nest.call_soon(future.set_result, 5)
        seen.append(nest.run_until_complete(future))

    nest.call_soon(inner)
    assert nest.run_until_complete(future) == 5
    assert seen == [5]


def test_a_run_goes_on_waiting_after_an_inner_one_for_the_same_was_broken_off(nest: Loop) -> None:
    future: asyncio.Future[int] = nest.create_future()

    def inner() -> None:
        nest.call_soon(nest.stop)
        with pytest.raises(RuntimeError, match="stopped before"):
            nest.run_until_complete(future)
        nest.call_soon(nest.call_soon, future.set_result, 5)

    nest.call_soon(inner)
    assert nest.run_until_complete(future) == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_runs_ends_the_inner_one_first(nest: Loop, error: type[BaseException]) -> None:
    seen: list[str] = []

    def fail() -> None:
        raise error

    def inner() -> None:
        nest.call_soon(fail)
        with pytest.raises(error):
            nest.run_until_complete(answer())
        seen.append("caught")

    in_callback(nest, inner)
    assert seen == ["caught"]

    async def task() -> None:
        raise error

    async def outer() -> None:
        nest.run_until_complete(task())

    with pytest.raises(error):
        nest.run_until_complete(outer())
    assert asyncio.current_task(nest) is None
    assert not nest.is_running()
    assert nest.run_until_complete(answer()) == 42


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_end_that_is_caught_within_ends_what_waits_for_it(error: type[BaseException]) -> None:
    caught = []

    async def main() -> None:
        cloverleaf.allow_nested()

        def cell() -> None:
            try:
                cloverleaf.run_nested(asyncio.sleep(60))
            except error as found:
                caught.append(found)

        asyncio.get_running_loop().call_soon(cell)
        await asyncio.sleep(0.01)
        raise error(3)

    with pytest.raises(error):
        cloverleaf.run(main())
    assert len(caught) == 1


def test_a_run_that_is_over_ends_no_other() -> None:
    async def main() -> str:
        cloverleaf.allow_nested()
        loop = asyncio.get_running_loop()

        def cell() -> None:
            future = loop.create_future()
            loop.call_soon(future.set_result, 1)
            loop.call_soon(loop.stop)
            assert loop.run_until_complete(future) == 1

        loop.call_soon(cell)
        await asyncio.sleep(0.01)
        return "done"

    assert cloverleaf.run(main()) == "done"
