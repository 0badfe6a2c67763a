"""One file, used at random on one loop after the other, is where `open`'s would be.

Each loop is closed with calls pending. What of them has ended is made on `open`'s file as well; the
first that has not may have happened, if it changes the file, and has moved nothing otherwise; those
behind it have never begun.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import Call, chill, outcome
from .harness.complaints import Complaints
from .harness.turns import turns
from .harness.types import Loop, NewLoop

pytestmark = pytest.mark.deadline(180)

LOOPS = 20
SEEDS = range(int(os.environ.get("CLOVERLEAF_LOOPS_SEEDS", "3")))


@pytest.fixture
def next_loop(new_loop: NewLoop, logged: Complaints) -> Iterator[NewLoop]:
    """Return a factory of loops; expect no complaint but of tasks whose loop was closed."""
    executors: list[ThreadPoolExecutor] = []

    def make() -> Loop:
        executors.append(ThreadPoolExecutor(2))
        loop = new_loop()
        loop.set_default_executor(executors[-1])
        return loop

    yield make
    for each in executors:
        each.shutdown()  # its threads have nothing of the tasks any more
    logged.expect("destroyed but it is pending")
    gc.collect()
    assert all("destroyed but it is pending" in complaint for complaint in logged.take())


def binary_call(chance: random.Random) -> Call:
    size = chance.choice([0, 1, 10, 5000, 20_000])
    data = chance.randbytes(1) * chance.choice([0, 1, 10, 5000, 40_000])
    return chance.choice(
        [
            ("read", (size,)),
            ("read", (size,)),
            ("read", ()),
            ("readline", ()),
            ("readlines", (chance.choice([-1, 1000]),)),
            ("readinto", (size,)),
            ("write", (data,)),
            ("write", (data,)),
            ("writelines", ([data, b"more\n", b"and more\n"],)),
            ("seek", (chance.randrange(30_000),)),
            ("seek", (chance.randrange(-500, 500), os.SEEK_CUR)),
            ("seek", (0, os.SEEK_END)),
            ("tell", ()),
            ("truncate", ()),
            ("truncate", (chance.randrange(30_000),)),
            ("flush", ()),
        ]
    )


def text_call(chance: random.Random) -> Call:
    word = chance.choice(["", "a", "line\n", "grüße\n", "漢字", "carriage\r", "x" * 5000])
    text = word * chance.choice([1, 10, 300])
    return chance.choice(
        [
            ("read", (chance.choice([0, 1, 100, 5000]),)),
            ("read", ()),
            ("readline", ()),
            ("readline", ()),
            ("readlines", ()),
            ("write", (text,)),
            ("write", (text,)),
            ("writelines", ([text, "more\n", "and more\n"],)),
            ("seek", (0,)),
            ("seek", (0, os.SEEK_END)),
            ("tell", ()),
            ("flush", ()),
        ]
    )


def begin(loop: Loop, file: Any, calls: list[Call], count: int) -> list[asyncio.Task[Any]]:
    """Begin the calls in a loop that is closed after so many turns."""

    async def run() -> list[asyncio.Task[Any]]:
        tasks = [asyncio.ensure_future(outcome(file, call)) for call in calls]
        await turns(count)
        return tasks

    tasks = loop.run_until_complete(run())
    loop.close()
    return tasks


def is_told(came: Any) -> bool:
    """Tell whether it says that a loop was closed meanwhile."""
    is_error = isinstance(came, tuple) and came[0] is RuntimeError
    return is_error and "the event loop was closed while an operation" in came[1]


class Twins:
    """A file of Cloverleaf's, and one of `open`'s on which the same has happened."""

    def __init__(self, paths: tuple[Path, Path], arguments: dict[str, Any], loop: Loop) -> None:
        async def opened() -> Any:
            return await cloverleaf.open(paths[1], **arguments)

        self.paths = paths
        self.theirs: Any = paths[0].open(**arguments)
        self.ours = loop.run_until_complete(opened())

    async def both(self, call: Call) -> None:
        """Make a call on both."""
        assert await outcome(self.ours, call) == await outcome(self.theirs, call), call

    async def see_what_was_left(self, calls: list[Call], tasks: list[asyncio.Task[Any]]) -> None:
        """Bring `open`'s file to where ours is, or find that it cannot have come there."""
        ended = [task for task in tasks if task.done()]
        for call, task in zip(calls, ended, strict=False):
            assert task.result() == await outcome(self.theirs, call), call
        came = await outcome(self.ours, ("flush", ()))
        if is_told(came):
            came = await outcome(self.ours, ("flush", ()))
        assert came is None
        stood = self.theirs.tell()
        self.theirs.flush()
        if len(ended) < len(calls):
            if await outcome(self.ours, ("tell", ())) == stood:
                # What appends moves as it is written, which a read does first that goes back then.
                self.theirs.seek(stood)
            await self.see_whether_it_happened(calls[len(ended)])
        assert self.paths[1].read_bytes() == self.paths[0].read_bytes(), calls
        await self.both(("tell", ()))

    async def see_whether_it_happened(self, call: Call) -> None:
        name, arguments = call
        steps = [call] if name in {"write", "truncate"} else []
        if name == "writelines":
            steps = [("write", (line,)) for line in arguments[0]]
        for step in steps:
            if await self.are_alike():
                return
            await outcome(self.theirs, step)
            self.theirs.flush()
        assert await self.are_alike(), call

    async def are_alike(self) -> bool:
        places = [await outcome(file, ("tell", ())) for file in (self.theirs, self.ours)]
        contents = [path.read_bytes() for path in self.paths]
        return places[0] == places[1] and contents[0] == contents[1]


def alternate(
    next_loop: NewLoop,
    tmp_path: Path,
    arguments: dict[str, Any],
    make_call: Callable[[random.Random], Call],
    chance: random.Random,
) -> None:
    paths = tmp_path / "theirs", tmp_path / "ours"
    for path in paths:
        path.write_bytes(("some lines\n" * 1900).encode(arguments.get("encoding", "ascii")))
    twins = Twins(paths, arguments, next_loop())
    chill(twins.ours, chance)
    left: tuple[list[Call], list[asyncio.Task[Any]]] = [], []
    for _ in range(LOOPS):
        loop = next_loop()
        loop.run_until_complete(twins.see_what_was_left(*left))
        for _ in range(chance.randrange(4)):
            loop.run_until_complete(twins.both(make_call(chance)))
        calls = [make_call(chance) for _ in range(chance.randrange(1, 4))]
        left = calls, begin(loop, twins.ours, calls, chance.randrange(8))
    loop = next_loop()
    loop.run_until_complete(twins.see_what_was_left(*left))
    tasks = begin(loop, twins.ours, [("close", ())], chance.randrange(6))
    came = next_loop().run_until_complete(outcome(twins.ours, ("close", ())))
    assert came is None or is_told(came)
    assert twins.ours.closed
    twins.theirs.close()
    assert paths[1].read_bytes() == paths[0].read_bytes()
    del tasks


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("buffering", [-1, 0, 16, 100_000])
@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b", "a+b"])
def test_bytes_on_one_loop_after_the_other(
    next_loop: NewLoop, tmp_path: Path, mode: str, buffering: int, seed: int
) -> None:
    chance = random.Random(f"{mode} {buffering} {seed}")
    arguments = {"mode": mode, "buffering": buffering}
    alternate(next_loop, tmp_path, arguments, binary_call, chance)


TEXTS = [
    {"encoding": "utf-8"},
    {"encoding": "utf-8", "buffering": 5000, "newline": "\r\n"},
    {"encoding": "utf-8", "buffering": 1, "newline": ""},
]
# Where text that is read and written without a seek between is written depends on what was read at
# a time, which what was given up changes.
TEXT_MODES = ["r", "w", "a"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("settings", TEXTS, ids=str)
@pytest.mark.parametrize("mode", TEXT_MODES)
def test_text_on_one_loop_after_the_other(
    next_loop: NewLoop, tmp_path: Path, mode: str, settings: dict[str, Any], seed: int
) -> None:
    chance = random.Random(f"{mode} {settings} {seed}")
    alternate(next_loop, tmp_path, {"mode": mode, **settings}, text_call, chance)
