"""The loops that are compared: what to install for each, and how to make one."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from benchmarks.suite.workload import LoopFactory


@dataclass(frozen=True)
class Candidate:
    """A loop, by the module that makes it."""

    name: str
    #: What pip installs; None for what is there anyway or is built here.
    requirement: str | None
    #: Whether it runs in the quick form, too, when no loops are named.
    quick: bool = True

    def factory(self) -> LoopFactory:
        """The function that makes a loop. Raises ImportError where it is not installed."""
        module = importlib.import_module(self.name)
        factory: LoopFactory = module.new_event_loop
        return factory


OURS = "cloverleaf"

#: No loop, but a row of the table: for servers the plain epoll echo server of the load generator,
#: for work with both ends what it has for that, and for callbacks a bare queue, the extension
#: module `cloverleaf_floor`.
FLOOR = "floor"
FLOOR_MODULE = "cloverleaf_floor"

CANDIDATES = (
    Candidate("asyncio", None),
    Candidate("uvloop", "uvloop==0.23.*"),
    Candidate("rloop", "rloop==0.5.*"),
    Candidate("rsloop", "rsloop", quick=False),
    Candidate("zuvloop", "zuvloop", quick=False),
    Candidate(OURS, None),
)

NAMES = tuple(candidate.name for candidate in CANDIDATES)


def candidate(name: str) -> Candidate:
    """The candidate of that name."""
    for each in CANDIDATES:
        if each.name == name:
            return each
    raise KeyError(f"no loop is named {name!r}")


def make(name: str) -> tuple[asyncio.AbstractEventLoop, LoopFactory]:
    """A new loop of that name, set as the current one, and its factory."""
    if name == FLOOR:
        return make_floor()
    factory = candidate(name).factory()
    loop = factory()
    asyncio.set_event_loop(loop)
    return loop, factory


def make_floor() -> tuple[Any, LoopFactory]:
    """What has a loop's `call_soon`, `run_forever` and `stop`, and nothing else."""
    module = importlib.import_module(FLOOR_MODULE)
    names = ("call_soon", "run_forever", "stop")
    bare: Any = SimpleNamespace(**{name: getattr(module, name) for name in names})
    return bare, lambda: bare
