"""The loop itself: imported, made and closed as `asyncio.run` does each time, and at rest."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Run


def make_and_close(_: asyncio.AbstractEventLoop, factory: LoopFactory) -> Run:
    """Makes a loop and closes it without running it."""

    def run(times: int) -> None:
        for _ in range(times):
            factory().close()

    return run


def make_run_close(_: asyncio.AbstractEventLoop, factory: LoopFactory) -> Run:
    """Runs one callback in between."""

    def run(times: int) -> None:
        for _ in range(times):
            loop = factory()
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.close()

    return run


def import_it(_: asyncio.AbstractEventLoop, factory: LoopFactory) -> Run:
    """Starts an interpreter that imports the loop's package and ends."""
    module = factory.__module__.partition(".")[0]

    def run(times: int) -> None:
        for _ in range(times):
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    return run


CONNECTIONS = 1000
REST = 0.01


def rest(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """Keeps connections that say nothing, with a loop that sleeps until a timer ends the run."""
    peers = []

    async def connect() -> None:
        for _ in range(CONNECTIONS):
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            peers.append((await loop.create_connection(asyncio.Protocol, sock=ours), peer))

    loop.run_until_complete(connect())

    def run(times: int) -> None:
        loop.call_later(times * REST, loop.stop)
        loop.run_forever()

    return run


WORKLOADS = (
    LoopWorkload("loop-create-close", "A loop made and closed", "loop", make_and_close),
    LoopWorkload("loop-run-once", "A loop made, run for one turn, closed", "loop", make_run_close),
    LoopWorkload("import", "The package imported", "interpreter", import_it, children=True),
    LoopWorkload("idle-1000", "10 ms at rest with 1,000 connections", "10 ms", rest, batch=10),
)
