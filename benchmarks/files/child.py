"""One package at one workload, in a process of its own; prints a line of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from benchmarks.files.packages import (
    DIRECT_READERS,
    OFFSET_FIRST,
    READERS,
    copy,
    stream,
    whole,
)

PIECE = 4096

#: Workloads that copy by reads of this size, and writes.
STREAMED = {"stream-64k": 64 * 1024, "stream-1m": 1024 * 1024}

#: What is no package, and needs none.
WITHOUT_MODULE = {"plain", "executor"}

#: What is measured, and what ends it.
Work = tuple[Callable[[], Awaitable[int]], Callable[[], Awaitable[None]]]


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def read_many(package: str, read: Any, offsets: list[int]) -> None:
    for offset in offsets:
        data = await read(PIECE, offset)
        if len(data) != PIECE:
            raise AssertionError(f"{package} read {len(data)} bytes")


async def read_many_at(package: str, read: Any, offsets: list[int]) -> None:
    for offset in offsets:
        data = await read(offset, PIECE)
        if len(data) != PIECE:
            raise AssertionError(f"{package} read {len(data)} bytes")


async def random_reads(kind: str, package: str, path: str, tasks: int, count: int) -> Work:
    """Open a file for each task and choose its pieces; return what reads them."""
    pieces = os.path.getsize(path) // PIECE  # noqa: ASYNC240, PTH202
    open_reader = (DIRECT_READERS if kind == "direct" else READERS)[package]
    readers = [await open_reader(path) for _ in range(tasks)]
    chosen = []
    for seed in range(tasks):
        chance = random.Random(seed)
        chosen.append([chance.randrange(pieces) * PIECE for _ in range(count // tasks)])

    async def work() -> int:
        each = read_many_at if package in OFFSET_FIRST else read_many
        pairs = zip(readers, chosen, strict=True)
        await asyncio.gather(*(each(package, read, offsets) for (read, _), offsets in pairs))
        return count // tasks * tasks

    async def close() -> None:
        for _, close_reader in readers:
            await close_reader()

    return work, close


async def measured(work: Callable[[], Awaitable[int]]) -> dict[str, float]:
    began, used = time.perf_counter(), processor()
    operations = await work()
    return {
        "operations": operations,
        "wall_us": (time.perf_counter() - began) / operations * 1e6,
        "cpu_us": (processor() - used) / operations * 1e6,
    }


async def run(workload: str, package: str, path: str, count: int) -> dict[str, float]:
    kind, _, tasks = workload.rpartition("-")
    if kind in ("hot", "cold", "direct"):
        work, close = await random_reads(kind, package, path, int(tasks), int(tasks))
        await work()
        await close()
        if kind == "cold":
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
        work, close = await random_reads(kind, package, path, int(tasks), count)
        result = await measured(work)
        await close()
        return result
    if workload == "whole-1m":

        async def read_whole() -> int:
            for _ in range(count):
                await whole(package, path)
            return count

        await read_whole()
        return await measured(read_whole)

    async def copy_once() -> int:
        if workload in STREAMED:
            await stream(package, path, path + ".copy", STREAMED[workload])
        else:
            await copy(package, path, path + ".copy")
        return 1

    try:
        return await measured(copy_once)
    finally:
        with suppress(FileNotFoundError):  # what has failed may not have made it
            os.unlink(path + ".copy")  # noqa: PTH108


def main() -> None:
    """Run what the command line names: workload, package, path, count."""
    workload, package, path, count = sys.argv[1:]
    # What a program imports once is none of what a copy takes; `shutil` is there already.
    if package not in WITHOUT_MODULE:
        try:
            import_module("cloverleaf.files" if package.startswith("cloverleaf") else package)
        except ModuleNotFoundError as error:
            sys.exit("not installed" if error.name == package else str(error))
    work = run(workload, package, path, int(count))
    if package.startswith("cloverleaf"):
        import cloverleaf

        result = cloverleaf.run(work)
    else:
        result = asyncio.run(work)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
