"""The hooks and fixtures of the suite. A folder's conftest imports all of this file's names.

``new_loop`` makes loops of the kind under test, ``loop`` is one of them, ``run`` runs a
coroutine on it. A test that is a coroutine function runs on its ``loop``.
"""

from __future__ import annotations

import inspect
import signal
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .complaints import Complaints
from .deadline import SECONDS, deadline, keep_stderr
from .garbage import set_aside, set_aside_now_and_then
from .kinds import Kind, add_option, chosen, is_for
from .leaks import Resources, leaks_since
from .program import Program
from .types import Context, Loop, NewLoop, Run

__all__ = [
    "contexts",
    "guard",
    "kind",
    "kind_factory",
    "logged",
    "loop",
    "new_loop",
    "program",
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_pyfunc_call",
    "run",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--loops``."""
    add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Announce our marks, keep stderr, and fail at once if a loop cannot be imported."""
    # A shell's background job inherits an ignored SIGINT, and would hand it on to programs.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "only(kind): the test is for this loop, for a stated reason")
    config.addinivalue_line("markers", "deadline(seconds): the test may take so long")
    keep_stderr(config)
    for each in chosen(config):
        each.factory()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for a loop once per kind."""
    if "kind" in metafunc.fixturenames:
        kinds = chosen(metafunc.config)
        metafunc.parametrize("kind", kinds, ids=[each.name for each in kinds], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop the pairs of test and loop that a mark excludes."""
    dropped = [item for item in items if not is_for(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if is_for(item)]


def pytest_collection_finish() -> None:
    """Keep what is alive now out of later collections, which makes them fast."""
    set_aside()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function on its ``loop`` fixture."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    loop: Loop = arguments["loop"]
    named(pyfuncitem)(loop, pyfuncitem.obj(**arguments))
    return True


def named(test: pytest.Function) -> Callable[[Loop, Any], object]:
    """Return what runs a coroutine in a frame of the test's name, which stacks of a hang show."""

    def run(loop: Loop, body: Any) -> object:
        return loop.run_until_complete(body)

    line = test.obj.__code__.co_firstlineno
    code = run.__code__.replace(co_name=test.name, co_filename=str(test.path), co_firstlineno=line)
    return types.FunctionType(code, {})


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest, logged: Complaints) -> Iterator[None]:
    """Give the test a deadline, and count what it leaves behind."""
    mark = request.node.get_closest_marker("deadline")
    set_aside_now_and_then()
    with deadline(mark.args[0] if mark else SECONDS):
        before = Resources.now()
        yield
        leaks = leaks_since(before)
    assert not leaks, f"left behind: {leaks}"
    assert not logged.unexpected(), f"unexpected complaints: {logged.unexpected()}"


@pytest.fixture
def logged() -> Iterator[Complaints]:
    """Collect what loops complain of; errors that the test does not take make it fail."""
    complaints = Complaints()
    complaints.install()
    yield complaints
    complaints.uninstall()


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Kind:
    """Return the loop under test."""
    found: Kind = request.param
    return found


@pytest.fixture
def kind_factory(kind: Kind, guard: None) -> Callable[[], Loop]:
    """Return the bare factory: the test closes what it makes, or has a reason not to."""
    return kind.factory()


@pytest.fixture
def new_loop(kind: Kind, guard: None) -> Iterator[NewLoop]:
    """Return a factory; the loops it made are closed after the test."""
    made: list[Loop] = []
    factory = kind.factory()

    def make() -> Loop:
        made.append(factory())
        return made[-1]

    yield make
    while made:
        finish(made.pop())


def finish(loop: Loop) -> None:
    """Close a loop as ``asyncio.Runner`` would, unless the test has done so."""
    if loop.is_closed():
        return
    try:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@pytest.fixture
def loop(new_loop: NewLoop) -> Loop:
    """Return a loop of the kind under test."""
    return new_loop()


@pytest.fixture
def contexts(loop: Loop) -> list[Context]:
    """Return the list of what the loop's exception handler is called with."""
    seen: list[Context] = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context))
    return seen


@pytest.fixture
def run(loop: Loop) -> Run:
    """Return the function that runs a coroutine on ``loop``."""
    return loop.run_until_complete


@pytest.fixture
def program(kind: Kind, guard: None) -> Iterator[Program]:
    """Return what runs a program of its own with ``new_event_loop`` of the kind under test."""
    running = Program(kind)
    yield running
    running.end()
