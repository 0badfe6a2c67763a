"""Which loops the suite runs on, and how a test says that it is for one of them only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import pytest


@dataclass(frozen=True)
class Kind:
    """One loop under test: its name in test ids, and where its factory is found."""

    name: str
    module: str

    def factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return the function that makes a new loop."""
        factory: Callable[[], asyncio.AbstractEventLoop]
        factory = import_module(self.module).new_event_loop
        return factory

    @property
    def prelude(self) -> str:
        """Return the line by which a program of its own gets ``new_event_loop``."""
        return f"from {self.module} import new_event_loop\n"


KINDS = {kind.name: kind for kind in (Kind("asyncio", "asyncio"), Kind("cloverleaf", "cloverleaf"))}


def add_option(parser: pytest.Parser) -> None:
    """Add ``--loops``; more than one of our conftest files may ask for it."""
    try:
        parser.addoption(
            "--loops",
            default=",".join(KINDS),
            help="comma-separated loops to run the tests on (default: %(default)s)",
        )
    except ValueError as error:
        if "already added" not in str(error):
            raise


def chosen(config: pytest.Config) -> list[Kind]:
    """Return the loops that this run was asked for."""
    names = str(config.getoption("--loops", ",".join(KINDS))).split(",")
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise pytest.UsageError(f"--loops: unknown {', '.join(unknown)}; known: {', '.join(KINDS)}")
    return [KINDS[name] for name in names]


def is_for(item: pytest.Item) -> bool:
    """Tell whether the item's loop is one that its ``only`` mark names, if it has one."""
    mark = item.get_closest_marker("only")
    callspec = getattr(item, "callspec", None)
    if mark is None or callspec is None:
        return True
    return callspec.params["kind"].name in mark.args


def spares_asyncio(fault: bool) -> pytest.MarkDecorator:
    """Mark a test that this release of asyncio fails, if it does; Cloverleaf is never spared."""
    return pytest.mark.only(*(["cloverleaf"] if fault else KINDS))
