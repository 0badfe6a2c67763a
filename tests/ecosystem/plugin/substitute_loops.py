"""A pytest plugin: each loop that a suite makes is Cloverleaf's, and each test's outcome is noted.

Loaded by `-p substitute_loops` into the suite's own pytest, before the suite's modules are
imported. `ECOSYSTEM_LOOP` chooses `cloverleaf` or `asyncio`, and `ECOSYSTEM_REPORT` names the file
that gets a line of JSON for each phase of each test: what came of it, how many of Cloverleaf's
loops were made in it, and how many of asyncio's own. With `asyncio` nothing is replaced.
`ECOSYSTEM_ONLY` may name a file of tests, one a line, without which the others do not run.
"""

import asyncio
import asyncio.unix_events
import importlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

CHOSEN = os.environ["ECOSYSTEM_LOOP"]
REPORT = Path(os.environ["ECOSYSTEM_REPORT"])
ONLY = os.environ["ECOSYSTEM_ONLY"]
# The default policy's name in asyncio.unix_events, up to 3.13 and from 3.14 on.
POLICIES = ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy")

made = {"cloverleaf": 0, "asyncio": 0}


def count(loop_class: Any, name: str) -> None:
    """Count the loops of this class and of its subclasses, from now on."""
    original = loop_class.__init__

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:
        made[name] += 1
        original(self, *args, **kwargs)

    loop_class.__init__ = counted


def substitute() -> None:
    """Put Cloverleaf wherever asyncio, or a suite, would take asyncio's loop."""
    import cloverleaf

    loop_class: Any = cloverleaf.EventLoop
    count(loop_class, "cloverleaf")
    for module in (asyncio, asyncio.unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, loop_class)
    for name in POLICIES:
        policy = getattr(asyncio.unix_events, name, None)
        if policy is not None:
            policy._loop_factory = loop_class


def excuse_children() -> None:
    """Let blockbuster excuse how our loop starts a child, as it does for asyncio's by its files."""
    try:
        guard: Any = importlib.import_module("blockbuster").BlockBuster
    except ImportError:
        return
    original = guard.__init__

    def excusing(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        functions = {"subprocess_exec", "subprocess_shell"}
        self.functions["os.read"].can_block_in("cloverleaf/_processes.py", functions)

    guard.__init__ = excusing


count(asyncio.base_events.BaseEventLoop, "asyncio")
if CHOSEN == "cloverleaf":
    substitute()
    excuse_children()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    if not ONLY:
        return
    wanted = set(Path(ONLY).read_text(encoding="utf-8").splitlines())
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
    items[:] = [item for item in items if item.nodeid in wanted]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report of each phase tell how many loops were made since the one before it."""
    report = yield
    report.user_properties = [*report.user_properties, ("loops", dict(made))]
    made.update(dict.fromkeys(made, 0))
    return report


class Outcomes:
    """Writes down what the reports say; with pytest-xdist, what all of its workers report."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one phase of one test."""
        loops = dict(report.user_properties).get("loops", {})
        line = {
            "test": report.nodeid,
            "phase": report.when,
            "outcome": "xfailed" if hasattr(report, "wasxfail") else report.outcome,
            "loops": loops,
        }
        with REPORT.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that could not be imported."""
        if report.failed:
            line = {"test": report.nodeid, "phase": "collect", "outcome": "failed", "loops": {}}
            with REPORT.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Start writing, unless this is one of pytest-xdist's workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(), "ecosystem-outcomes")
