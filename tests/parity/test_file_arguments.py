"""What is wrong with an argument, files say as `open`'s do, whatever their state."""

from __future__ import annotations

import array
import os
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import Call, answer
from .harness.types import Loop

pytestmark = [pytest.mark.only("cloverleaf"), pytest.mark.deadline(90)]  # asyncio has no files

CONTENT = b"line one\nline two\n" * 3


class Three:
    """A number by its index."""

    def __index__(self) -> int:
        return 3


NUMBERS = ["x", 1.5, b"1", None, True, -5, 2**70, -(2**70), object(), [], Three()]
WORDS = memoryview(b"abcdef")
NUMBERED = memoryview(array.array("i", [1, 2, 3, 4]))
CONTENTS = [
    *("x", 1, None, 1.5, [1], object(), bytearray(b"q"), array.array("i", [1])),
    *(WORDS[::2], WORDS[::-1], WORDS.cast("B", (2, 3)), WORDS[:0], NUMBERED, NUMBERED[::2]),
]


def rooms() -> list[Any]:
    """Return what may be given to be filled, fresh."""
    room = memoryview(bytearray(6))
    numbered = array.array("i", [0, 0, 0, 0])
    return [
        *(b"abc", "x", None, 5, bytearray(), bytearray(4), numbered, room, room[::2]),
        *(room.cast("B", (2, 3)), room[:0], memoryview(numbered)[::2], room.toreadonly()),
    ]


def calls(*, is_text: bool) -> list[Call]:
    readers = ["read", "readline", "readlines"]
    found: list[Call] = [(name, (number,)) for name in readers for number in NUMBERS]
    if not is_text:
        found += [("seek", (number,)) for number in NUMBERS]
        found += [("readinto", (room,)) for room in rooms()]
    found += [("truncate", (number,)) for number in NUMBERS if not isinstance(number, Three)]
    found += [("seek", (0, whence)) for whence in ["x", 1.5, None, 7, Three()]]
    found += [("seek", place) for place in [(-1,), (1.5, 1), (-100, 1), (-3, 2), (1000, 2)]]
    for content in CONTENTS:
        found += [("write", (content,)), ("writelines", ([content],))]
    return [*found, *[("writelines", (lines,)) for lines in (5, None, b"ab", "ab")]]


async def _came_of(file: Any, call: Call, *, is_closed: bool) -> Any:
    """Make the call on a file, and close it; return what came of that."""
    name, arguments = call
    try:
        try:
            if is_closed:
                await answer(file.close())
            return await answer(getattr(file, name)(*arguments))
        finally:
            await answer(file.close())
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("mode", ["rb", "r+b", "wb"])
async def test_wrong_arguments_for_bytes_are_refused_in_the_words_of_open(
    loop: Loop, tmp_path: Path, mode: str, buffering: int, is_closed: bool
) -> None:
    for call in calls(is_text=False):
        await _compare(tmp_path / "file", mode, buffering, call, is_closed=is_closed)


@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("mode", ["r", "r+", "w"])
async def test_wrong_arguments_for_text_are_refused_in_the_words_of_open(
    loop: Loop, tmp_path: Path, mode: str, is_closed: bool
) -> None:
    for call in calls(is_text=True):
        await _compare(tmp_path / "file", mode, -1, call, is_closed=is_closed)


async def _compare(path: Path, mode: str, buffering: int, call: Call, *, is_closed: bool) -> None:
    path.write_bytes(CONTENT)
    came = await _came_of(path.open(mode, buffering), call, is_closed=is_closed)
    expected = came, path.read_bytes()
    path.write_bytes(CONTENT)
    file = await cloverleaf.open(path, mode, buffering)
    came = await _came_of(file, call, is_closed=is_closed)
    assert (came, path.read_bytes()) == expected, call


OFFSETS = ["x", 1.5, None, -1, -(2**70), 2**63 - 1, 2**63, 2**70, True, Three()]
AT_OFFSETS = [(b"some", offset) for offset in OFFSETS] + [(wrong, 0) for wrong in ("x", 1, None)]


@pytest.mark.parametrize(
    "call", [*AT_OFFSETS, (b"", 3), (b"", -1), (b"", "x"), (b"", 2**70)], ids=str
)
async def test_wrong_arguments_for_a_write_at_an_offset_are_refused_as_by_os(
    loop: Loop, tmp_path: Path, call: tuple[Any, Any]
) -> None:
    path = tmp_path / "file"
    came = []
    for opens in (open, cloverleaf.open):
        path.write_bytes(CONTENT)
        file: Any = await answer(opens(path, "r+b", 0))
        try:
            if opens is open:
                written: Any = os.pwrite(file.fileno(), *call)
            else:
                written = await file.pwrite(*call)
        except (TypeError, OverflowError, OSError) as error:
            # The words of an overflow name a type of C's.
            written = type(error), "" if isinstance(error, OverflowError) else str(error)
        came.append((written, path.read_bytes()))
        await answer(file.close())
    assert came[1] == came[0]
    with pytest.raises((ValueError, TypeError)):
        await file.pwrite(*call)
