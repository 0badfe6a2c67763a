"""Files that are opened, read, written and cancelled many times leave nothing behind."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
from parity.harness.awaited import chill
from parity.harness.turns import turns
from parity.harness.types import Loop

from .test_growth import assert_no_growth


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with some content."""
    path = tmp_path / "file"
    path.write_bytes(b"line of some length\n" * 5000)
    return path


def test_files_leave_nothing(loop: Loop, path: Path) -> None:
    async def use() -> None:
        for mode in ("rb", "r+b", "r", "r+"):
            async with cloverleaf.open(path, mode) as file:
                await file.read(100)
                await file.readline()
                await file.pread(4096, 100)
                if "+" in mode:
                    await file.seek(0)
                    await file.write(b"line" if "b" in mode else "line")

    def work() -> None:
        for _ in range(50):
            loop.run_until_complete(use())

    assert_no_growth(work, 200)


def test_reads_that_wait_leave_nothing(loop: Loop, path: Path) -> None:
    async def use() -> None:
        async with cloverleaf.open(path, "rb") as file:
            chill(file)
            await asyncio.gather(*(file.read(3000) for _ in range(20)))
            reads = [asyncio.ensure_future(cold(file, 4096, n)) for n in range(20)]
            await asyncio.gather(*reads)

    async def cold(file: Any, size: int, offset: int) -> bytes:
        found: bytes = await asyncio.get_running_loop()._perform(file._reading(size, offset))  # type: ignore[attr-defined]
        return found

    if not isinstance(loop, cloverleaf.EventLoop):
        pytest.skip("asyncio's loop has its executor for this")

    def work() -> None:
        for _ in range(30):
            loop.run_until_complete(use())

    assert_no_growth(work, 1000)


def test_cancelled_operations_leave_nothing(loop: Loop, path: Path) -> None:
    async def use() -> None:
        async with cloverleaf.open(path, "r+b", 0) as file:
            chill(file)
            for count in range(20):
                task = asyncio.ensure_future(file.read(5000) if count % 2 else file.write(b"line"))
                await turns(count % 4)
                task.cancel()
                await asyncio.wait([task])

    if not isinstance(loop, cloverleaf.EventLoop):
        # asyncio's own executor starts one thread more whenever all are busy, which is growth, too.
        loop.set_default_executor(ThreadPoolExecutor(1))

    def work() -> None:
        for _ in range(10):
            loop.run_until_complete(use())

    assert_no_growth(work, 200)


def test_a_file_in_a_cycle_is_collected(loop: Loop, path: Path) -> None:
    async def use() -> Any:
        file = await cloverleaf.open(path, "rb")
        await file.close()
        box: list[Any] = [file]
        box.append(box)
        return None

    def work() -> None:
        for _ in range(100):
            loop.run_until_complete(use())

    assert_no_growth(work, 100)
