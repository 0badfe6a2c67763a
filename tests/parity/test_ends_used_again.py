"""The exception that ends a native coroutine is used again only where nobody can tell."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.types import Loop

CONTENT = bytes(range(256))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a small file."""
    path = tmp_path / "small"
    path.write_bytes(CONTENT)
    return path


def ended(file: Any, offset: int) -> StopIteration:
    """Return the end of a read that nobody else holds."""
    try:
        next(file.pread(4, offset).__await__())
    except StopIteration as stop:
        return stop.with_traceback(None)
    raise AssertionError("it did not end")


def ends() -> list[StopIteration]:
    """Return all such exceptions that there are."""
    return [thing for thing in gc.get_objects() if type(thing) is StopIteration]


async def test_one_that_was_caught_is_its_catchers_own(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        caught = [ended(file, offset) for offset in range(20)]
        for _ in range(20):
            await file.pread(4, 100)
        assert len({id(stop) for stop in caught}) == 20
        expected = [CONTENT[offset : offset + 4] for offset in range(20)]
        assert [stop.value for stop in caught] == expected
        assert [stop.args for stop in caught] == [(data,) for data in expected]


async def test_one_that_a_tracer_keeps_is_the_tracers_own(loop: Loop, path: Path) -> None:
    kept = []

    def trace(_frame: Any, event: str, arg: Any) -> Any:
        if event == "exception":
            kept.append(arg[1])
        return trace

    async with cloverleaf.open(path, "rb", 0) as file:

        async def read_all() -> list[bytes]:
            return [await file.pread(4, offset) for offset in range(20)]

        traced = sys.gettrace()
        sys.settrace(trace)
        try:
            data = await asyncio.create_task(read_all())
        finally:
            sys.settrace(traced)
        await file.pread(4, 100)
    told = [stop for stop in kept if type(stop) is StopIteration and type(stop.value) is bytes]
    values = [stop.value for stop in told]
    assert data == [CONTENT[offset : offset + 4] for offset in range(20)]
    # From 3.15 on `await` needs no such end.
    assert values == (data if sys.version_info < (3, 15) else [])
    assert len({id(stop) for stop in told}) == len(told)


async def test_what_it_carried_is_not_kept(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        for offset in range(3):
            data = await file.pread(4, offset)
            referrers = [holder for holder in gc.get_referrers(data) if type(holder) is not list]
            assert not [holder for holder in referrers if isinstance(holder, (tuple, Exception))]
            # The variable's, and the argument's.
            assert sys.getrefcount(data) <= 2


async def test_one_whose_read_lives_on_is_not_kept(loop: Loop, path: Path) -> None:
    """A variable has the read: on 3.14 a call's argument alone adds no reference."""

    def drive(file: Any, _held: Any) -> int:
        read = file.pread(4, 0).__await__()
        try:
            next(read)
        except StopIteration as stop:
            return len(stop.value)
        raise AssertionError("it did not end")

    def call(file: Any) -> weakref.ref[Any]:
        held = type("Held", (), {})()
        assert drive(file, held) == 4
        return weakref.ref(held)

    async with cloverleaf.open(path, "rb", 0) as file:
        held = call(file)
        # The end would keep its traceback, and that the frames with what they have.
        assert held() is None


async def test_one_that_somebody_found_is_left_to_him(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        await file.pread(4, 0)
        # Another's, which is held elsewhere, would keep its note.
        found = [stop for stop in ends() if stop.args == (None,)]
        before = [(stop, stop.value, stop.args) for stop in found]
        for offset in range(5):
            assert await file.pread(4, offset) == CONTENT[offset : offset + 4]
        assert [(stop, stop.value, stop.args) for stop in found] == before
        stop = None
        for stop in found:
            stop.add_note("seen")
        del found, before, stop
        assert await file.pread(4, 7) == CONTENT[7:11]
        assert not getattr(ended(file, 8), "__notes__", None)
        assert await file.pread(4, 9) == CONTENT[9:13]
        assert not any(getattr(stop, "__notes__", None) for stop in ends())


async def test_its_arguments_may_be_kept_and_hashed(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:
        await file.pread(4, 0)
        kept = [(stop.args, hash(stop.args)) for stop in ends() if stop.args == (None,)]
        for offset in range(5):
            await file.pread(4, offset)
        assert all(args == (None,) and hash(args) == told for args, told in kept)
        del kept
        for offset in range(5):
            stop = ended(file, offset)
            assert stop.args == (CONTENT[offset : offset + 4],)
            assert hash(stop.args) == hash((CONTENT[offset : offset + 4],))


async def test_many_that_wait_for_each_other_end_with_their_own(loop: Loop, path: Path) -> None:
    async with cloverleaf.open(path, "rb", 0) as file:

        async def read_all(start: int) -> list[bytes]:
            return [await file.pread(4, (start + offset) % 250) for offset in range(500)]

        told = await asyncio.gather(*(read_all(start) for start in range(20)))
        for start, all_of_it in enumerate(told):
            expected = [(start + offset) % 250 for offset in range(500)]
            assert all_of_it == [CONTENT[offset : offset + 4] for offset in expected]


async def test_a_result_goes_with_its_last_holder(loop: Loop) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"line\n" * 3)
    reader.feed_eof()
    for _ in range(3):
        line = await reader.readline()
        assert sys.getrefcount(line) <= 2
