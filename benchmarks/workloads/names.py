"""Name look-ups that need no name server."""

from __future__ import annotations

import asyncio
import socket

from benchmarks.suite.workload import LoopWorkload
from benchmarks.workloads.coroutines import driven


async def numeric(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Looks up an address that is one already."""
    for _ in range(times):
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)


WORKLOADS = (
    LoopWorkload(
        "getaddrinfo-numeric",
        "getaddrinfo of 127.0.0.1",
        "look-up",
        driven(numeric),
        threads=True,
    ),
)
