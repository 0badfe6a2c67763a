"""The results as pictures, for whoever would rather look than read.

`python -m benchmarks.suite.plots RAW DIRECTORY` draws what `raw.json` has into the directory:

- `cpu.svg`: every loop's CPU time an operation for 1 of the best peer's, one line a workload;
- `latency.svg`: p50 and p99 in microseconds, of servers and clients;
- `connections.svg` and `depth.svg`: the curves, where they were measured.

It needs matplotlib, which the environment of the benchmarks has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.suite import summary
from benchmarks.suite.loops import FLOOR, NAMES, OURS
from benchmarks.suite.results import Results, Row, load
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INCHES_A_LINE = 0.28
RATIOS = (0.25, 0.5, 0.75, 1, 2, 4, 8, 16, 32)
CURVES = ("connections", "depth")

MARKS = dict(zip((*NAMES, FLOOR), "ovs^vD|", strict=False)) | {OURS: "D", FLOOR: "|"}
COLOURS = {name: f"C{number}" for number, name in enumerate(NAMES)} | {OURS: "k", FLOOR: "0.6"}


def draw(results: Results, directory: Path) -> list[Path]:
    """Draws all that the results have, and returns the files."""
    curves = [row for row in results.rows if row.name.startswith("curve-")]
    rows = [row for row in results.rows if row not in curves]
    drawn = []
    if rows:
        drawn.append(save(cpu(rows), directory / "cpu.svg"))
    answering = [row for row in rows if any(map(has_latency, row.measurements.values()))]
    if answering:
        drawn.append(save(latency(answering), directory / "latency.svg"))
    for name in CURVES:
        points = [row for row in curves if row.name.startswith(f"curve-{name}-")]
        if points:
            drawn.append(save(curve(points, name), directory / f"{name}.svg"))
    return drawn


def cpu(rows: list[Row]) -> Axes:
    """One line a workload, one mark a loop; further left is cheaper."""
    axes = lines(rows)
    for loop in loops_of(rows):
        at = [(number, relative(row, loop)) for number, row in enumerate(rows)]
        scatter(axes, loop, [(y, x) for y, x in at if x is not None])
    axes.axvline(1, color="0.8", zorder=0)
    axes.set_xscale("log")
    axes.set_xticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
    axes.set_xlabel("CPU time an operation, for 1 of the best peer's (logarithmic)")
    return axes


def relative(row: Row, loop: str) -> float | None:
    """The loop's CPU time for 1 of the best peer's."""
    best = summary.best_peer(row)
    return summary.ratio(row, loop, best) if best else None


def latency(rows: list[Row]) -> Axes:
    """From p50 to p99 of each loop."""
    axes = lines(rows)
    loops = loops_of(rows)
    for place, loop in enumerate(loops):
        shift = (place - (len(loops) - 1) / 2) * 0.6 / len(loops)
        for number, row in enumerate(rows):
            if not has_latency(row.measurements.get(loop, [])):
                continue
            ends = [median(row, loop, summary.latency_us(q)) for q in ("p50", "p99")]
            axes.plot(ends, [number + shift] * 2, color=COLOURS[loop], linewidth=1)
            axes.plot(ends[0], number + shift, MARKS[loop], color=COLOURS[loop], markersize=4)
        axes.plot([], [], MARKS[loop], color=COLOURS[loop], label=loop)
    axes.set_xscale("log")
    axes.set_xlabel("latency in microseconds, p50 (mark) to p99 (logarithmic)")
    return axes


def has_latency(measurements: list[summary.Measurement]) -> bool:
    """Whether somebody waited for the answers."""
    return bool(measurements) and "latency_ns" in measurements[0]


def curve(rows: list[Row], name: str) -> Axes:
    """CPU time over the number at the end of the workload's name."""
    axes = Figure(figsize=(7, 4.5)).add_subplot()
    for loop in loops_of(rows):
        points = [
            (int(row.name.rpartition("-")[2]), median(row, loop, summary.cpu_us))
            for row in rows
            if loop in row.measurements
        ]
        axes.plot(*zip(*points, strict=True), marker=MARKS[loop], color=COLOURS[loop], label=loop)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(
        {"connections": "connections", "depth": "messages under way a connection"}[name]
    )
    axes.set_ylabel("CPU time a message in microseconds")
    return axes


def lines(rows: list[Row]) -> Axes:
    """Axes with a line for each workload, the first at the top."""
    axes = Figure(figsize=(9, 1.5 + INCHES_A_LINE * len(rows))).add_subplot()
    axes.set_yticks(range(len(rows)), [row.title for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", color="0.93")
    axes.set_axisbelow(True)
    return axes


def scatter(axes: Axes, loop: str, points: list[tuple[int, float]]) -> None:
    """A loop's marks."""
    if points:
        y, x = zip(*points, strict=True)
        axes.plot(x, y, MARKS[loop], color=COLOURS[loop], label=loop, markersize=6)


def loops_of(rows: list[Row]) -> list[str]:
    """The loops that were measured, ours last and so above the others."""
    names = {loop for row in rows for loop in row.measurements}
    return sorted(names, key=lambda loop: (loop == OURS, loop != FLOOR, loop))


def median(row: Row, loop: str, value: Callable[[summary.Measurement], float]) -> float:
    """The median over the rounds."""
    return summary.over_rounds(row, loop, value).median


def save(axes: Axes, path: Path) -> Path:
    """Writes the picture."""
    axes.legend(loc="best", fontsize="small")
    picture = axes.figure
    if not isinstance(picture, Figure):
        raise TypeError(f"axes of {picture!r}")
    picture.savefig(path, bbox_inches="tight", metadata={"Date": None})
    return path


if __name__ == "__main__":
    raw, directory = map(Path, sys.argv[1:])
    draw(load(raw), directory)
