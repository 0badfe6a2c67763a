"""A loop and a workload, brought together and measured as often as asked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.suite import processor
from benchmarks.suite.conversation import Conversation, LoopFailedError
from benchmarks.suite.loops import FLOOR
from benchmarks.suite.processor import Cores
from benchmarks.suite.services import Services
from benchmarks.suite.workload import (
    ClientWorkload,
    LoopWorkload,
    ServerWorkload,
    Traffic,
    Workload,
)

#: For how much longer than the window another generator is at work.
AROUND_MS = 50

#: A child is given this long to say that it is ready, and this much beyond its window to answer.
PATIENCE = 60.0


@dataclass(frozen=True)
class Bench:
    """What all sessions share."""

    python: Path
    load: Path
    root: Path
    cores: Cores
    prime: bool
    warmup_ms: int
    services: Services
    #: What the interpreters run under, the words of a command before theirs.
    under: tuple[str, ...] = ()


class Session:
    """One loop at one workload, in its own process. Close it, or use it in a `with` statement."""

    def __init__(self, bench: Bench, loop: str, workload: Workload) -> None:
        self._bench = bench
        self._stack = ExitStack()
        self._driver: Conversation | None = None
        self._beside: Conversation | None = None
        try:
            if isinstance(workload, ServerWorkload):
                self._child = self._serve(loop, workload)
            elif isinstance(workload, ClientWorkload):
                self._child = self._ask_service(loop, workload)
            else:
                self._child = self._work(loop, workload)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        self._stack.close()

    @property
    def pid(self) -> int:
        """The identifier of the loop's process."""
        return self._child.pid

    def measure(self, window_ms: int) -> dict[str, Any]:
        """One measurement; `cpu_ns` is what the loop's process used for the `operations`."""
        if self._driver is None:
            return self._ask(self._child, window_ms)
        before = processor.quiet_cpu_ns(self._child.pid)
        if self._beside is not None:
            # It begins before the window and ends after it.
            self._beside.tell(str(window_ms + AROUND_MS))
        outcome = self._ask(self._driver, window_ms)
        if self._beside is not None:
            outcome["operations"] += answer(self._beside, PATIENCE)["operations"]
        used = processor.quiet_cpu_ns(self._child.pid) - before
        busy = min(1000, used * 1000 // max(1, outcome["wall_ns"]))
        saturated = outcome["generator_saturated"] and busy < 950
        return {
            "cpu_ns": used,
            "server_busy_permille": busy,
            "generator_is_bottleneck": saturated,
            **outcome,
        }

    def _ask(self, whom: Conversation, window_ms: int) -> dict[str, Any]:
        whom.tell(str(window_ms))
        return answer(whom, PATIENCE + window_ms / 1000)

    def _work(self, loop: str, workload: LoopWorkload) -> Conversation:
        cores = self._bench.cores.all if workload.threads else self._bench.cores.loops
        if loop == FLOOR and isinstance(workload.floor, tuple):
            return self._generator([*workload.floor], cores)
        child = self._start(self._python(loop, workload), cores)
        answer(child, PATIENCE)
        return child

    def _ask_service(self, loop: str, workload: ClientWorkload) -> Conversation:
        command = self._python(loop, workload)
        address = self._bench.services.address(workload.service)
        child = self._start([*command, address], self._bench.cores.loops)
        answer(child, PATIENCE)
        return child

    def _serve(self, loop: str, workload: ServerWorkload) -> Conversation:
        if loop == FLOOR:
            command = [str(self._bench.load), "serve", self._where(workload)]
            child = self._start(command, self._bench.cores.loops)
            address = child.hear(PATIENCE)
        else:
            command = [*self._python(loop, workload), self._where(workload)]
            child = self._start(command, self._bench.cores.loops)
            address = str(answer(child, PATIENCE)["address"])
        if workload.traffic.beside is not None:
            # It gives way, so that the other one's latency is not that of waiting for a core.
            self._beside = self._drive(workload.traffic.beside, address, ["nice", "-n", "19"])
        self._driver = self._drive(workload.traffic, address)
        return child

    def _drive(self, traffic: Traffic, address: str, how: Sequence[str] = ()) -> Conversation:
        return self._generator(traffic.arguments(address), self._bench.cores.load, how)

    def _generator(
        self, words: list[str], cores: frozenset[int], how: Sequence[str] = ()
    ) -> Conversation:
        """The load generator, ready for its first window."""
        warmup = ["--warmup", str(self._bench.warmup_ms)]
        child = self._start([*how, str(self._bench.load), *words, *warmup], cores)
        greeting = child.hear(PATIENCE)
        if greeting != "ready":
            raise LoopFailedError(f"the load generator said {greeting!r}")
        return child

    def _where(self, workload: ServerWorkload) -> str:
        """Where to listen, in the load generator's words; the socket's directory goes with us."""
        if workload.transport == "tcp":
            return "tcp:127.0.0.1:0"
        directory = tempfile.TemporaryDirectory(prefix="cloverleaf-bench-")
        return f"unix:{self._stack.enter_context(directory)}/socket"

    def _python(self, loop: str, workload: Workload) -> list[str]:
        prime = "prime" if self._bench.prime else "no-prime"
        module = ["-m", "benchmarks.suite.child"]
        python = [*self._bench.under, str(self._bench.python)]
        return [*python, *module, loop, workload.name, prime]

    def _start(self, command: list[str], cores: frozenset[int]) -> Conversation:
        child = Conversation(command, cores, self._bench.root)
        return self._stack.enter_context(child)


def answer(child: Conversation, seconds: float) -> dict[str, Any]:
    """The child's next line as JSON. Raises LoopFailedError when it tells of an error."""
    message: dict[str, Any] = json.loads(child.hear(seconds))
    if "error" in message:
        raise LoopFailedError(message["error"], unsupported=bool(message.get("unsupported")))
    return message
