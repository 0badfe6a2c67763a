"""One process of the suite: list a module's tests, or run some of them.

Not for use by hand; run_cpython_suite.py starts it.  What happens is told as
JSON lines on the file descriptor given with --fd, each written whole before
the next step, so that a crash loses nothing.
"""

from __future__ import annotations

import argparse
import faulthandler
import fcntl
import importlib
import importlib.metadata
import json
import os
import signal
import sys
import time
import traceback
import unittest
from collections.abc import Iterator
from types import ModuleType, TracebackType
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
if HERE not in sys.path:
    sys.path.insert(0, HERE)
import _source  # noqa: E402
import _substitute  # noqa: E402


class Reporter:
    """Writes events to the runner."""

    def __init__(self, fd: int) -> None:
        # Some tests use small made-up descriptors; stay out of their way.
        self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 300)
        os.close(fd)

    def say(self, event: str, **fields: Any) -> None:
        """Write one event, whole."""
        line = "\n@" + json.dumps({"event": event, **fields}) + "\n"
        data = line.encode("ascii", "backslashreplace")
        while data:
            data = data[os.write(self.fd, data) :]


def short_id(test: unittest.TestCase) -> str:
    """Return module.Class.test."""
    return test.id().removeprefix(_source.PACKAGE + ".")


def walk(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Yield every test of a suite."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from walk(item)
        else:
            yield item


# What unittest hands over for setUpClass, setUpModule and their opposites.
ERROR_HOLDER: Any = vars(unittest.suite)["_ErrorHolder"]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Result(unittest.TestResult):
    """Tells each test's start and end, with the loops it made."""

    def __init__(
        self, reporter: Reporter, lut: _substitute.LoopUnderTest, probe: Any = None
    ) -> None:
        super().__init__()
        self.reporter = reporter
        self.lut = lut
        self.probe = probe
        self.outcome: tuple[str, str] | None = None
        self.began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.outcome = None
        self.lut.take_counts()
        self.reporter.say("start", id=short_id(test))
        self.began = time.perf_counter()

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        status, detail = self.outcome or ("passed", "")
        more = {"touched": self.probe.take() + self.probe.static(test)} if self.probe else {}
        self.reporter.say(
            "end",
            id=short_id(test),
            status=status,
            detail=detail,
            seconds=round(time.perf_counter() - self.began, 3),
            loops=self.lut.take_counts(),
            **more,
        )

    def _set(self, test: unittest.TestCase, status: str, detail: str = "") -> None:
        if isinstance(test, ERROR_HOLDER):
            # setUpClass, setUpModule or a tearDown of those.
            self.reporter.say("fixture", id=short_id(test), status=status, detail=detail)
        elif self.outcome is None or status == "failed":
            if self.outcome and self.outcome[0] == "failed":
                return  # the first failure tells most
            self.outcome = (status, detail)

    def _failed(self, test: unittest.TestCase, err: ExcInfo) -> None:
        detail = "".join(traceback.format_exception(*err))
        self._set(test, "failed", detail[-4000:])

    def addFailure(self, test: unittest.TestCase, err: ExcInfo) -> None:
        self._failed(test, err)

    def addError(self, test: unittest.TestCase, err: ExcInfo) -> None:
        self._failed(test, err)

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: ExcInfo | None
    ) -> None:
        if err is not None:
            self._failed(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._set(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: ExcInfo) -> None:
        self._set(test, "passed", "expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._set(test, "failed", "unexpected success")


def collect(reporter: Reporter, lut: _substitute.LoopUnderTest, names: list[str]) -> None:
    """Tell each module's tests."""
    loader = unittest.TestLoader()
    for name in names:
        try:
            module = _source.load_test_module(name)
            _substitute.adapt_module(lut, name, module)
        except unittest.SkipTest as e:
            reporter.say("module", name=name, skipped=str(e), tests=[])
            continue
        except BaseException:
            reporter.say("module", name=name, tests=[], error=traceback.format_exc()[-4000:])
            continue
        tests = [short_id(t) for t in walk(loader.loadTestsFromModule(module))]
        reporter.say("module", name=name, tests=tests)


def trial(reporter: Reporter, lut: _substitute.LoopUnderTest) -> None:
    """Tell whether the tally of running loops sees this loop."""

    async def nothing() -> None:
        pass

    lut.take_counts()
    loop = lut.new()
    loop.run_until_complete(nothing())
    loop.close()
    reporter.say("trial", seen=lut.take_counts()["ran"] > 0)


def run(
    reporter: Reporter, lut: _substitute.LoopUnderTest, name: str, ids: list[str], probe: Any
) -> None:
    """Run some of a module's tests."""
    module = _source.load_test_module(name)
    _substitute.adapt_module(lut, name, module)
    loader = unittest.TestLoader()
    by_id = {short_id(t): t for t in walk(loader.loadTestsFromModule(module))}
    suite = unittest.TestSuite()
    for test_id in ids:
        suite.addTest(by_id[test_id])
    suite.run(Result(reporter, lut, probe))


def version_of(module: ModuleType) -> str | None:
    """Return the version of the package that the loop comes from."""
    top = module.__name__.partition(".")[0]
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        return getattr(sys.modules[top], "__version__", None)


def main() -> int:
    """Put the loop in place, then list or run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--collect", nargs="*")
    parser.add_argument("--module")
    parser.add_argument("--tests", help="a file of test ids, one a line")
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--probe", action="store_true")
    args = parser.parse_args()

    faulthandler.enable()
    # A shell's background job inherits an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reporter = Reporter(args.fd)
    for folder in reversed(_substitute.extra_path()):
        sys.path.insert(0, folder)
    probe: Any = None
    try:
        if args.probe:
            probe = importlib.import_module("_probe")
            probe.install()
        lut = _substitute.install(args.loop, probe.ProbeLoop if probe else None)
        _substitute.prepare(lut, args.timeout)
    except BaseException:
        reporter.say("fatal", detail=traceback.format_exc()[-4000:])
        return 2
    reporter.say(
        "ready",
        python=sys.version.split()[0],
        loop_type=(f"{lut.type.__module__}.{lut.type.__qualname__}"),
        version=version_of(lut.module),
    )
    if args.collect is not None:
        collect(reporter, lut, args.collect)
        trial(reporter, lut)
    else:
        with open(args.tests, encoding="utf-8") as f:
            ids = f.read().split()
        run(reporter, lut, args.module, ids, probe)
    reporter.say("done")
    # A loop may have left threads behind that would keep the process alive.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
