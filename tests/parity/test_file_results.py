"""What `pread` gives is held and filled again, and nobody who has a result can tell."""

from __future__ import annotations

import asyncio
import io
import random
import sys
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.awaited import skip_where_reads_wait
from .harness.types import Loop

CONTENT = bytes(range(256)) * 128


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with some content."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


async def test_few_results_are_held_to_be_filled_again(loop: Loop, path: Path) -> None:
    skip_where_reads_wait(path)  # what a thread brings its future has as well until the next turn
    # Looked at in the same way always: what a look itself owns differs between versions.
    alone = [bytes(bytearray(5000))]
    count = sys.getrefcount(alone[0])
    async with cloverleaf.open(path, "rb", 0) as file:
        kept = [await file.pread(5000, offset) for offset in range(200)]
        held = [sys.getrefcount(kept[index]) - count for index in range(200)]
        assert set(held) <= {0, 1}
        assert sum(held) <= 4
        # Large ones, and those of which there is less than was asked for, are nobody else's.
        for size, offset in ((len(CONTENT) + 100, 0), (5000, len(CONTENT) - 4000), (0x5000, 0)):
            for _ in range(20):
                alone = [await file.pread(size, offset)]
                seen = sys.getrefcount(alone[0])
                assert seen == count
                assert alone[0] == CONTENT[offset : offset + size]


@pytest.mark.parametrize("size", [999, 1000, 4096, 5000, 16384])
async def test_what_somebody_has_is_never_filled_again(
    loop: Loop, tmp_path: Path, size: int
) -> None:
    """Results go and stay in any order, and each has its content, its hash and its length."""
    path = tmp_path / "pieces"
    content = bytes(random.Random(size).randbytes(64 * 1024))
    path.write_bytes(content)
    chance = random.Random(size + 1)
    kept: dict[int, Any] = {}
    seen: dict[bytes, int] = {}
    async with cloverleaf.open(path, "rb", 0) as file:
        for number in range(600):
            offset = chance.randrange(len(content) - size + 200)
            data = await file.pread(size, offset)
            expected = content[offset : offset + size]
            assert data == expected
            assert len(data) == len(expected)
            assert hash(data) == hash(bytes(bytearray(expected)))
            seen[expected] = number
            assert seen[data] == number
            match chance.randrange(4):
                case 0:
                    kept[offset] = data
                case 1:
                    kept[offset] = memoryview(data)
                case 2:
                    kept[offset] = io.BytesIO(data)
                case _:
                    pass
            if len(kept) > 8:
                kept.pop(chance.choice(list(kept)))
            del data
            for start, one in kept.items():
                what = one.getvalue() if isinstance(one, io.BytesIO) else bytes(one)
                assert what == content[start : start + size]


async def test_what_is_read_may_be_written_by_a_thread_meanwhile(
    loop: Loop, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    content = random.Random(5).randbytes(64 * 4096)
    source.write_bytes(content)
    async with cloverleaf.open(source, "rb", 0) as file, cloverleaf.open(target, "wb", 0) as to:

        async def copy(offset: int) -> None:
            assert await to.pwrite(await file.pread(4096, offset), offset) == 4096

        await asyncio.gather(*(copy(offset) for offset in range(0, len(content), 4096)))
    assert target.read_bytes() == content
