"""Each failure is told at once, too: a run that is ended amid its tests tells none in its end."""

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
