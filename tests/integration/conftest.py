"""Runs every test on each loop named by `--loops`, and counts what the test leaves behind.

`run` is how a test reaches a loop: it runs one coroutine under a deadline, and then fails the test
if the exception handler heard anything. Every test fails if a descriptor or a thread outlived it.
"""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from parity.harness.garbage import set_aside_now_and_then

from .postgresql_server import PostgresqlServer, find_programs, serve_postgresql
from .programs import Programs

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

KNOWN_LOOPS = ("asyncio", "cloverleaf")
RUN_DEADLINE_S = 120
TEST_DEADLINE_S = 240
SETTLE_S = 60


class Run(Protocol):
    """Runs a coroutine on the loop under test and returns its result."""

    def __call__(self, main: Coroutine[Any, Any, T], *, debug: bool = False) -> T: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--loops`, unless another suite in the same run has added it already."""
    try:
        parser.addoption(
            "--loops",
            default=",".join(KNOWN_LOOPS),
            help="comma-separated loops to run each test on: asyncio, cloverleaf",
        )
    except ValueError:
        return  # One run over several suites: the first one's option serves them all.


def pytest_configure() -> None:
    """Hears of SIGINT, which a shell's background job inherits ignored, and would hand on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test of this suite may hang, or leave a resource for the collector to close."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_DEADLINE_S))
            item.add_marker(pytest.mark.filterwarnings("error::ResourceWarning"))
            item.add_marker(
                pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
            )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives `loop_name` one value for each loop asked for."""
    if "loop_name" not in metafunc.fixturenames:
        return
    asked = [name for name in str(metafunc.config.getoption("--loops")).split(",") if name]
    known = [name for name in KNOWN_LOOPS if any(name in one for one in asked)]
    if not known:
        raise pytest.UsageError(f"--loops {asked} names none of {', '.join(KNOWN_LOOPS)}")
    metafunc.parametrize("loop_name", known, scope="session")


def new_loop_factory(loop_name: str) -> LoopFactory:
    """The factory of the loop with this name."""
    if loop_name == "asyncio":
        return asyncio.new_event_loop
    import cloverleaf

    factory: LoopFactory = cloverleaf.new_event_loop
    return factory


@pytest.fixture
def loop_factory(loop_name: str) -> LoopFactory:
    """What `asyncio.Runner(loop_factory=…)` takes."""
    return new_loop_factory(loop_name)


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    """Starts programs in processes of their own; none of them outlives the session."""
    started = Programs()
    yield started
    started.kill_all()


@pytest.fixture(scope="module")
def postgresql(programs: Programs) -> Iterator[PostgresqlServer]:
    """A PostgreSQL of ours; without one, the tests that ask for it are skipped.

    It has gone when other tests look for children that were left behind.
    """
    if find_programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with serve_postgresql(programs) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test after which more descriptors or threads are there than before it."""
    set_aside_now_and_then()
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    gc.collect()
    until, pause = time.monotonic() + SETTLE_S, threading.Event()
    new_threads = {each for each in set(threading.enumerate()) - threads if stays(each, until)}
    assert not new_threads, f"threads left behind: {new_threads}"
    while left := opened_since(descriptors):
        assert time.monotonic() < until, f"descriptors left behind: {left}"
        pause.wait(0.005)  # A thread of the loop's that was in a read may still close its file.


def opened_since(before: dict[int, str]) -> dict[int, str]:
    """The descriptors that are open now and were not then."""
    return {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}


def stays(thread: threading.Thread, until: float) -> bool:
    """Tell whether a thread is left behind.

    Whoever starts a thread joins it. Only a daemon and anyio's workers may have been asked to end
    without being joined, and then end soon.
    """
    if thread.daemon or thread.name == "AnyIO worker thread":
        thread.join(max(0.0, until - time.monotonic()))
        return thread.is_alive()
    return True


def open_descriptors() -> dict[int, str]:
    """Each open descriptor of this process, and what it leads to."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:
            continue  # The descriptor of the listing itself.
    return found


@pytest.fixture
def run(loop_factory: LoopFactory) -> Run:
    """Runs one coroutine on the loop under test, under a deadline and an exception handler."""

    def run_one(main: Coroutine[Any, Any, T], *, debug: bool = False) -> T:
        heard: list[dict[str, Any]] = []

        async def with_deadline() -> T:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: heard.append(context))
            async with asyncio.timeout(RUN_DEADLINE_S):
                return await main

        with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
            result = runner.run(with_deadline())
        gc.collect()
        assert not heard, f"the exception handler heard: {heard}"
        return result

    return run_one


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path short enough for a Unix socket, where nothing is yet."""
    path = str(tmp_path_factory.mktemp("s") / "s.sock")
    assert len(os.fsencode(path)) < 108, "sun_path holds 107 bytes, unix(7)"
    return path
