"""One loop at work in a process of its own, told what to do over its standard streams.

`python -m benchmarks.suite.child LOOP WORKLOAD prime|no-prime [ADDRESS]` answers in JSON lines:

- for a server, first `{"address": ...}`; then it serves until it is killed;
- for work inside the loop, or for a client of the server at ADDRESS, first `{"ready": true}`; then
  each line of input, a number of
  milliseconds, is answered with what that much work came to;
- `{"error": ..., "unsupported": ...}` when the loop cannot do it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.suite import loops
from benchmarks.suite.workload import Ask, ClientWorkload, LoopWorkload, Run, ServerWorkload
from benchmarks.workloads import registry

PRIME_BYTES = 4 * 1024 * 1024
PR_SET_PDEATHSIG = 1
BACKLOG = 1024

#: The number of operations is settled when they take at least this long.
CALIBRATION_NS = 20_000_000

#: For how long a client asks before it is measured: the first questions are dearer than all others.
WARM_UP_NS = 100_000_000

#: What is told of latencies, in per mille.
QUANTILES = (("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999))


def say(**message: object) -> None:
    """Answers the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def prime() -> None:
    """Allocates and frees one large block, so that glibc maps blocks of that size no more.

    Without this, a loop that reads into large blocks pays for mapping and unmapping each of them
    until the process frees a large block for another reason, and the comparison is between
    allocators.
    """
    block = bytearray(PRIME_BYTES)
    del block


def listener(where: str) -> tuple[socket.socket, str]:
    """A listening socket, and its address, both in the load generator's words."""
    kind, _, place = where.partition(":")
    if kind == "unix":
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(place)
        address = where
    else:
        host, _, port = place.rpartition(":")
        listening = socket.create_server((host, int(port)))
        address = "tcp:{}:{}".format(*listening.getsockname())
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening, address


def give_up(task: asyncio.Future[Any]) -> None:
    """Ends the process when a server that should run for ever has ended."""
    error = None if task.cancelled() else task.exception()
    sys.stderr.write(f"the server ended: {error!r}\n")
    sys.stderr.flush()
    os._exit(1)


def serve(loop: asyncio.AbstractEventLoop, workload: ServerWorkload, where: str) -> None:
    """Serves until the parent kills us."""
    listening, address = listener(where)
    server = loop.run_until_complete(workload.serve(loop, listening))
    if isinstance(server, asyncio.Future):
        server.add_done_callback(give_up)
    say(address=address)
    loop.run_forever()


def calibrate(run: Run, batch: int) -> int:
    """How many operations fill `CALIBRATION_NS`, at least one batch."""
    times = batch
    while True:
        begin = time.perf_counter_ns()
        run(times)
        taken = time.perf_counter_ns() - begin
        if taken >= CALIBRATION_NS:
            return max(batch, times * CALIBRATION_NS // taken // batch * batch)
        times *= 2 if taken > CALIBRATION_NS // 8 else 4


def children_ns() -> int:
    """The CPU time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def measure(run: Run, times: int, clock: Callable[[], int]) -> dict[str, int]:
    """Does that many operations, and says what they took."""
    gc.collect()
    wall, cpu = time.perf_counter_ns(), clock()
    run(times)
    cpu, wall = clock() - cpu, time.perf_counter_ns() - wall
    return {"operations": times, "cpu_ns": cpu, "wall_ns": wall}


def work(loop: asyncio.AbstractEventLoop, factory: Any, workload: LoopWorkload) -> None:
    """Measures for as long as the parent asks."""
    run = workload.prepare(loop, factory)
    clock = children_ns if workload.children else time.process_time_ns
    portion = calibrate(run, workload.batch)
    say(ready=True)
    for line in sys.stdin:
        window_ns = int(line) * 1_000_000
        portions = max(1, window_ns // CALIBRATION_NS)
        say(**measure(run, portion * portions, clock))


class Client:
    """Connections to a server, each of which asks again as soon as it has its answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, asks: list[Ask]) -> None:
        self._loop = loop
        self._asks = asks
        self._latencies: list[int] = []

    def run(self, window_ns: int) -> int:
        """Asks for that long, at least once on each connection; how many answers there were."""
        self._latencies.clear()
        self._loop.run_until_complete(self._all(time.perf_counter_ns() + window_ns))
        return len(self._latencies)

    def latency(self) -> dict[str, int]:
        """How long the answers of the last run took, by quantile."""
        ordered = sorted(self._latencies)
        return {name: ordered[len(ordered) * permille // 1000] for name, permille in QUANTILES}

    async def _all(self, end: int) -> None:
        await asyncio.gather(*(self._keep_asking(ask, end) for ask in self._asks))

    async def _keep_asking(self, ask: Ask, end: int) -> None:
        note, now = self._latencies.append, 0
        while now < end:
            begin = time.perf_counter_ns()
            await ask()
            now = time.perf_counter_ns()
            note(now - begin)


def be_client(loop: asyncio.AbstractEventLoop, workload: ClientWorkload, address: str) -> None:
    """Measures for as long as the parent asks."""

    async def connect() -> list[Ask]:
        return [await workload.connect(address) for _ in range(workload.connections)]

    client = Client(loop, loop.run_until_complete(connect()))
    client.run(WARM_UP_NS)
    say(ready=True)
    for line in sys.stdin:
        gc.collect()
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        answers = client.run(int(line) * 1_000_000)
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        say(operations=answers, cpu_ns=cpu, wall_ns=wall, latency_ns=client.latency())


def main(arguments: list[str]) -> None:
    """Does what the module's docstring says."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    name, workload_name, priming, *where = arguments
    if priming == "prime":
        prime()
    workload = registry.by_name(workload_name)
    try:
        loop, factory = loops.make(name)
        if isinstance(workload, ServerWorkload):
            serve(loop, workload, *where)
        elif isinstance(workload, ClientWorkload):
            be_client(loop, workload, *where)
        else:
            work(loop, factory, workload)
    except Exception as error:
        lacking = isinstance(error, NotImplementedError | AttributeError | ImportError)
        say(error=f"{type(error).__name__}: {error}".removesuffix(": "), unsupported=lacking)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    # A loop that could not do its work may not be able to end in good order either.
    os._exit(0)
