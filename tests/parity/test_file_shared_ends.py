"""A read of what others have, too, that is given up: who goes on there, and who must not."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.complaints import Complaints
from .harness.files import NUMBERED
from .harness.program import Program
from .harness.turns import until
from .harness.types import Loop, NewLoop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files

BEGUN = 160

BUFFERING = {"r+": -1, "r+b": 8192}
"""What a larger one, as releases have it, has read ahead stays there, as with `open`."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lines"
    path.write_bytes(NUMBERED)
    return path


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    """Open it where the tenth line ends."""
    fd = os.open(path, os.O_RDWR)
    os.lseek(fd, BEGUN, os.SEEK_SET)
    yield fd
    os.close(fd)


async def _give_up(file: Any, method: str) -> None:
    """Cancel a read of all, wait until nothing of it goes on."""
    for _ in range(100):
        reading = asyncio.ensure_future(getattr(file, method)())
        await until(lambda: file._raw.position > BEGUN or file._raw._flight is not None)
        if not reading.done():
            break
        await file.seek(BEGUN)  # all came while nobody looked
    assert reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    await until(lambda: file._raw._flight is None)


GIVEN_UP = pytest.mark.parametrize(
    ("mode", "method"), [("r+", "read"), ("r+", "readlines"), ("r+b", "readlines")]
)


@GIVEN_UP
async def test_what_others_write_where_a_read_was_given_up_is_not_written_over(
    loop: Loop, path: Path, fd: int, mode: str, method: str
) -> None:
    file: Any = await cloverleaf.open(os.dup(fd), mode, BUFFERING[mode])
    await _give_up(file, method)
    os.write(fd, b"what others have")
    await file.write("ours" if mode == "r+" else b"ours")
    await file.close()
    assert path.read_bytes()[BEGUN : BEGUN + 20] == b"what others haveours"


@GIVEN_UP
async def test_what_others_read_where_a_read_was_given_up_is_not_read_again(
    loop: Loop, fd: int, mode: str, method: str
) -> None:
    file: Any = await cloverleaf.open(os.dup(fd), mode, BUFFERING[mode])
    await _give_up(file, method)
    assert os.read(fd, 32) == NUMBERED[BEGUN : BEGUN + 32]
    line = await file.readline()
    await file.close()
    assert line == (NUMBERED[192:208].decode() if mode == "r+" else NUMBERED[192:208])


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_forked_child_that_ends_leaves_its_parents_descriptor_alone(
    program: Program, path: Path, mode: str
) -> None:
    out = program.output(
        f"""
import asyncio, os, sys
import cloverleaf

async def main():
    fd = os.open({str(path)!r}, os.O_RDONLY)
    os.lseek(fd, 160, os.SEEK_SET)
    file = await cloverleaf.open(os.dup(fd), {mode!r})
    reading = asyncio.ensure_future(file.readlines())
    while file._raw.position == 160:
        await asyncio.sleep(0)
    pid = os.fork()
    if not pid:
        # What waits in the parent's coroutine is closed with it.
        reading.get_coro().close()
        os._exit(0)
    os.waitpid(pid, 0)
    print(len(await reading))

cloverleaf.run(main())
"""
    )
    assert int(out) == len(NUMBERED) // 16 - 10


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_read_that_is_forgotten_with_its_file_moves_no_other_file(
    new_loop: NewLoop, tmp_path: Path, fd: int, mode: str, logged: Complaints
) -> None:
    class Opens:
        """Opens a file when it goes, which gets the first number that is free."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            others.append(os.open(tmp_path / "others", os.O_RDWR | os.O_CREAT))
            os.write(others[0], bytes(1000))

    others: list[int] = []
    number = os.dup(fd)

    async def begin() -> None:
        file: Any = await cloverleaf.open(number, mode)
        opens: Any = Opens()
        reading = asyncio.ensure_future(file.read())
        opens.reading = reading
        await until(lambda: file._raw._flight is not None or file._raw.position > BEGUN)

    loop = new_loop()
    loop.run_until_complete(begin())
    loop.close()
    while not others and os.lseek(fd, 0, os.SEEK_CUR) < len(NUMBERED):
        os.sched_yield()
    time.sleep(0.2)  # until the thread has made text of it, as it mostly has
    while not others:
        gc.collect()
    gc.collect()
    logged.take()  # of a task that never ended
    assert os.lseek(others[0], 0, os.SEEK_CUR) == 1000
    os.close(others[0])
    assert os.lseek(fd, 0, os.SEEK_CUR) == BEGUN
