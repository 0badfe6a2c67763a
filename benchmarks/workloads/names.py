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


async def localhost(loop: asyncio.AbstractEventLoop, times: int) -> None:
    """Looks up a name that the system knows by itself."""
    for _ in range(times):
        await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


WORKLOADS = (
    LoopWorkload(
        "getaddrinfo-numeric",
        "getaddrinfo of 127.0.0.1",
        "look-up",
        driven(numeric),
        threads=True,
    ),
    LoopWorkload(
        "getaddrinfo-localhost",
        "getaddrinfo of localhost",
        "look-up",
        driven(localhost),
        threads=True,
    ),
)
