"""Operations on one file: in the order of the calls, and harmless when they are cancelled."""

from __future__ import annotations

import asyncio
import functools
import os
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
from cloverleaf._file_flight import perform

from .harness.awaited import chill
from .harness.pipes import descriptors
from .harness.turns import turns, until
from .harness.types import Loop

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with some content."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


# -- order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
async def test_operations_run_in_the_order_of_the_calls(
    loop: Loop, path: Path, is_cold: bool
) -> None:
    async with cloverleaf.open(path, "rb") as file:
        if is_cold:
            chill(file)
        pieces = await asyncio.gather(*(file.read(100) for _ in range(200)))
        assert b"".join(pieces) == CONTENT[:20_000]
    async with cloverleaf.open(path, "wb", 0) as file:
        await asyncio.gather(*(file.write(b"%04d" % n) for n in range(200)))
    assert path.read_bytes() == b"".join(b"%04d" % n for n in range(200))


async def test_closing_waits_for_what_was_begun_before(loop: Loop, path: Path) -> None:
    file = await cloverleaf.open(path, "wb", 0)
    writes = [asyncio.ensure_future(file.write(b"%d" % n * 50_000)) for n in range(5)]
    closing = asyncio.ensure_future(file.close())
    late = asyncio.ensure_future(file.write(b"late"))
    await closing
    assert all(write.done() and not write.exception() for write in writes)
    with pytest.raises(ValueError, match="closed file"):
        await late
    assert path.read_bytes() == b"".join(b"%d" % n * 50_000 for n in range(5))


async def _pread_cold(file: Any, size: int, offset: int) -> Any:
    return await perform(file._reading(size, offset))


async def test_closing_lets_a_read_beside_it_end(loop: Loop, path: Path) -> None:
    file = await cloverleaf.open(path, "rb")
    chill(file, random.Random(3))
    reads = [asyncio.ensure_future(_pread_cold(file, 1000, n)) for n in range(20)]
    await asyncio.sleep(0)
    await file.close()
    assert await asyncio.gather(*reads) == [CONTENT[n : n + 1000] for n in range(20)]


async def test_writes_beside_the_others_let_them_run(loop: Loop, path: Path) -> None:
    asked = []

    async def busy(file: Any) -> None:
        for _ in range(1000):
            await file.pwrite(b"x", 0)

    async with cloverleaf.open(path, "r+b", 0) as file:
        fd = file.fileno()
        for count in (1, 0):

            def try_write(_file: Any, data: bytes, _start: int, offset: int, n: int = count) -> int:
                asked.append(offset)
                return os.pwrite(fd, data, offset) if n else 0

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(file), "_try_write", try_write)
                file._raw.writes_at_once = True
                task = asyncio.ensure_future(busy(file))
                await turns(5)
                assert not task.done(), "kept everybody waiting"
                await task
        assert len(asked) == 1001, "asked again what cannot be"


@pytest.mark.parametrize("buffering", [64, 5000])
@pytest.mark.parametrize("mode", ["wb", "ab", "r+b"])
async def test_large_writes_reach_the_file_when_those_of_open_do(
    loop: Loop, tmp_path: Path, mode: str, buffering: int
) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    for each in (ours, others):
        each.write_bytes(b"before")
    file = await cloverleaf.open(ours, mode, buffering)
    with others.open(mode, buffering) as plain:
        for size in (1, buffering - 1, buffering, buffering + 1, 3 * buffering, 2, 9000, 0):
            for kind in (bytes, bytearray):
                data = kind(chr(65 + size % 26).encode() * size)
                assert await file.write(data) == plain.write(data) == size
                assert ours.read_bytes() == others.read_bytes(), size
                assert await file.tell() == plain.tell()
        await file.seek(3)
        plain.seek(3)
        large = b"from the third on" * buffering
        assert await file.write(large) == plain.write(large)
        assert ours.read_bytes() == others.read_bytes()
    await file.close()
    assert ours.read_bytes() == others.read_bytes()
    with pytest.raises(ValueError, match="write to closed file"):
        await file.write(large)


# -- cancellation ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["read", "readline", "readinto"])
async def test_a_cancelled_read_does_not_move_the_position(
    loop: Loop, path: Path, method: str
) -> None:
    chance = random.Random(method)
    async with cloverleaf.open(path, "rb") as file:
        chill(file, chance)
        seen = b""
        while True:
            room = bytearray(chance.randrange(1, 9000))
            reads: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "read": functools.partial(file.read, len(room)),
                "readline": file.readline,
                "readinto": functools.partial(file.readinto, room),
            }
            task = asyncio.ensure_future(reads[method]())
            await turns(chance.randrange(4))
            if chance.random() < 0.9:  # the others end also where nothing is at hand, as on tmpfs
                task.cancel()
            try:
                got: Any = await task
            except asyncio.CancelledError:
                assert await file.tell() == len(seen)
                continue
            got = bytes(room[:got]) if method == "readinto" else got
            if not got:
                break
            seen += got
        assert seen == CONTENT


async def test_a_cancelled_read_of_text_does_not_move_the_position(
    loop: Loop, tmp_path: Path
) -> None:
    path = tmp_path / "text"
    content = "grüße\n" * 300_000  # so much that a thread reads it
    path.write_text(content)
    async with cloverleaf.open(path) as file:
        assert await file.readline() == "grüße\n"
        for count in range(6):
            task = asyncio.ensure_future(file.read())
            await turns(count)
            assert task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await file.read() == content[6:]


@pytest.mark.parametrize(
    ("newline", "lines"),
    [
        (None, ["one\n", "two\n", "three\n", "four"]),
        ("", ["one\r", "two\r\n", "three\n", "four"]),
        ("\n", ["one\rtwo\r\n", "three\n", "four"]),
        ("\r", ["one\r", "two\r", "\nthree\nfour"]),
        ("\r\n", ["one\rtwo\r\n", "three\nfour"]),
    ],
)
@pytest.mark.parametrize("how", ["open", "reconfigure"])
async def test_lines_end_alike_after_a_cancelled_read_of_a_stream(
    loop: Loop, newline: str | None, lines: list[str], how: str
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as pipe:
        first = newline if how == "open" else "\n"
        async with cloverleaf.open(reading, newline=first) as file:
            if how == "reconfigure":
                await file.reconfigure(newline=newline)
            task = asyncio.ensure_future(file.read(18))
            await until(lambda: file._raw._flight is not None)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            pipe.write(b"one\rtwo\r\nthree\nfour")
            pipe.close()
            assert [line async for line in file] == lines


async def test_cancelled_writes_are_whole_or_not_there(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "cancelled"
    chance = random.Random(1)
    async with cloverleaf.open(path, "wb", 0) as file:
        for n in range(100):
            task = asyncio.ensure_future(file.write(b"%03d|" % n * 1000))
            await turns(chance.randrange(4))
            task.cancel()
            await asyncio.wait([task])
    written = path.read_bytes()
    blocks = [written[at : at + 4000] for at in range(0, len(written), 4000)]
    numbers = [int(block[:3]) for block in blocks]
    assert blocks == [b"%03d|" % n * 1000 for n in numbers]
    assert numbers == sorted(set(numbers))


async def test_a_cancelled_close_closes_all_the_same(loop: Loop, path: Path) -> None:
    for count in range(5):
        file = await cloverleaf.open(path, "w")
        await file.write(f"round {count}")
        task = asyncio.ensure_future(file.close())
        await turns(count)
        task.cancel()
        await asyncio.wait([task])
        if not file.closed:
            assert count == 0, "closing had begun"
        await file.close()
        assert path.read_text() == f"round {count}"


async def test_a_close_that_is_cancelled_before_its_turn_closes(loop: Loop) -> None:
    for count in range(4):
        with descriptors() as (reading, writing):
            file = await cloverleaf.open(reading, "rb")
            read = asyncio.ensure_future(file.read(1))
            await turns(count)
            closing = asyncio.ensure_future(file.close())
            late = asyncio.ensure_future(file.read(1))
            await turns(2)
            closing.cancel()
            await asyncio.wait([closing])
            assert closing.cancelled()
            os.write(writing, b"x")
            assert await read == b"x"
            with pytest.raises(ValueError, match="closed file"):
                await late
            assert file.closed
            await file.close()


async def test_a_close_that_never_got_its_turn_may_be_made_again(loop: Loop, path: Path) -> None:
    file = await cloverleaf.open(path, "rb")
    turn = await file._enter()
    closing = asyncio.ensure_future(file.close())
    await turns(2)
    assert file._finish is not None
    file._finish.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not file.closed
    file._turns.leave(turn)
    await file.close()
    assert file.closed


@pytest.mark.parametrize("gets_turn", [True, False])
async def test_a_close_that_is_cancelled_before_its_first_step_leaves_the_line(
    loop: Loop, path: Path, gets_turn: bool
) -> None:
    file = await cloverleaf.open(path, "rb")
    turn = await file._enter()
    closing = asyncio.ensure_future(file.close())
    # As the end of a program does, with every task; here the closing has not begun to run.
    loop.call_soon(lambda: file._finish and file._finish.cancel())
    if gets_turn:
        loop.call_soon(file._turns.leave, turn)
    with pytest.raises(asyncio.CancelledError):
        await closing
    if not gets_turn:
        file._turns.leave(turn)
    assert not file.closed
    assert await file.read(5) == CONTENT[:5]
    await file.close()
    assert file.closed


async def test_what_cannot_be_undone_keeps_nobody_waiting(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("grüße\n" * 300_000)  # so much that a thread reads it

    class Stuck:
        def __getattr__(self, name: str) -> Any:
            if name == "seek":
                raise OSError("cannot")
            return getattr(stack, name)

    async with cloverleaf.open(path) as file:
        task = asyncio.ensure_future(file.read())
        await turns(2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        stack, file._file = file._file, Stuck()
        for _ in range(2):
            with pytest.raises(OSError, match="cannot"):
                await file.read(1)
        file._file = stack
        assert await file.readline() == "grüße\n"


async def test_a_storm_of_cancellations_keeps_every_byte(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "storm"
    chance = random.Random(7)
    expected = bytearray()
    async with cloverleaf.open(path, "w+b") as file:
        chill(file, chance)
        for n in range(150):
            data = b"%05d" % n * chance.randrange(1, 3000)
            await file.seek(0, os.SEEK_END)
            await file.write(data)
            expected += data
            offset = chance.randrange(len(expected))
            await file.seek(offset)
            task = asyncio.ensure_future(file.read(chance.randrange(20_000)))
            beside = [asyncio.ensure_future(file.pread(100, offset)) for _ in range(3)]
            await turns(chance.randrange(3))
            for each in (task, *beside[:2]):
                each.cancel()
            await asyncio.wait([task, *beside])
            if task.cancelled():
                assert await file.tell() == offset
            at = await file.tell()
            assert await file.read(50) == expected[at : at + 50]
    assert path.read_bytes() == expected
