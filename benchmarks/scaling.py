#!/usr/bin/env python3
"""Measures what several loops do at once: `python3 benchmarks/scaling.py --help` says how.

Each worker of `cloverleaf.run_workers` echoes messages over connections of its own, both ends on
its loop, for as long as the others do. Nothing is shared but the interpreter, and the memory and
the kernel of the machine. The table has the messages of all workers in a second, and the CPU time
of one, which grows if loops stand in each other's way. Without the GIL, run it with `PYTHON_GIL=0`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Literal, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cloverleaf

Kind = Literal["threads", "processes"]

MESSAGE = b"x" * 64
CONNECTIONS = 16


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answers."""
        self._transport.write(data)


class Count(Echo):
    """Counts the answers, and asks again."""

    messages = 0

    def data_received(self, data: bytes) -> None:
        """Counts one."""
        self.messages += 1
        super().data_received(data)


async def converse(seconds: float) -> tuple[int, float, float]:
    """How many messages came back in so many seconds, in how many exactly, by how much CPU time."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    made = [await loop.create_connection(Count, *address) for _ in range(CONNECTIONS)]
    for transport, _ in made:
        transport.write(MESSAGE)
    # Whoever starts later is not measured alone.
    await asyncio.sleep(seconds / 4)
    begun, cpu = time.perf_counter(), time.thread_time()
    before = sum(count.messages for _, count in made)
    await asyncio.sleep(seconds)
    messages = sum(count.messages for _, count in made) - before
    took = time.perf_counter() - begun, time.thread_time() - cpu
    await asyncio.sleep(seconds / 4)
    for transport, _ in made:
        transport.abort()
    server.close()
    return messages, *took


def measure(kind: Kind, workers: int, seconds: float) -> tuple[float, float]:
    """The messages of all workers in a second, and the microseconds of CPU time of one."""

    async def main(_: cloverleaf.Worker) -> tuple[int, float, float]:
        return await converse(seconds)

    # Pinned, because a busy kernel may leave both on one core for as long as this lasts.
    found = cloverleaf.run_workers(main, workers, kind=kind, pin=True)
    rate = sum(messages / took for messages, took, _ in found)
    return rate, sum(cpu for *_, cpu in found) / sum(messages for messages, *_ in found) * 1e6


def main() -> int:
    """Measures each number of workers in turn, some rounds, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cpus = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", default=f"1,{cpus}", help="numbers of workers")
    parser.add_argument("--kinds", default="threads,processes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    cases = [
        (cast("Kind", kind), int(count))
        for kind in options.kinds.split(",")
        for count in options.workers.split(",")
    ]
    found: dict[tuple[Kind, int], list[tuple[float, float]]] = {case: [] for case in cases}
    for turn in range(options.rounds):
        first = turn % len(cases)
        for case in cases[first:] + cases[:first]:
            found[case].append(measure(*case, options.seconds))
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, {'with' if has_gil else 'without'} the GIL")
    print("| kind | loops | thousand messages a second | best round | µs of CPU time for one |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for (kind, count), rows in found.items():
        rates, cpu_times = zip(*rows, strict=True)
        rate, best = statistics.median(rates) / 1e3, max(rates) / 1e3
        spread = best / rate - min(rates) / 1e3 / rate
        cpu = statistics.median(cpu_times)
        print(f"| {kind} | {count} | {rate:.0f} ({spread:.0%}) | {best:.0f} | {cpu:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
