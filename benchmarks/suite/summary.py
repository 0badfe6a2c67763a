"""From rounds to figures: medians, spreads, and ratios to the best peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.suite.loops import FLOOR, OURS
from benchmarks.suite.results import Row

Measurement = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """The median over the rounds, and (largest - smallest) / median."""

    median: float
    spread: float


def figure(values: list[float]) -> Figure:
    """Sums up one value per round."""
    middle = median(values)
    return Figure(middle, (max(values) - min(values)) / middle if middle else 0.0)


def cpu_us(measurement: Measurement) -> float:
    """CPU time of the loop's process for one operation, in microseconds."""
    return float(measurement["cpu_ns"] / 1000 / max(1, measurement["operations"]))


def rate(measurement: Measurement) -> float:
    """Operations in a second."""
    return float(measurement["operations"] * 1e9 / max(1, measurement["wall_ns"]))


def latency_us(quantile: str) -> Callable[[Measurement], float]:
    """The reader of one quantile of the latency, in microseconds."""
    return lambda measurement: float(measurement["latency_ns"][quantile]) / 1000


def over_rounds(row: Row, loop: str, value: Callable[[Measurement], float]) -> Figure:
    """One figure of one loop."""
    return figure([value(each) for each in row.measurements[loop]])


def best_peer(row: Row) -> str | None:
    """The peer that needs the least CPU for an operation."""
    peers = [loop for loop in row.measurements if loop not in (OURS, FLOOR)]
    return min(peers, key=lambda loop: over_rounds(row, loop, cpu_us).median, default=None)


def ratio(row: Row, loop: str, reference: str) -> float | None:
    """How much CPU `loop` needs for what `reference` does with 1.

    It is the median of the rounds' ratios: what disturbs the machine for longer than a round
    disturbs both sides of a ratio alike.
    """
    ours, theirs = row.measurements.get(loop), row.measurements.get(reference)
    if not ours or not theirs:
        return None
    return median(cpu_us(a) / cpu_us(b) for a, b in zip(ours, theirs, strict=False) if cpu_us(b))


def bottlenecked(row: Row, loop: str) -> bool:
    """Whether the load generator held this loop back in most rounds."""
    rounds = row.measurements[loop]
    held = sum(bool(each.get("generator_is_bottleneck")) for each in rounds)
    return held * 2 > len(rounds)
