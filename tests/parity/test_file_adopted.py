"""A descriptor that cannot be opened: what is said of it, to whom, and who closes it."""

from __future__ import annotations

import codecs
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import answer
from .harness.program import Program
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files


def _pipe_at_its_end() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def _close(fd: int) -> bool:
    """Close a descriptor; tell whether it was open."""
    try:
        os.close(fd)
    except OSError:
        return False
    return True


def _fails(name: str) -> None:
    """Look an encoding up, as `codecs` does, and fail as the system may."""
    if name == "fails_as_the_system":
        raise OSError(errno.EIO, "no such thing")


codecs.register(_fails)

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("r+", {}),
    ("r+b", {}),
    ("r", {"encoding": "no such encoding"}),
    ("r", {"encoding": "fails_as_the_system"}),
    ("r", {"newline": "\t"}),
    ("r", {"buffering": 0}),
    ("rw", {}),
    ("rb", {"encoding": "utf-8"}),
]


@pytest.mark.parametrize("closefd", [True, False])
@pytest.mark.parametrize(("mode", "arguments"), WRONG, ids=str)
async def test_an_open_that_fails_closes_what_opens_would(
    loop: Loop, mode: str, arguments: dict[str, Any], closefd: bool
) -> None:
    await _compare(_pipe_at_its_end, mode, closefd=closefd, **arguments)


@pytest.mark.parametrize("mode", ["a", "ab", "r+", "rb"])
@pytest.mark.parametrize(
    ("path", "flags"),
    [
        ("/proc/self/comm", os.O_RDWR),  # has no end to go to
        ("/proc/self/status", os.O_RDONLY),
        ("/proc/self", os.O_RDONLY),
        ("/proc/self/comm", os.O_PATH),
    ],
)
async def test_a_descriptor_that_the_system_refuses_stays_open_if_it_does_for_open(
    loop: Loop, path: str, flags: int, mode: str
) -> None:
    await _compare(lambda: os.open(path, flags), mode)


async def _compare(make: Callable[[], int], mode: str, **arguments: Any) -> None:
    """Open two descriptors, by `open` and by us; compare what is said, and which is open then."""
    found: list[tuple[str, bool]] = []
    for opening in (open, cloverleaf.open):
        fd, said = make(), ""
        try:
            await answer((await answer(opening(fd, mode, **arguments))).close())
        except (ValueError, OSError, LookupError) as error:
            said = repr(error)
        found.append((said.replace(str(fd), "its number"), _close(fd)))
    assert found[1] == found[0]


@pytest.mark.parametrize("number", [1 << 40, -(1 << 40), -1])
async def test_a_number_that_no_descriptor_has_is_refused_as_by_open(
    loop: Loop, number: int
) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)) as expected:
        open(number, "rb").close()
    with pytest.raises(expected.type) as found:
        await cloverleaf.open(number, "rb")
    assert str(found.value) == str(expected.value)


def test_a_number_that_is_a_bool_stays_open_where_the_warning_is_an_error(
    program: Program,
) -> None:
    out = program.output(
        """
import asyncio, cloverleaf, os, warnings

async def opened(opening):
    file = None
    try:
        file = opening(True, "wb", 0)
        if opening is not open:
            file = await file
        return "no error"
    except RuntimeWarning:
        os.fstat(1)  # it is open
        return "refused"
    finally:
        if file is not None:
            kept.append(file)

async def main():
    print(await opened(open) == await opened(cloverleaf.open), flush=True)
    os._exit(0)  # each of what it has opened would close the standard output

kept = []
warnings.simplefilter("error", RuntimeWarning)
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert out == "True"


def test_an_open_that_fails_tells_of_its_descriptor_once(program: Program, tmp_path: Path) -> None:
    # In a program of its own, as it listens to the end.
    out = program.output(
        f"""
import asyncio, cloverleaf, os, sys

told = []
sys.addaudithook(lambda event, args: told.append(args) if event == "open" else None)

async def failing(opening, fd, mode, arguments):
    copy = os.dup(fd)
    told.clear()
    try:
        file = opening(copy, mode, **arguments)
        if opening is not open:
            await file
    except (ValueError, OSError, LookupError) as error:
        seen = [args[1:] for args in told if args[0] == copy]
    try:
        os.close(copy)
    except OSError:
        return seen, "closed"
    return seen, "left open"

async def main():
    reading, writing = os.pipe()
    os.close(writing)
    for fd in (reading, os.open({str(tmp_path)!r}, os.O_RDONLY)):
        for mode, arguments in {WRONG!r}:
            expected = await failing(open, fd, mode, arguments)
            found = await failing(cloverleaf.open, fd, mode, arguments)
            if found != expected:
                print(fd == reading, mode, arguments, found, expected)
    print("compared")

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert out == "compared"
