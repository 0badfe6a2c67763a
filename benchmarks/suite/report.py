"""The tables, in Markdown."""

from __future__ import annotations

from benchmarks.suite import summary
from benchmarks.suite.loops import FLOOR, OURS
from benchmarks.suite.results import Results, Row

HELD_BACK = "°"


def markdown(results: Results) -> str:
    """The whole report."""
    loops = [loop for loop in results.settings["loops"] if any_row(results, loop)]
    parts = [
        "# Benchmark results",
        conditions(results),
        "## CPU time per operation",
        "Microseconds of the loop's process, all threads, user and kernel; median of the rounds, "
        "and the distance between the smallest and the largest. "
        "The last column is Cloverleaf's time for 1 of the best peer's: below 1 is cheaper.",
        cpu_table(results, loops),
        "## Throughput and latency",
        "Thousands of operations in a second; for servers and clients p50 / p99 of the latency in "
        f"microseconds. {HELD_BACK}: the load generator was the bottleneck, so the loop could "
        "have done more (its CPU time per operation stands).",
        speed_table(results, loops),
    ]
    missing = absences(results)
    if missing:
        parts += ["## What could not be measured", missing]
    return "\n\n".join(parts) + "\n"


def any_row(results: Results, loop: str) -> bool:
    """Whether a loop was measured, or failed, at anything."""
    return any(loop in row.measurements or loop in row.failures for row in results.rows)


def conditions(results: Results) -> str:
    """What was compared, where, and how."""
    machine, python, settings = results.machine, results.interpreter, results.settings
    lines = [
        f"- {results.when}; {machine['processor']}, {machine['cores']} cores; {machine['kernel']}; "
        f"{python['libc']}; load average before the run {machine['load_average']:.2f}",
        f"- CPython {python['version']}, {python['optimisation']}, "
        f"`{python['decisive_flags']}`; yardstick "
        f"{python['yardstick_ns']:.1f} ns for a call of an empty function",
        "- " + ", ".join(f"{loop} {version}" for loop, version in results.loops.items()),
        f"- {settings['rounds']} rounds of {settings['window_ms']} ms, loops in turn within a "
        f"round, {'one process for all rounds' if settings['keep'] else 'a new process each'}; "
        f"pinning: {settings['pinning']} (loops on {settings['loop_cores']}, load on "
        f"{settings['load_cores']})",
        "- allocator primed: one block of 4 MiB allocated and freed in every process"
        if settings["prime"]
        else "- allocator not primed",
    ]
    lines += [f"- **{warning}**" for warning in settings["warnings"]]
    return "\n".join(lines)


def cpu_table(results: Results, loops: list[str]) -> str:
    """The headline."""
    table = [["workload", *loops, f"{OURS} / best peer"]]
    for row in results.rows:
        cells = [cpu_cell(row, loop) for loop in loops]
        table.append([row.title, *cells, ratio_cell(row)])
    return render(table)


def cpu_cell(row: Row, loop: str) -> str:
    """Median and spread of one loop."""
    if loop not in row.measurements:
        return absent(row, loop)
    figure = summary.over_rounds(row, loop, summary.cpu_us)
    return f"{number(figure.median)} ({figure.spread:.0%})"


def ratio_cell(row: Row) -> str:
    """Cloverleaf against the best of the others."""
    best = summary.best_peer(row)
    ratio = summary.ratio(row, OURS, best) if best else None
    return f"{ratio:.2f} ({best})" if ratio is not None else "-"


def speed_table(results: Results, loops: list[str]) -> str:
    """Throughput, and latency where there is one."""
    table = [["workload", *loops]]
    table.extend([row.title, *(speed_cell(row, loop) for loop in loops)] for row in results.rows)
    return render(table)


def speed_cell(row: Row, loop: str) -> str:
    """Thousands a second, then p50 / p99."""
    if loop not in row.measurements:
        return absent(row, loop)
    mark = HELD_BACK if summary.bottlenecked(row, loop) else ""
    rate = number(summary.over_rounds(row, loop, summary.rate).median / 1000)
    if "latency_ns" not in row.measurements[loop][0]:
        return f"{rate}{mark}"
    p50 = summary.over_rounds(row, loop, summary.latency_us("p50")).median
    p99 = summary.over_rounds(row, loop, summary.latency_us("p99")).median
    return f"{rate}{mark} · {p50:.0f} / {p99:.0f}"


def absent(row: Row, loop: str) -> str:
    """A gap in the table: a failure, or nothing to measure."""
    return "cannot" if loop in row.failures else ("" if loop == FLOOR else "-")


def absences(results: Results) -> str:
    """Every failure with its reason; loops that share one stand together."""
    lines = []
    for row in results.rows:
        sharing: dict[str, list[str]] = {}
        for loop, reason in row.failures.items():
            sharing.setdefault(reason, []).append(loop)
        lines += [f"- {', '.join(who)}, {row.title}: {why}" for why, who in sharing.items()]
    return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def render(table: list[list[str]]) -> str:
    """A Markdown table, its columns aligned for those who read the source."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    head, *body = (
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in table
    )
    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([head, rule, *body])
