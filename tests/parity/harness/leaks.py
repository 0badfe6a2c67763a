"""Counts what a test may not leave behind: descriptors, threads, children, settings."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SETTLE_SECONDS = 60.0


def descriptors() -> dict[int, str]:
    """Return the open descriptors and what they lead to."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            found[int(link.name)] = str(link.readlink())
        except FileNotFoundError:
            continue  # the listing's own descriptor
    return found


def tasks() -> frozenset[int]:
    """Return the kernel's ids of all of this process's threads, native ones included."""
    return frozenset(int(entry.name) for entry in Path("/proc/self/task").iterdir())


def guards() -> frozenset[int]:
    """Return those that look after what loops hold: one at most, which stays for the next loop."""
    found: set[int] = set()
    for thread in tasks():
        try:
            name = Path(f"/proc/self/task/{thread}/comm").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name.strip() == "cloverleaf-guar":  # the kernel keeps 15 letters
            found.add(thread)
    return frozenset(found)


def threads() -> frozenset[int]:
    """Return those that end with what has started them."""
    return tasks() - guards()


def children() -> frozenset[int]:
    """Return the children that run or wait to be reaped."""
    found: set[int] = set()
    for thread in tasks():
        try:
            listing = Path(f"/proc/self/task/{thread}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.update(map(int, listing.split()))
    return frozenset(found)


def wakeup_descriptor() -> int:
    """Return the process's signal wakeup descriptor without changing it."""
    now = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(now, warn_on_full_buffer=False)
    return now


@dataclass(frozen=True)
class Resources:
    """What the process holds at one moment."""

    descriptors: dict[int, str]
    threads: frozenset[int]
    children: frozenset[int]
    wakeup: int
    on_interrupt: object
    asyncgen_hooks: object

    @classmethod
    def now(cls) -> Resources:
        """Take a count."""
        return cls(
            descriptors(),
            threads(),
            children(),
            wakeup_descriptor(),
            signal.getsignal(signal.SIGINT),
            tuple(sys.get_asyncgen_hooks()),
        )

    def leaked_until(self, later: Resources) -> list[str]:
        """Say what is there later and was not there now."""
        new = {fd: to for fd, to in later.descriptors.items() if self.descriptors.get(fd) != to}
        found = [f"descriptor {fd} -> {to}" for fd, to in new.items()]
        found += [f"thread {tid}" for tid in later.threads - self.threads]
        found += [f"child process {pid}" for pid in later.children - self.children]
        if later.wakeup != self.wakeup:
            found.append(f"signal wakeup descriptor {later.wakeup}, was {self.wakeup}")
        if later.on_interrupt is not self.on_interrupt:
            found.append(f"SIGINT handler {later.on_interrupt!r}")
        if later.asyncgen_hooks != self.asyncgen_hooks:
            found.append(f"asyncgen hooks {later.asyncgen_hooks!r}")
        if asyncio._get_running_loop() is not None:
            found.append(f"a running loop, {asyncio._get_running_loop()!r}")
        return found


def leaks_since(before: Resources) -> list[str]:
    """Collect garbage, let ending threads end, and say what has been left behind."""
    end = time.monotonic() + SETTLE_SECONDS
    pause = threading.Event()
    while True:
        gc.collect()  # each time: a thread that ends may leave garbage, too
        leaks = before.leaked_until(Resources.now())
        if not leaks or time.monotonic() > end:
            return leaks
        pause.wait(0.005)  # nothing tells when the kernel has let go of a thread
