#!/usr/bin/env python3
"""Measures how evenly workers share connections: `python3 benchmarks/balance.py --help` says how.

Worker processes serve on one loop each, over one inherited listener, or each over its own with
`SO_REUSEPORT`. Connections come one at a time, in waves, or while half of the workers are busy, and
stay open, so who accepted one has its requests, too. A worker says its number at once and spends as
much on that as a small request does. The figure is the largest share over the fair one, `1.00` if
all have the same; next to it is how long the slowest hundredth of the connections waited.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import selectors
import signal
import socket
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.suite import loops

ARRIVALS = ("one at a time", "waves of 16", "waves of 128", "half of them busy")
LISTENERS = ("inherited", "SO_REUSEPORT")
CONNECTIONS = 512
BACKLOG = 2048
#: What a connection costs besides the loop, and for how long a busy worker's callbacks last.
REQUEST_SECONDS = 50e-6
BUSY_SECONDS = 5e-3


def spend(seconds: float) -> None:
    """Runs Python for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class Number(asyncio.Protocol):
    """Says the worker's number."""

    def __init__(self, number: int) -> None:
        self._number = bytes([number])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Spends what a request does, and answers."""
        spend(REQUEST_SECONDS)
        cast("asyncio.Transport", transport).write(self._number)


def listen(port: int) -> socket.socket:
    """A listener that others may share by `SO_REUSEPORT`."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(BACKLOG)
    return sock


def serve(name: str, number: int, sock: socket.socket, ready: int, is_busy: bool) -> None:
    """Serves on a loop of that name for ever; a busy one blocks half of the time."""
    loop, _ = loops.make(name)

    def block() -> None:
        spend(BUSY_SECONDS)
        loop.call_later(BUSY_SECONDS, block)

    async def start() -> asyncio.Server:
        server = await loop.create_server(lambda: Number(number), sock=sock, backlog=BACKLOG)
        os.write(ready, b".")
        return server

    serving = loop.run_until_complete(start())
    if is_busy:
        loop.call_soon(block)
    loop.run_forever()
    del serving


def arrive(address: tuple[str, int], count: int, at_once: int) -> tuple[list[int], list[float]]:
    """Connects so many times; who answered each, and after how many seconds."""
    numbers, seconds = [], []
    with contextlib.ExitStack() as kept, selectors.DefaultSelector() as selector:
        for _ in range(count // at_once):
            for _ in range(at_once):
                sock = kept.enter_context(socket.socket())
                sock.setblocking(False)
                begun = time.perf_counter()
                sock.connect_ex(address)
                selector.register(sock, selectors.EVENT_READ, begun)
            waiting = at_once
            while waiting:
                for key, _ in selector.select():
                    assert isinstance(key.fileobj, socket.socket)
                    numbers.append(key.fileobj.recv(1)[0])
                    seconds.append(time.perf_counter() - key.data)
                    selector.unregister(key.fileobj)
                    waiting -= 1
    return numbers, seconds


def measure(name: str, workers: int, listener: str, arrival: str) -> tuple[float, float]:
    """The largest share over the fair one, and the 99th percentile of the waits in milliseconds."""
    shared = listen(0)
    address = shared.getsockname()
    reading, writing = os.pipe()
    children = []
    for number in range(workers):
        own = listen(address[1]) if listener == "SO_REUSEPORT" else shared
        child = os.fork()
        if not child:
            try:
                os.close(reading)
                if own is not shared:
                    shared.close()
                is_busy = "busy" in arrival and number < workers // 2
                serve(name, number, own, writing, is_busy)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        children.append(child)
        if own is not shared:
            own.close()
    # Nobody would accept what the kernel gives to this one.
    shared.close()
    # So that its end is seen if no worker has it any more.
    os.close(writing)
    try:
        for _ in range(workers):
            if not os.read(reading, 1):
                raise SystemExit(f"the workers on {name} have ended before they served")
        at_once = int(arrival.split()[-1]) if "waves" in arrival else 1
        numbers, seconds = arrive(address, CONNECTIONS, at_once)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(reading)
    largest = max(collections.Counter(numbers).values()) / len(numbers)
    return largest * workers, statistics.quantiles(seconds, n=100)[-1] * 1e3


def main() -> int:
    """Measures each loop in turn, some rounds, and prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", default="asyncio,uvloop,rloop,cloverleaf")
    parser.add_argument("--workers", default="2,4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print every single measurement")
    options = parser.parse_args()
    names = options.loops.split(",")
    cases = [
        (int(workers), listener, arrival)
        for workers in options.workers.split(",")
        for listener in LISTENERS
        for arrival in ARRIVALS
    ]
    found: dict[tuple[int, str, str], dict[str, list[tuple[float, float]]]] = {}
    for case in cases:
        found[case] = {name: [] for name in names}
        for turn in range(options.rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                found[case][name].append(measure(name, *case))
    if options.json:
        print(json.dumps({", ".join(map(str, case)): rows for case, rows in found.items()}))
        return 0
    print("| workers | listener | arrival | " + " | ".join(names) + " |")
    print("| ---: | --- | --- |" + " ---: |" * len(names))
    for case, rows in found.items():
        cells = []
        for name in names:
            shares, waits = zip(*rows[name], strict=True)
            cells.append(f"{statistics.median(shares):.2f} ({statistics.median(waits):.1f} ms)")
        print("| " + " | ".join([*map(str, case), *cells]) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
