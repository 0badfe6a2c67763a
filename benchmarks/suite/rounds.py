"""Every loop at every workload, round by round.

Within a workload the loops take turns, and each round begins with another one, so that nothing
that comes and goes on the machine meets the same loop every time.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.suite.conversation import LoopFailedError
from benchmarks.suite.environment import say
from benchmarks.suite.loops import FLOOR
from benchmarks.suite.results import Row
from benchmarks.suite.services import NoServiceError
from benchmarks.suite.session import Bench, Session
from benchmarks.suite.summary import cpu_us, over_rounds
from benchmarks.suite.workload import ClientWorkload, LoopWorkload, ServerWorkload, Workload

#: What a row calls its workload.
KINDS: dict[type, str] = {ServerWorkload: "server", LoopWorkload: "loop", ClientWorkload: "client"}


class Rounds:
    """How often, how long, and whether a process lives for one round or for all."""

    def __init__(self, bench: Bench, rounds: int, window_ms: int, *, keep: bool) -> None:
        self._bench = bench
        self._rounds = rounds
        self._window_ms = window_ms
        self._keep = keep

    def run(self, workload: Workload, loops: list[str]) -> Row:
        """Measures one workload on every loop that can do it."""
        row = Row(workload.name, workload.title, workload.operation, KINDS[type(workload)])
        if isinstance(workload, ClientWorkload):
            try:
                self._bench.services.address(workload.service)
            except NoServiceError as problem:
                row.failures = dict.fromkeys(loops, f"no server: {problem}")
                say(f"{row.name}: not measured, {problem}")
                return row
        elif workload.floor:
            loops = [FLOOR, *loops]
        with ExitStack() as stack:
            kept: dict[str, Session] = {}
            for number in range(self._rounds):
                first = number % len(loops)
                for loop in loops[first:] + loops[:first]:
                    if loop not in row.failures:
                        self._turn(row, loop, workload, kept, stack)
        tell(row, loops)
        return row

    def _turn(
        self, row: Row, loop: str, workload: Workload, kept: dict[str, Session], stack: ExitStack
    ) -> None:
        try:
            if self._keep:
                if loop not in kept:
                    kept[loop] = stack.enter_context(Session(self._bench, loop, workload))
                measurement = kept[loop].measure(self._window_ms)
            else:
                with Session(self._bench, loop, workload) as session:
                    measurement = session.measure(self._window_ms)
        except LoopFailedError as failure:
            word = "not supported" if failure.unsupported else "failed"
            row.failures[loop] = f"{word}: {failure.reason}"
            row.measurements.pop(loop, None)
            return
        row.measurements.setdefault(loop, []).append(measurement)


def tell(row: Row, loops: list[str]) -> None:
    """One line of progress."""
    cells = [
        f"{loop} {over_rounds(row, loop, cpu_us).median:.3f}"
        if loop in row.measurements
        else f"{loop} {row.failures.get(loop, 'none')[:60]!r}"
        for loop in loops
    ]
    say(f"{row.name}: {', '.join(cells)} us")
