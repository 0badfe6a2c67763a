"""One package at one workload, in a process of its own; prints a line of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
import time
from typing import Any

from benchmarks.files.packages import READERS, copy, whole

PIECE = 4096


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def random_reads(package: str, path: str, tasks: int, count: int) -> int:
    pieces = os.path.getsize(path) // PIECE  # noqa: ASYNC240, PTH202

    async def read_many(seed: int) -> None:
        chance = random.Random(seed)
        offsets = [chance.randrange(pieces) * PIECE for _ in range(count // tasks)]
        read, close = await READERS[package](path)
        for offset in offsets:
            data = await read(PIECE, offset)
            if len(data) != PIECE:
                raise AssertionError(f"{package} read {len(data)} bytes")
        await close()

    await asyncio.gather(*(read_many(seed) for seed in range(tasks)))
    return count // tasks * tasks


async def measured(work: Any) -> dict[str, float]:
    began, used = time.perf_counter(), processor()
    operations = await work
    return {
        "operations": operations,
        "wall_us": (time.perf_counter() - began) / operations * 1e6,
        "cpu_us": (processor() - used) / operations * 1e6,
    }


async def run(workload: str, package: str, path: str, count: int) -> dict[str, float]:
    kind, _, tasks = workload.rpartition("-")
    if kind in ("hot", "cold"):
        await random_reads(package, path, int(tasks), int(tasks))
        if kind == "cold":
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
        return await measured(random_reads(package, path, int(tasks), count))
    if workload == "whole-1m":

        async def read_whole() -> int:
            for _ in range(count):
                await whole(package, path)
            return count

        await read_whole()
        return await measured(read_whole())

    async def copy_once() -> int:
        await copy(package, path, path + ".copy")
        return 1

    try:
        return await measured(copy_once())
    finally:
        os.unlink(path + ".copy")  # noqa: PTH108


def main() -> None:
    """Run what the command line names: workload, package, path, count."""
    workload, package, path, count = sys.argv[1:]
    work = run(workload, package, path, int(count))
    if package == "cloverleaf":
        import cloverleaf

        result = cloverleaf.run(work)
    else:
        result = asyncio.run(work)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
