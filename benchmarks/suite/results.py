"""What was measured, and how it is saved: raw, with everything needed to judge it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1


@dataclass
class Row:
    """One workload: every measurement of every loop, and why others have none."""

    name: str
    title: str
    operation: str
    kind: str
    #: By loop, in the order of the rounds.
    measurements: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: By loop: what it cannot do, or where it failed.
    failures: dict[str, str] = field(default_factory=dict)


@dataclass
class Results:
    """One run of the benchmarks."""

    when: str
    machine: dict[str, Any]
    interpreter: dict[str, Any]
    #: By loop: its version, or why it is not there.
    loops: dict[str, str]
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Writes everything as JSON."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        path.write_text(text + "\n")


def load(path: Path) -> Results:
    """Reads what `save` wrote."""
    raw = json.loads(path.read_text())
    if raw.pop("format") != FORMAT:
        raise ValueError(f"{path} has another format")
    rows = [Row(**row) for row in raw.pop("rows")]
    return Results(**raw, rows=rows)
