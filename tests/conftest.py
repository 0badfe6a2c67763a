"""What holds for all tests: failures are told at once, and asyncio may be unlucky twice.

A run that is ended amid its tests tells of no failure in its end. And where asyncio itself runs a
test, that shows that the test asks for no more than asyncio gives: passing once does. What fails
with Cloverleaf has failed.
"""

from __future__ import annotations

import pytest


class Teller:
    """Tells of each test that falls short when it does."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a line that tools/steps.sh looks for where pytest's summary is missing."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\nfell short: {report.nodeid}")
            terminal.flush()


def pytest_configure(config: pytest.Config) -> None:
    """Have it told."""
    config.pluginmanager.register(Teller(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what asyncio itself falls short of tried twice more; pytest counts it as rerun."""
    for item in items:
        if isinstance(item, pytest.Function) and is_asyncios(item):
            item.add_marker(pytest.mark.flaky(reruns=2))


def is_asyncios(test: pytest.Function) -> bool:
    """Tell whether the loop under test is asyncio's own."""
    callspec = getattr(test, "callspec", None)
    return callspec is not None and "asyncio" in callspec.id.split("-")
