"""Every workload, in the order of the report."""

from __future__ import annotations

from fnmatch import fnmatchcase

from benchmarks.suite.workload import Workload
from benchmarks.workloads import (
    callbacks,
    clients,
    connections,
    coroutines,
    curve,
    datagrams,
    echo,
    executor,
    fairness,
    files,
    loops,
    names,
    processes,
    sockets,
    streams,
    threads,
    timers,
    tls,
    web,
)

WORKLOADS: tuple[Workload, ...] = (
    *echo.WORKLOADS,
    *streams.WORKLOADS,
    *sockets.WORKLOADS,
    *connections.WORKLOADS,
    *tls.WORKLOADS,
    *datagrams.WORKLOADS,
    *web.WORKLOADS,
    *clients.WORKLOADS,
    *fairness.WORKLOADS,
    *callbacks.WORKLOADS,
    *timers.WORKLOADS,
    *coroutines.WORKLOADS,
    *threads.WORKLOADS,
    *executor.WORKLOADS,
    *names.WORKLOADS,
    *processes.WORKLOADS,
    *files.WORKLOADS,
    *loops.WORKLOADS,
)

#: Measured only when asked for.
CURVE: tuple[Workload, ...] = curve.WORKLOADS


def by_name(name: str) -> Workload:
    """The workload of that exact name."""
    for workload in (*WORKLOADS, *CURVE):
        if workload.name == name:
            return workload
    raise KeyError(f"no workload is named {name!r}")


def matching(patterns: list[str], workloads: tuple[Workload, ...] = WORKLOADS) -> list[Workload]:
    """The workloads whose name matches one of the patterns, or contains it; all without any."""
    if not patterns:
        return list(workloads)
    return [
        workload
        for workload in workloads
        if any(fnmatchcase(workload.name, p) or p in workload.name for p in patterns)
    ]
