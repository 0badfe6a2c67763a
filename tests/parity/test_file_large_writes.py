"""What goes past the buffer of a file that is only written comes to lie where `open` puts it."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import cloverleaf

from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files

CALLS = 40
SIZES = [0, 1, 100, 4096, 4097, 5000, 9000, 70_000]


class Eager:
    """Stands before a file's native half, and takes of a write at once what it happens to take."""

    def __init__(self, native: Any, chance: random.Random) -> None:
        self._native = native
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def _try_write(self, data: bytes, start: int, offset: int) -> int:
        most = self._chance.choice([0, 1, 4096, 5000, len(data)])
        return os.pwrite(self._native._fileno(), data[start : start + most], offset) if most else 0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("is_eager", [False, True])
async def test_writes_of_all_sizes_lie_where_open_puts_them(
    loop: Loop, tmp_path: Path, seed: int, *, is_eager: bool
) -> None:
    chance = random.Random(seed)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with theirs.open("wb", 4096) as model:
        async with cloverleaf.open(ours, "wb", 4096) as file:
            if is_eager:
                raw: Any = file._raw
                raw.native = Eager(raw.native, chance)
            for _ in range(CALLS):
                file._raw.writes_at_once = is_eager
                await _step(chance, file, model)
                assert await file.tell() == model.tell()
                # The end of what was taken in part waits in the buffer, as it would with `open`.
                assert is_eager or ours.read_bytes() == theirs.read_bytes()
    assert ours.read_bytes() == theirs.read_bytes()


async def _step(chance: random.Random, file: Any, model: BinaryIO) -> None:
    """Make one call on both."""
    data = bytes([chance.randrange(256)]) * chance.choice(SIZES)
    match chance.randrange(8):
        case 0:
            place = chance.randrange(100_000)
            assert await file.seek(place) == model.seek(place)
        case 1:
            await file.flush()
            model.flush()
        case 2:
            size = chance.randrange(100_000)
            assert await file.truncate(size) == model.truncate(size)
        case 3:
            await file.writelines([data, b"line\n", data])
            model.writelines([data, b"line\n", data])
        case _:
            assert await file.write(data) == model.write(data)
