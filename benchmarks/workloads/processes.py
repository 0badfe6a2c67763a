"""Children: spawned and waited for, and fed through their pipes."""

from __future__ import annotations

import asyncio

from benchmarks.suite.workload import LoopWorkload
from benchmarks.workloads.coroutines import driven

#: The child's own work must not count: it does nothing, or copies.
NOTHING = "/bin/true"
COPY = "/bin/cat"
MIB = 1024 * 1024
FED_MIB = 64


async def spawn(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Starts a child that ends at once, and waits for its end."""
    for _ in range(times):
        child = await asyncio.create_subprocess_exec(NOTHING)
        if await child.wait() != 0:
            raise RuntimeError("a child has failed")


async def feed(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Sends `times` MiB to a child that sends them back."""
    data = bytes(MIB) * FED_MIB
    for _ in range(times // FED_MIB):
        child = await asyncio.create_subprocess_exec(
            COPY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate(data)
        if len(out) != len(data):
            raise RuntimeError("a child has lost bytes")


WORKLOADS = (
    LoopWorkload(
        "subprocess-spawn", "A child spawned and awaited", "child", driven(spawn), threads=True
    ),
    LoopWorkload(
        "subprocess-pipes",
        "64 MiB to a child and back by pipes",
        "MiB",
        driven(feed),
        batch=FED_MIB,
        threads=True,
    ),
)
