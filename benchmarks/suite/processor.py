"""Cores and CPU clocks: where processes run, and what they have used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Pinning = Literal["split", "same", "none"]

#: A server that has nothing to do uses less than this between two looks.
QUIET_NS = 2_000
LOOK_SECONDS = 0.002
LOOKS = 250


@dataclass(frozen=True)
class Cores:
    """Which cores the loops run on, which the load, and which both together."""

    loops: frozenset[int]
    load: frozenset[int]
    all: frozenset[int]


def choose(pinning: Pinning) -> Cores:
    """The first core that we may use for the load, one that is not its sibling for the loops."""
    allowed = frozenset(os.sched_getaffinity(0))
    if pinning == "none":
        return Cores(allowed, allowed, allowed)
    load = min(allowed)
    others = sorted(allowed - siblings(load)) or sorted(allowed - {load})
    if pinning == "same" or not others:
        return Cores(frozenset({load}), frozenset({load}), allowed)
    return Cores(frozenset({others[-1]}), frozenset({load}), allowed)


def siblings(core: int) -> frozenset[int]:
    """The hardware threads that share a core with this one, itself among them."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        text = path.read_text()
    except OSError:
        return frozenset({core})
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


@contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """What is started inside runs on these cores, from its first instruction."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_ns(pid: int) -> int:
    """The CPU time of another process, user and kernel, over all threads that it ever had.

    The number of a process's clock is made as clock_getcpuclockid(3) makes it on Linux.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


def quiet_cpu_ns(pid: int) -> int:
    """The same once the process has nothing left to do, or has not come to rest for long."""
    before = cpu_ns(pid)
    for _ in range(LOOKS):
        time.sleep(LOOK_SECONDS)
        now = cpu_ns(pid)
        if now - before < QUIET_NS:
            return now
        before = now
    return before
