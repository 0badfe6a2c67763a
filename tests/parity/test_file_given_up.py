"""Reads that are given up in any state of a file of bytes have not moved it, and lose nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import chill
from .harness.turns import turns
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files

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


@pytest.mark.parametrize("buffering", [2, 16, 4096, 200_000])
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


async def _step(file: Any, chance: random.Random, model: bytearray, at: int) -> int:
    """Make one call, and its like on the model; return where both are then."""
    kind = chance.choice(["write", "read", "readline", "readinto", "seek"])
    size = chance.choice(SIZES)
    if kind == "seek":
        return int(await file.seek(chance.randrange(len(model) + 50)))
    if kind == "write":
        data = bytes([chance.randrange(256)]) * size
        done = await _given_up(chance, file.write(data))
        if done is None:
            # Nobody knows whether it happened, but all of it did, or nothing.
            done = await file.tell() - at
            assert done in {0, size}
        if done:
            model.extend(bytes(max(at - len(model), 0)))
            model[at : at + done] = data[:done]
        return at + int(done)
    room = bytearray(size)
    calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "read": lambda: file.read(size),
        "readline": lambda: file.readline(size),
        "readinto": lambda: file.readinto(room),
    }
    found = await _given_up(chance, calls[kind]())
    if found is None:
        return at
    if kind == "readinto":
        found = bytes(room[:found])
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
