"""Files of bytes lose nothing to calls that are given up: reads have not moved, writes are all."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import chill
from .harness.pipes import is_drained
from .harness.turns import turns, until
from .harness.types import Loop

pytestmark = [pytest.mark.only("cloverleaf"), pytest.mark.deadline(90)]  # asyncio has no files

READS: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "read": lambda file: file.read(),
    "read of some": lambda file: file.read(5),
    "readline": lambda file: file.readline(),
    "readinto": lambda file: file.readinto(bytearray(5)),
}
ROUNDS = 8
CALLS = 30
SIZES = [0, 1, 5, 17, 100, 4096, 5000, 9000, 200_001]


async def _given_up(chance: random.Random, call: Coroutine[Any, Any, Any]) -> Any:
    """Make a call that is given up now and then; return what it gives, or None."""
    task = asyncio.ensure_future(call)
    if chance.random() < 0.5:
        return await task
    await turns(chance.randrange(5))
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


@pytest.mark.parametrize("buffering", [-1, 0, 2, 16, 4096, 200_000])
async def test_a_file_is_what_its_model_is_whatever_was_given_up(
    loop: Loop, tmp_path: Path, buffering: int
) -> None:
    path = tmp_path / "model"
    for seed in range(ROUNDS):
        chance = random.Random(f"{buffering} {seed}")
        model = bytearray(chance.randbytes(1000) * chance.choice([0, 1, 30, 400]))
        path.write_bytes(model)
        async with cloverleaf.open(path, "r+b", buffering) as file:
            chill(file, chance)
            at = 0
            for _ in range(CALLS):
                at = await _step(file, chance, model, at)
                assert await file.tell() == at, seed
        assert path.read_bytes() == model, seed


async def test_large_writes_given_up_have_happened_whole_or_not_at_all(
    loop: Loop, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        model = bytearray()
        async with cloverleaf.open(path, "wb") as file:
            for _ in range(CALLS):
                size = chance.choice([1, 100, 5000, 70_000, 300_000])
                data = bytes([chance.randrange(256)]) * size
                done = await _given_up(chance, file.write(data))
                if done is None:
                    done = await file.tell() - len(model)
                    assert done in {0, size}, seed
                model += data[:done]
                assert await file.tell() == len(model), seed
        assert path.read_bytes() == model, seed


@pytest.mark.parametrize("mode", ["wb", "r+b"])
async def test_a_write_that_ends_by_a_foreign_exception_goes_on(
    loop: Loop, tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    async with cloverleaf.open(path, mode) as file:
        file._raw.writes_at_once = False  # some file systems would take it all
        write = file.write(b"a" * 300_000)
        write.send(None)
        with pytest.raises(KeyError, match="foreign"):
            write.throw(KeyError("foreign"))
        assert await file.write(b"b" * 300_000) == 300_000
        assert await file.tell() == 600_000
    assert path.read_bytes() == b"a" * 300_000 + b"b" * 300_000


async def _step(file: Any, chance: random.Random, model: bytearray, at: int) -> int:
    """Make one call, and its like on the model; return where both are then."""
    kind = chance.choice(["write", "read", "readline", "readlines", "readinto", "seek"])
    size = chance.choice(SIZES)
    if kind == "seek":
        return int(await file.seek(chance.randrange(len(model) + 50)))
    if kind == "write":
        data = bytes([chance.randrange(256)]) * size
        done = await _given_up(chance, file.write(data))
        if done is None:
            # Nobody knows whether it happened; all or nothing of it, if there is a buffer.
            done = await file.tell() - at
            assert done in {0, size} or file._raw.is_unbuffered
            assert 0 <= done <= size
        if done:
            model.extend(bytes(max(at - len(model), 0)))
            model[at : at + done] = data[:done]
        return at + int(done)
    room = bytearray(size)
    calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "read": lambda: file.read(size),
        "readline": lambda: file.readline(size),
        "readlines": lambda: file.readlines(size),
        "readinto": lambda: file.readinto(room),
    }
    found = await _given_up(chance, calls[kind]())
    if found is None:
        return at
    if kind == "readinto":
        found = bytes(room[:found])
    if kind == "readlines":
        rest = io.BufferedReader(io.BytesIO(model))
        rest.seek(at)
        assert found == rest.readlines(size)
        found = b"".join(found)
    assert found == model[at : at + len(found)]
    if kind in {"read", "readinto"}:
        assert len(found) == max(min(size, len(model) - at), 0)
    return at + len(found)


@pytest.mark.parametrize("method", ["read", "readinto", "readline"])
async def test_a_read_given_up_behind_a_write_has_not_moved_the_file(
    loop: Loop, tmp_path: Path, method: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 3000)
    async with cloverleaf.open(path, "r+b", 4096) as file:
        await file.read(10)
        await file.write(b"x" * 5)
        chill(file)
        argument = bytearray(9000) if method == "readinto" else 9000
        task = asyncio.ensure_future(getattr(file, method)(argument))
        await turns(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await file.tell() == 15
        assert await file.read(5) == b"56789"
    assert path.read_bytes()[:20] == b"0123456789xxxxx56789"


@pytest.mark.parametrize("waits", range(4))
@pytest.mark.parametrize("read", READS)
async def test_a_read_given_up_behind_what_is_appended_begins_at_the_end(
    loop: Loop, tmp_path: Path, read: str, waits: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    async with cloverleaf.open(path, "a+b") as file:
        chill(file, random.Random(waits))
        await file.seek(waits % 2 * 9000)
        await file.write(b"abc")
        task = asyncio.ensure_future(READS[read](file))
        await turns(waits)
        task.cancel()
        await asyncio.wait([task])
        assert await file.read() == b""
        assert await file.tell() == 10_003


@pytest.mark.parametrize("buffering", [16, 100, 4096])
async def test_a_buffer_that_takes_just_what_was_read_ahead_is_filled(
    loop: Loop, tmp_path: Path, buffering: int
) -> None:
    path = tmp_path / "file"
    content = bytes(range(256)) * 64
    path.write_bytes(content)
    async with cloverleaf.open(path, "r+b", buffering) as file:
        await file.read(1)
        await file.write(b"x")
        room = bytearray(buffering - 2)
        assert await file.readinto(room) == len(room)
        assert room == content[2:buffering]


@pytest.mark.parametrize("lines", [[], [5]])
async def test_a_closed_file_takes_no_lines(loop: Loop, tmp_path: Path, lines: list[Any]) -> None:
    file = await cloverleaf.open(tmp_path / "file", "wb")
    await file.close()
    with pytest.raises(ValueError, match=r"^I/O operation on closed file\.$"):
        await file.writelines(lines)


KINDS = pytest.mark.parametrize(
    ("mode", "buffering"),
    [("rb", 0), ("rb", -1), ("r", -1)],
    ids=["unbuffered", "bytes", "text"],
)


@KINDS
@pytest.mark.parametrize("method", ["readline", "readlines", "read", "__anext__"])
async def test_what_a_stream_brought_to_a_read_that_was_given_up_comes_again(
    loop: Loop, method: str, mode: str, buffering: int
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as pipe:
        async with cloverleaf.open(reading, mode, buffering) as file:
            is_many = method in {"readlines", "read"}
            pipe.write(b"one\ntwo\npar" if is_many else b"par")
            task = asyncio.ensure_future(getattr(file, method)())
            await until(lambda: is_drained(reading))  # it waits for more
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            pipe.write(b"tial\nend")
            pipe.close()
            expected = ["one\n", "two\n"] * is_many + ["partial\n", "end"]
            found = [line async for line in file]
            assert found == (expected if mode == "r" else [line.encode() for line in expected])


@pytest.mark.parametrize("turn", range(12))
@pytest.mark.parametrize("buffering", [0, -1, 16])
async def test_lines_at_hand_that_were_given_up_between_two_come_again(
    loop: Loop, turn: int, buffering: int
) -> None:
    lines = [b"%d\n" % number for number in range(10_000)]
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as pipe:
        async with cloverleaf.open(reading, "rb", buffering) as file:
            pipe.write(b"".join(lines))
            task = asyncio.ensure_future(file.readlines())
            await turns(turn * turn)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            pipe.close()
            assert await file.readline() == lines[0]
            begun = await file.read(4)  # which may be less without a buffer
            assert begun + b"".join(await file.readlines()) == b"".join(lines[1:])


@pytest.mark.parametrize(("mode", "buffering"), [("rb", 0), ("rb", -1), ("r", -1)])
async def test_detach_refuses_to_lose_what_a_read_has_left(
    loop: Loop, mode: str, buffering: int
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as pipe:
        file: Any = await cloverleaf.open(reading, mode, buffering)
        lines = asyncio.ensure_future(file.readlines())
        await turns(3)
        pipe.write(b"one\ntwo")
        await until(lambda: is_drained(reading))
        lines.cancel()
        await asyncio.wait([lines])
        pipe.write(b"\n")
        await until(lambda: file._raw._flight is None)
        with pytest.raises(RuntimeError, match="must be read before"):
            file.detach()
        expected = ["one\n", "two\n"] if mode == "r" else [b"one\n", b"two\n"]
        assert [await file.readline(), await file.readline()] == expected
        pipe.write(b"three")
        pipe.close()
        with file.detach() as below:
            assert below.read() == b"three"


async def test_a_read_that_was_given_up_and_failed_leaves_nothing_behind(loop: Loop) -> None:
    master, slave = pty.openpty()
    file: Any = await cloverleaf.open(master, "rb", 0)
    read = asyncio.ensure_future(file.read(10))
    await turns(3)
    read.cancel()
    await asyncio.wait([read])
    os.close(slave)  # reading fails with EIO now
    await until(lambda: file._raw._flight is None)
    with file.detach() as below, pytest.raises(OSError, match="Input/output error"):
        below.read(1)


@pytest.mark.parametrize("buffering", [0, -1])
async def test_lines_that_two_read_at_once_stay_whole(loop: Loop, buffering: int) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as pipe:
        async with cloverleaf.open(reading, "rb", buffering) as file:
            calls = [file.readline(), file.readlines(5), file.readline(), file.readlines()]
            tasks = [asyncio.ensure_future(call) for call in calls]
            await turns(3)
            pipe.write(b"first\nsecond\nthird\nfo")
            await tasks[0]
            pipe.write(b"urth\nfifth\n")
            pipe.close()
            found = [await task for task in tasks]
            assert found == [b"first\n", [b"second\n"], b"third\n", [b"fourth\n", b"fifth\n"]]


@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("mode", ["r", "r+", "rb", "r+b"])
async def test_lines_of_a_file_that_were_given_up_are_read_again(
    loop: Loop, tmp_path: Path, mode: str, is_cold: bool
) -> None:
    path = tmp_path / "file"
    lines = [f"grüße {number}\n" for number in range(100_000)]
    path.write_text("".join(lines), "utf-8")
    encoding = None if "b" in mode else "utf-8"
    expected: list[Any] = lines if encoding else [line.encode() for line in lines]
    async with cloverleaf.open(path, mode, encoding=encoding) as file:
        if is_cold:
            chill(file)
        assert await file.readline() == expected[0]
        place = await file.tell()
        for count in range(12):
            task = asyncio.ensure_future(file.readlines())
            await turns(count)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert await file.tell() == place
        assert await file.readlines() == expected[1:]


async def test_a_long_line_does_not_hold_the_loop_up(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000_000 + b"\n")
    async with cloverleaf.open(path, "rb", 0) as file:
        task = asyncio.ensure_future(file.readline())
        await turns(3)
        assert not task.done()
        assert len(await task) == 1_000_001


@pytest.mark.parametrize("buffering", [0, -1])
async def test_an_unbuffered_line_takes_nothing_that_comes_after_it(
    loop: Loop, buffering: int
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as pipe:
        pipe.write(b"line\nrest")
        async with cloverleaf.open(reading, "rb", buffering, closefd=False) as file:
            assert await file.readline() == b"line\n"
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", 0) as rest:
        assert rest.read() == (b"rest" if buffering == 0 else b"")


@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
async def test_lines_behind_one_that_is_not_written_are_those_of_open(
    loop: Loop, tmp_path: Path, is_cold: bool
) -> None:
    path = tmp_path / "file"
    content = "".join(f"line {number}\n" for number in range(3000))
    path.write_text(content)
    with path.open("r+") as theirs:
        theirs.readline()
        theirs.seek(0)
        theirs.write("other\n")
        expected = list(iter(theirs.readline, ""))  # a file that iterates cannot tell
        end = theirs.tell()
    expected_content = path.read_text()
    path.write_text(content)
    async with cloverleaf.open(path, "r+") as ours:
        if is_cold:
            chill(ours)
        await ours.readline()
        await ours.seek(0)
        await ours.write("other\n")
        assert await ours.readlines() == expected
        assert await ours.tell() == end
    assert path.read_text() == expected_content
