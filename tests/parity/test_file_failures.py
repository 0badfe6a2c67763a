"""Files that cannot be written keep, drop and tell of exactly what those of `open` do.

The same calls are made on both, at random, while the system refuses some of the writes; after each
call the files' contents are compared as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import Call, chill, chill_partly, outcome
from .harness.types import Loop

CALLS = 40
SEEDS = range(int(os.environ.get("CLOVERLEAF_FAILURE_SEEDS", "2")))
LIMITS = [0, 10, 1000, 4096, 5000, 9000, 20_000, 70_000]


@contextlib.contextmanager
def limited(size: int | None) -> Iterator[None]:
    """Have the system refuse to make a file longer than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def binary_call(chance: random.Random, *, is_buffered: bool = True) -> Call:
    size = chance.choice([0, 1, 10, 100, 4096, 5000, 9000, 40_000])
    data = bytes([chance.randrange(256)]) * size
    kind = chance.choice([bytes, bytes, bytearray, memoryview])
    return chance.choice(
        [
            ("write", (kind(data),)),
            ("write", (kind(data),)),
            ("write", (kind(data),)),
            ("writelines", ([data, b"more\n", data[:500]],)),
            ("flush", ()),
            ("tell", ()),
            ("seek", (chance.randrange(20_000),)),
            ("seek", (chance.randrange(-30, 30), os.SEEK_CUR)),
            ("seek", (0, os.SEEK_END)),
            ("truncate", ()),
            ("truncate", (chance.randrange(20_000),)),
            ("read", (size,)),
            ("read", ()),
            ("readline", ()),
            ("readlines", (size,)),
            ("readinto", (size,)),
        ]
        + [("read1", (10,)), ("peek", ())] * is_buffered
    )


def text_call(chance: random.Random) -> Call:
    word = chance.choice(["", "a", "line\n", "grüße\n", "漢字", "carriage\r"])
    text = word * chance.choice([1, 1, 10, 300, 3000, 12_000])
    return chance.choice(
        [
            ("write", (text,)),
            ("write", (text,)),
            ("write", (text,)),
            ("write", (text,)),
            ("writelines", ([text, "more\n", text[:50]],)),
            ("flush", ()),
            ("tell", ()),
            ("seek", (0,)),
            ("seek", (0, os.SEEK_CUR)),
            ("seek", (0, os.SEEK_END)),
            ("truncate", ()),
            ("truncate", (chance.randrange(20_000),)),
            ("reconfigure", ()),
        ]
    )


def calls_for(arguments: dict[str, Any], chance: random.Random) -> list[Call]:
    if "b" not in arguments["mode"]:
        return [text_call(chance) for _ in range(CALLS)]
    is_buffered = arguments.get("buffering") != 0
    return [binary_call(chance, is_buffered=is_buffered) for _ in range(CALLS)]


def reading(chance: random.Random) -> Call:
    """A call that reads text."""
    return chance.choice([("read", (chance.randrange(100),)), ("read", ()), ("readline", ())])


async def seen(
    file: Any, path: Path | None, calls: list[tuple[Call, int | None]], *, to_the_end: bool
) -> list[Any]:
    """Make the calls under their limits; return what came of each, and the content after it."""
    found: list[Any] = []
    for call, limit in calls:
        with limited(limit):
            came = await outcome(file, call)
        found.append((came, path.read_bytes() if path else None))
        if not to_the_end and isinstance(came, tuple) and issubclass(came[0], OSError):
            break
    with limited(calls[-1][1]):
        came = await outcome(file, ("close", ()))
    return [*found, (came, path.read_bytes() if path else None)]


def plan(chance: random.Random, calls: list[Call]) -> list[tuple[Call, int | None]]:
    """Put each call under a limit, or under none."""
    limit: int | None = None
    planned = []
    for call in calls:
        if chance.random() < 0.25:
            limit = chance.choice([None, None, *LIMITS])
        planned.append((call, limit))
    return planned


async def compare(
    paths: tuple[Path, Path],
    arguments: dict[str, Any],
    calls: list[tuple[Call, int | None]],
    *,
    prepare: Callable[[Any], None] | None = None,
    to_the_end: bool = True,
) -> None:
    theirs = paths[0].open(**arguments)
    ours = await cloverleaf.open(paths[1], **arguments)
    if prepare is not None:
        prepare(ours)
    is_regular = paths[0] != paths[1]
    expected = await seen(theirs, paths[0] if is_regular else None, calls, to_the_end=to_the_end)
    found = await seen(ours, paths[1] if is_regular else None, calls, to_the_end=to_the_end)
    for at, (one, other) in enumerate(zip(expected, found, strict=True)):
        assert other == one, (at, calls[at : at + 1])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return the paths of two files with the same content."""
    paths = tmp_path / "theirs", tmp_path / "ours"
    for path in paths:
        path.write_bytes(b"some lines\n" * 900)
    return paths


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("buffering", [-1, 0, 16, 5000])
@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "a+b"])
@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
async def test_bytes_beyond_a_limit(
    loop: Loop, pair: tuple[Path, Path], mode: str, buffering: int, seed: int, is_cold: bool
) -> None:
    chance = random.Random(f"{mode} {buffering} {seed}")
    calls = plan(chance, [binary_call(chance, is_buffered=buffering != 0) for _ in range(CALLS)])
    prepare = chill if is_cold else None
    await compare(pair, {"mode": mode, "buffering": buffering}, calls, prepare=prepare)


@pytest.mark.deadline(90)
@pytest.mark.parametrize("buffering", [-1, 16, 5000, 20_000])
@pytest.mark.parametrize("mode", ["r+b", "a+b"])
async def test_what_was_read_ahead_before_a_write_that_is_refused(
    loop: Loop, pair: tuple[Path, Path], mode: str, buffering: int
) -> None:
    for seed in range(12):
        for path in pair:
            path.write_bytes(b"some lines\n" * 900)
        chance = random.Random(f"{mode} {buffering} {seed}")
        calls = plan(chance, [binary_call(chance) for _ in range(CALLS)])
        arguments = {"mode": mode, "buffering": buffering}
        await compare(pair, arguments, calls, prepare=chill_partly)


TEXTS = [
    {"encoding": "utf-8"},
    {"encoding": "utf-16", "buffering": 5000},
    {"encoding": "utf-8-sig", "buffering": 1},
    {"encoding": "iso2022_jp", "errors": "replace", "newline": "\r\n"},
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("settings", TEXTS, ids=str)
@pytest.mark.parametrize("mode", ["w", "a", "r+", "a+"])
@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
async def test_text_beyond_a_limit(
    loop: Loop,
    pair: tuple[Path, Path],
    mode: str,
    settings: dict[str, Any],
    seed: int,
    is_cold: bool,
) -> None:
    chance = random.Random(f"{mode} {settings} {seed}")
    kinds = [text_call, text_call, text_call, reading]
    calls = plan(chance, [chance.choice(kinds)(chance) for _ in range(CALLS)])
    # What was read ahead before a write that fails, only `open` still has: decision 0013.
    to_the_end = "+" not in mode
    arguments = {"mode": mode, **settings}
    prepare = chill if is_cold else None
    await compare(pair, arguments, calls, prepare=prepare, to_the_end=to_the_end)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "wb"},
        {"mode": "wb", "buffering": 0},
        {"mode": "ab", "buffering": 100},
        {"mode": "w", "encoding": "utf-8"},
        {"mode": "w", "encoding": "utf-8", "buffering": 1},
        {"mode": "a", "encoding": "utf-16"},
    ],
    ids=str,
)
async def test_a_full_disk(loop: Loop, arguments: dict[str, Any], seed: int) -> None:
    chance = random.Random(f"{arguments} {seed}")
    calls = plan(chance, calls_for(arguments, chance))
    full = Path("/dev/full")
    await compare((full, full), arguments, calls)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "wb"},
        {"mode": "wb", "buffering": 0},
        {"mode": "wb", "buffering": 100},
        {"mode": "w", "encoding": "utf-8"},
        {"mode": "w", "encoding": "utf-8", "buffering": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("blocks", [True, False], ids=["blocking", "full at once"])
async def test_a_pipe_that_nobody_reads(
    loop: Loop, arguments: dict[str, Any], seed: int, blocks: bool
) -> None:
    chance = random.Random(f"{arguments} {seed} {blocks}")
    calls = calls_for(arguments, chance)
    closes_at = chance.randrange(CALLS)

    async def history(*, is_ours: bool) -> list[Any]:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)  # more than one call writes
        os.set_blocking(writing, blocks)
        if is_ours:
            file: Any = await cloverleaf.open(writing, **arguments)
        else:
            file = open(writing, **arguments)  # noqa: PTH123, SIM115
        found: list[Any] = []
        for at, call in enumerate([*calls, ("close", ())]):
            if at == closes_at:
                os.close(reading)
            found.append(await outcome(file, call))
            if at < closes_at and (blocks or chance_at(at)):
                with contextlib.suppress(BlockingIOError):
                    found.append(os.read(reading, 1 << 20))
        return found

    def chance_at(at: int) -> bool:
        return random.Random(f"{seed} {at}").random() < 0.3

    expected = await history(is_ours=False)
    assert await history(is_ours=True) == expected
