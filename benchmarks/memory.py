#!/usr/bin/env python3
"""Measures the memory of idle connections: `python3 benchmarks/memory.py --help` says how.

Each measurement has a process of its own, which serves on one loop. Connections that have each had
one message echoed say nothing more, and the figure is what the process's resident memory has grown
by, divided by their number. Connections that were there before, and are gone, have brought in what
a loop needs once. The kernel's own memory for sockets is not in it: it is the same for all loops.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.suite import loops
from benchmarks.workloads import echo, streams

KINDS = {"protocol": echo.serving(echo.Echo), "streams": streams.serving(streams.by_lines)}
MESSAGE = b"x" * 63 + b"\n"
WARM = 64
PAGE = resource.getpagesize()


def resident() -> int:
    """The bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def serve(name: str, kind: str) -> None:
    """Serves, and tells the resident memory whenever a line comes."""
    loop, _ = loops.make(name)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    serving = loop.run_until_complete(KINDS[kind](loop, listener))
    print(port, flush=True)

    def tell() -> None:
        if not os.read(0, 1):
            loop.stop()
            return
        print(resident(), flush=True)

    loop.add_reader(0, tell)
    loop.run_forever()
    del serving  # which kept the server


def connect(port: int, count: int) -> list[socket.socket]:
    """That many connections, each of which has had a message echoed."""
    connections = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connections.append(connection)
        connection.sendall(MESSAGE)
        if connection.recv(len(MESSAGE), socket.MSG_WAITALL) != MESSAGE:
            raise RuntimeError("a message came back wrong")
    return connections


def measure(python: str, name: str, kind: str, count: int) -> float:
    """The bytes of resident memory per connection."""
    command = [python, __file__, "--serve", name, kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        asks, answers = server.stdin, server.stdout
        assert asks is not None
        assert answers is not None
        port = int(answers.readline())
        for connection in connect(port, WARM):
            connection.close()
        asks.write(".")
        asks.flush()
        before = int(answers.readline())
        connections = connect(port, count)
        asks.write(".")
        asks.flush()
        after = int(answers.readline())
        server.kill()  # the end of so many connections is not measured
        for connection in connections:
            connection.close()
    return (after - before) / count


def main() -> int:
    """Measures each loop in turn, some rounds, and prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--python", default=sys.executable, help="the Python with the loops")
    parser.add_argument("--loops", default="asyncio,uvloop,rloop,cloverleaf")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print every single measurement")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = options.connections + 256
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    if options.serve is not None:
        serve(*options.serve)
        return 0

    names = options.loops.split(",")
    found: dict[str, dict[str, list[float]]] = {
        kind: {name: [] for name in names} for kind in KINDS
    }
    for kind in KINDS:
        for turn in range(options.rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                bytes_each = measure(options.python, name, kind, options.connections)
                found[kind][name].append(bytes_each)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"Bytes of memory per idle connection, {options.connections} connections, median")
    print("| | " + " | ".join(names) + " |")
    print("| --- " * (len(names) + 1) + "|")
    for kind, rows in found.items():
        cells = (f"{statistics.median(rows[name]):.0f}" for name in names)
        print(f"| {kind} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
