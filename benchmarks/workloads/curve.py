"""How the figures change with the number of connections, and with the depth of pipelining."""

from __future__ import annotations

from benchmarks.suite.workload import Traffic
from benchmarks.workloads.echo import echo

CONNECTIONS = (1, 4, 16, 64, 256, 1000, 2500, 5000, 10_000)
DEPTHS = (1, 2, 4, 8, 16, 32, 64)

WORKLOADS = (
    *(
        echo(f"curve-connections-{n}", f"Echo, 1 KiB, {n} conn.", Traffic(connections=n))
        for n in CONNECTIONS
    ),
    *(
        echo(
            f"curve-depth-{depth}",
            f"Echo, 64 B, 64 conn., {depth} deep",
            Traffic(connections=64, depth=depth, size=64),
        )
        for depth in DEPTHS
    ),
)
