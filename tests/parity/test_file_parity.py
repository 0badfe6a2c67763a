"""Files do what those of the built-in `open` do: the same calls, at random, on both."""

from __future__ import annotations

import operator
import os
import random
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import Call, awaited_history, chill, history
from .harness.types import Loop

CALLS = 60
SEEDS = range(2)
WORDS = ["", "a", "line\n", "carriage\r", "both\r\n", "grüße", "漢字\n", "x" * 5000, "\U0001f340"]


def content(chance: random.Random) -> bytes:
    lines = [os.urandom(1) * chance.randrange(200) + b"\n" for _ in range(chance.randrange(400))]
    return b"".join(lines) + b"no end of line" * chance.randrange(2)


def binary_call(chance: random.Random) -> Call:
    size = chance.choice([-1, 0, 1, 7, 100, 5000, 20000])
    data = bytes([chance.randrange(256)]) * chance.choice([0, 1, 10, 5000, 40000])
    offset = chance.randrange(30000)
    return chance.choice(
        [
            ("read", (size,)),
            ("read", (size,)),
            ("read", ()),
            ("readline", ()),
            ("readline", (size,)),
            ("readlines", (chance.choice([-1, 10, 1000]),)),
            ("readinto", (max(size, 0),)),
            ("write", (data,)),
            ("write", (data,)),
            ("writelines", ([data, b"more\n"],)),
            ("seek", (offset,)),
            ("seek", (chance.randrange(-500, 500), os.SEEK_CUR)),
            ("seek", (-chance.randrange(500), os.SEEK_END)),
            ("seek", (-1,)),
            ("tell", ()),
            ("truncate", ()),
            ("truncate", (offset,)),
            ("flush", ()),
            ("readable", ()),
            ("writable", ()),
            ("write", ("text",)),
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("buffering", [-1, 0, 16, 100_000])
@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b", "w+b", "a+b"])
@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
async def test_bytes(
    loop: Loop, tmp_path: Path, mode: str, buffering: int, seed: int, is_cold: bool
) -> None:
    chance = random.Random(f"{mode} {buffering} {seed}")
    before = content(chance)
    calls = [binary_call(chance) for _ in range(CALLS)]
    paths = [tmp_path / "theirs", tmp_path / "ours"]
    for path in paths:
        path.write_bytes(before)
    arguments = {"mode": mode, "buffering": buffering}
    theirs = await history(paths[0], arguments, calls)
    ours = await awaited_history(paths[1], arguments, calls, chill if is_cold else None)
    for call, expected, found in zip([*calls, ("content", ())], theirs, ours, strict=True):
        assert found == expected, call


def text_call(chance: random.Random) -> Call:
    size = chance.choice([-1, 0, 1, 7, 100, 5000])
    text = "".join(chance.choices(WORDS, k=chance.randrange(6)))
    return chance.choice(
        [
            ("read", (size,)),
            ("read", (size,)),
            ("readline", ()),
            ("readline", ()),
            ("readline", (size,)),
            ("readlines", ()),
            ("write", (text,)),
            ("write", (text,)),
            ("writelines", ([text, "more\n"],)),
            ("seek", (0,)),
            ("seek", (0, os.SEEK_END)),
            ("seek", (1, os.SEEK_CUR)),
            ("tell", ()),
            ("truncate", ()),
            ("flush", ()),
            ("write", (b"bytes",)),
        ]
    )


TEXTS = [
    {"encoding": "utf-8"},
    {"encoding": "utf-8", "newline": ""},
    {"encoding": "utf-8", "newline": "\r\n"},
    {"encoding": "utf-16"},
    {"encoding": "utf-8-sig", "buffering": 1},
    {"encoding": "ascii", "errors": "backslashreplace", "newline": "\n", "buffering": 64},
    {"encoding": "iso2022_jp", "errors": "replace"},
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("settings", TEXTS, ids=str)
@pytest.mark.parametrize("mode", ["r", "w", "a", "r+", "w+", "a+"])
@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
async def test_text(
    loop: Loop, tmp_path: Path, mode: str, settings: dict[str, Any], seed: int, is_cold: bool
) -> None:
    chance = random.Random(f"{mode} {settings} {seed}")
    words = chance.choices(WORDS, k=chance.randrange(2000))
    before = "".join(words).encode(settings["encoding"], "replace")
    calls = [text_call(chance) for _ in range(CALLS)]
    paths = [tmp_path / "theirs", tmp_path / "ours"]
    for path in paths:
        path.write_bytes(before)
    arguments = {"mode": mode, **settings}
    theirs = await history(paths[0], arguments, calls)
    ours = await awaited_history(paths[1], arguments, calls, chill if is_cold else None)
    for call, expected, found in zip([*calls, ("content", ())], theirs, ours, strict=True):
        assert found == expected, call


WRONG: list[tuple[Any, ...]] = [
    ("", "r"),
    (".", "r"),
    (".", "wb"),
    ("no/such/file",),
    ("no\0name",),
    ("present", "x"),
    ("present", "rw"),
    ("present", ""),
    ("present", "b"),
    ("present", "rbt"),
    ("present", "r", 0),
    ("present", "rb", -1, "utf-8"),
    ("present", "rb", -1, None, "strict"),
    ("present", "rb", -1, None, None, "\n"),
    ("present", "r", -1, "no-such-encoding"),
    ("present", "r", -1, None, None, "\t"),
    ("present", "r", -1, None, None, None, False),
    ("present", 5),
    ("present", "r", "much"),
    (5.5, "r"),
    (None, "r"),
    (-1, "r"),
    (10**6, "r"),
    ("present", "r", -1, None, None, None, True, lambda path, flags: -1),
    ("present", "r", -1, None, None, None, True, lambda path, flags: "no number"),
]


@pytest.mark.parametrize("arguments", WRONG, ids=str)
async def test_what_is_wrong_is_said_in_the_same_words(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("present").touch()
    with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever it is
        open(*arguments).close()  # noqa: PTH123
    with pytest.raises(type(expected.value)) as found:
        await cloverleaf.open(*arguments)
    assert str(found.value) == str(expected.value)
    assert getattr(found.value, "filename", None) == getattr(expected.value, "filename", None)


class Number:
    """A number by its index."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __index__(self) -> int:
        return self.index


@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b", "w+b", "a+b", "r", "w", "a", "rt", "r+"])
@pytest.mark.parametrize("buffering", [-1, 0, 1, Number(-1), Number(0), Number(1), Number(9)])
async def test_the_attributes_are_the_same(
    loop: Loop, tmp_path: Path, mode: str, buffering: Any
) -> None:
    size = operator.index(buffering)
    if ("b" not in mode and not size) or ("b" in mode and size == 1):
        return
    path = tmp_path / "file"
    path.touch()
    with path.open(mode, buffering) as theirs:
        async with cloverleaf.open(path, mode, buffering) as ours:
            assert ours.mode == theirs.mode
            assert ours.name == theirs.name
            for name in ("readable", "writable", "seekable", "isatty"):
                assert getattr(ours, name)() == getattr(theirs, name)(), name
            if "b" not in mode:
                for name in ("encoding", "errors", "newlines", "line_buffering", "write_through"):
                    assert getattr(ours, name) == getattr(theirs, name), name
            assert not ours.closed
        assert ours.closed
