"""A quiet connection beside loud ones: what it waits for its turn."""

from __future__ import annotations

from benchmarks.suite.workload import ServerWorkload, Traffic
from benchmarks.workloads.echo import KIB, Echo, serving

LOUD = Traffic(connections=64, depth=4, size=16 * KIB)

WORKLOADS = (
    ServerWorkload(
        "quiet-beside-64",
        "64 B on one conn., beside 64 that saturate",
        "message",
        serving(Echo),
        Traffic(connections=1, size=64, beside=LOUD),
    ),
)
