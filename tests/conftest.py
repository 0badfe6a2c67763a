"""What holds for all tests: failures are told at once, and asyncio may be unlucky twice.

A run that is ended amid its tests tells of no failure in its end. And where asyncio itself runs a
test, that shows that the test asks for no more than asyncio gives: passing once does. What fails
with Cloverleaf has failed, and so has what fails with its files, whichever loop they are used on.
"""

from __future__ import annotations

import pytest

# The modules whose tests use files of ours, on asyncio's loop, too.
OUR_FILES = ("test_file", "test_anyio_files", "test_aiofiles")


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have what asyncio itself falls short of tried twice more; pytest counts it as rerun."""
    if config.getoption("usepdb"):
        return  # pytest-rerunfailures would end the run
    for item in items:
        if isinstance(item, pytest.Function) and is_asyncios(item):
            item.add_marker(pytest.mark.flaky(reruns=2))


def is_asyncios(test: pytest.Function) -> bool:
    """Tell whether the loop under test is asyncio's own, and nothing of ours runs on it."""
    callspec = getattr(test, "callspec", None)
    is_on_asyncio = callspec is not None and "asyncio" in callspec.id.split("-")
    return is_on_asyncio and not test.path.name.startswith(OUR_FILES)
