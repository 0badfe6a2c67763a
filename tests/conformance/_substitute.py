"""Put another event loop under CPython's own asyncio tests.

Nothing here imports the test suite's code into this repository: the installed
``test.test_asyncio`` package of the running Python is loaded as it is, after
the places where it (or asyncio itself) makes a *real* event loop have been
pointed at the loop under test.  A handful of fixtures that only exist to feed
CPython's own BaseEventLoop (a mocked selector, stubbed private hooks) are
adapted; the README lists them all.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.events
import asyncio.log
import importlib
import os
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from _source import PACKAGE

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class LoopUnderTest:
    """The loop under test, and the tally of every loop made."""

    def __init__(
        self,
        spec: str,
        factory: LoopFactory,
        loop_type: type[asyncio.AbstractEventLoop],
        module: types.ModuleType,
    ) -> None:
        self.spec = spec
        self.factory = factory
        self.type = loop_type
        self.module = module
        self.made = 0  # loops under test asked for
        self.ran = 0  # times a loop under test began to run
        self.stdlib = 0  # stdlib's real loop made or run instead
        self.fake = 0  # TestLoop and other fakes made
        self.fake_ran = 0  # times such a fake began to run

    def new(self, *_args: Any, **_kwargs: Any) -> asyncio.AbstractEventLoop:
        """Make a loop.  Arguments (a selector) mean nothing to other loops."""
        self.made += 1
        return self.factory()

    def take_counts(self) -> dict[str, int]:
        """Return what happened since the last call."""
        counts = {
            "made": self.made,
            "ran": self.ran,
            "stdlib": self.stdlib,
            "fake": self.fake,
            "fake_ran": self.fake_ran,
        }
        self.made = self.ran = self.stdlib = self.fake = self.fake_ran = 0
        return counts

    def began_to_run(self, loop: object) -> None:
        """Count a loop that begins to run."""
        if isinstance(loop, self.type):
            self.ran += 1
        elif type(loop) is asyncio.unix_events._UnixSelectorEventLoop:
            self.stdlib += 1
        elif isinstance(loop, asyncio.AbstractEventLoop):
            self.fake_ran += 1


def resolve(spec: str) -> tuple[types.ModuleType, Any]:
    """Find the loop: SPEC is MODULE or MODULE:ATTR; ATTR is a callable that makes a loop."""
    name, _, attr = spec.partition(":")
    module = importlib.import_module(name)
    if attr:
        target = module
        for part in attr.split("."):
            target = getattr(target, part)
        return module, target
    if name == "asyncio":
        return module, asyncio.unix_events._UnixSelectorEventLoop
    if hasattr(module, "new_event_loop"):
        return module, module.new_event_loop
    for policy in ("EventLoopPolicy", "LoopPolicy"):
        if hasattr(module, policy):
            return module, getattr(module, policy)().new_event_loop
    for cls in ("EventLoop", "Loop"):
        if hasattr(module, cls):
            return module, getattr(module, cls)
    raise SystemExit(
        f"{name}: no new_event_loop, EventLoopPolicy, EventLoop or Loop; say --loop {name}:FACTORY"
    )


class _LoopClassStandIn:
    """Stands where a loop class stood: callable, subclassable, isinstance-able."""

    def __init__(self, lut: LoopUnderTest, original: type) -> None:
        self._lut = lut
        self._original = original
        self.__name__ = getattr(original, "__name__", "EventLoop")

    def __call__(self, *_args: Any, **_kwargs: Any) -> asyncio.AbstractEventLoop:
        return self._lut.new()

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._lut.type,)

    def __instancecheck__(self, obj: object) -> bool:
        return isinstance(obj, (self._lut.type, self._original))

    def __subclasscheck__(self, cls: type) -> bool:
        return issubclass(cls, (self._lut.type, self._original))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lut.type, name)


class _RunningLoopHook:
    """asyncio's _set_running_loop, which every loop calls when it starts.

    In place before the loop's module is imported, since that may keep the
    function for good.
    """

    def __init__(self) -> None:
        self.lut: LoopUnderTest | None = None
        original = asyncio.events._set_running_loop

        def _set_running_loop(loop: Any) -> None:
            if loop is not None and self.lut is not None:
                self.lut.began_to_run(loop)
            original(loop)

        for module in (asyncio, asyncio.events, sys.modules.get("_asyncio")):
            if getattr(module, "_set_running_loop", None) is original:
                setattr(module, "_set_running_loop", _set_running_loop)  # noqa: B010


def _count_stdlib_loops(lut: LoopUnderTest) -> None:
    """Tripwire: tell which stdlib loops are made while a test runs."""
    base: Any = asyncio.base_events.BaseEventLoop
    real = asyncio.unix_events._UnixSelectorEventLoop
    original = base.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(self, lut.type):
            if type(self) is real:
                lut.stdlib += 1
            else:
                lut.fake += 1
        original(self, *args, **kwargs)

    base.__init__ = __init__


def _share_patched_loggers() -> None:
    """mock.patch('asyncio.X.logger') also catches the 'asyncio' logger itself.

    asyncio's modules hold that logger in a global of their own; another loop
    logs through the same documented logger, not through CPython's globals.
    """
    from unittest import mock

    patch: Any = mock._patch
    logger = asyncio.log.logger
    methods = ("debug", "info", "warning", "error", "exception", "critical")
    enter, leave = patch.__enter__, patch.__exit__

    def is_asyncio_logger(patcher: Any) -> bool:
        return patcher.attribute == "logger" and getattr(patcher.target, "__name__", "").startswith(
            "asyncio"
        )

    def __enter__(self: Any) -> Any:
        new = enter(self)
        if is_asyncio_logger(self):
            saved = [vars(logger).get(m) for m in methods]
            for m in methods:
                setattr(logger, m, getattr(new, m))
            self._shared_logger = saved
        return new

    def __exit__(self: Any, *exc_info: Any) -> Any:
        saved = self.__dict__.pop("_shared_logger", None)
        if saved is not None:
            for m, old in zip(methods, saved, strict=True):
                if old is None:
                    vars(logger).pop(m, None)
                else:
                    setattr(logger, m, old)
        return leave(self, *exc_info)

    patch.__enter__, patch.__exit__ = __enter__, __exit__


def _patch_script_helper(spec: str) -> None:
    """Tests that run `python -c CODE` get the loop under test in there too."""
    script_helper: Any = importlib.import_module("test.support.script_helper")

    here = os.path.dirname(os.path.abspath(__file__))
    # `-I` and `-E` drop PYTHONPATH, so the new interpreter is told outright.
    prefix = (
        f"import sys; sys.path[:0] = {[here, *extra_path()]!r}; "
        f"import _substitute; _substitute.install({spec!r}); "
        f"del sys.path[:{1 + len(extra_path())}]\n"
    )
    original = script_helper.run_python_until_end

    def run_python_until_end(*args: str, **env_vars: Any) -> Any:
        told = list(args)
        if "-c" in told:
            at = told.index("-c") + 1
            told[at] = prefix + told[at]
        return original(*told, **env_vars)

    script_helper.run_python_until_end = run_python_until_end


def extra_path() -> list[str]:
    """Return the folders given with --path, in force in this process."""
    return [p for p in os.environ.get("CONFORMANCE_PATH", "").split(os.pathsep) if p]


def _adapt_utils(lut: LoopUnderTest) -> Any:
    """test_utils.TestCase: real loops where no fake clock is asked for."""
    utils = importlib.import_module(f"{PACKAGE}.utils")
    fake_loop = utils.TestLoop

    def new_test_loop(self: Any, gen: Any = None) -> Any:
        # With a generator the test drives TestLoop's fake clock.  Without
        # one it only wants some loop.
        loop = lut.new() if gen is None else fake_loop(gen)
        self.set_event_loop(loop)
        return loop

    def close_loop(loop: Any) -> None:
        # The original reads loop._default_executor and the child watcher.
        if isinstance(loop, fake_loop):
            original(loop)
        elif not loop.is_closed():
            if loop.is_running():
                raise AssertionError("loop still running at the test's end")
            if threading.active_count() > 1:  # perhaps of its executor
                ran = lut.ran  # tidying up is not what a test is about
                getattr(loop, "__dict__", {}).pop("call_soon", None)
                loop.set_task_factory(None)
                loop.run_until_complete(loop.shutdown_default_executor())
                lut.ran = ran
            loop.close()

    original = utils.TestCase.close_loop
    utils.TestCase.new_test_loop = new_test_loop
    utils.TestCase.close_loop = staticmethod(close_loop)
    return utils


def adapt_module(lut: LoopUnderTest, name: str, module: Any) -> None:
    """Give fixtures that build a bare BaseEventLoop round mocks a real loop."""
    adapt = ADAPT_FIXTURES.get(name)
    if adapt is not None:
        adapt(lut, module)


def _real_loop_in_set_up(lut: LoopUnderTest, case: Any) -> None:
    utils: Any = sys.modules[f"{PACKAGE}.utils"]

    def set_up(self: Any) -> None:
        utils.TestCase.setUp(self)
        self.loop = lut.new()
        self.set_event_loop(self.loop)

    case.setUp = set_up


def _adapt_base_events(lut: LoopUnderTest, module: Any) -> None:
    _real_loop_in_set_up(lut, module.BaseEventLoopTests)
    base_events: Any = asyncio.base_events
    stand_in = _LoopClassStandIn(lut, base_events.BaseEventLoop)
    module.base_events = _ModuleView(base_events, BaseEventLoop=stand_in)


def _adapt_events(_lut: LoopUnderTest, module: Any) -> None:
    # Attaching a child watcher is what CPython's loop needs to run subprocesses; through 3.13 it
    # also drags add_signal_handler() and remove_signal_handler() into every test of the class.
    if hasattr(asyncio, "set_child_watcher"):
        mixin = module.UnixEventLoopTestsMixin
        del mixin.setUp, mixin.tearDown


def _adapt_subprocess(_lut: LoopUnderTest, _module: Any) -> None:
    # One test counts on an earlier one having called set_event_loop().
    asyncio.set_event_loop(None)


def _adapt_pep492(lut: LoopUnderTest, module: Any) -> None:
    _real_loop_in_set_up(lut, module.BaseTest)


def _adapt_tasks(_lut: LoopUnderTest, module: Any) -> None:
    utils: Any = sys.modules[f"{PACKAGE}.utils"]

    def _run_loop(_self: Any, loop: Any) -> None:
        # The original goes on while loop._ready has anything in it.
        for _ in range(10):
            utils.run_briefly(loop)

    module.GatherTestsBase._run_loop = _run_loop


def _adapt_runners(lut: LoopUnderTest, module: Any) -> None:
    # Deprecated, so private too, since Python 3.14.
    get_policy, set_policy = (
        getattr(asyncio.events, "_" + n, None) or getattr(asyncio, n)
        for n in ("get_event_loop_policy", "set_event_loop_policy")
    )

    def tear_down(self: Any) -> None:
        # The original also reads a mark that its mock loop leaves when Runner calls
        # shutdown_asyncgens(); that is Runner's doing.
        policy = get_policy()
        if policy.loop is not None:
            assert policy.loop.is_closed()
        set_policy(None)
        super(module.BaseTest, self).tearDown()

    module.BaseTest.new_loop = lambda _self: lut.new()
    module.BaseTest.tearDown = tear_down


ADAPT_FIXTURES: dict[str, Callable[[LoopUnderTest, Any], None]] = {
    "test_base_events": _adapt_base_events,
    "test_events": _adapt_events,
    "test_subprocess": _adapt_subprocess,
    "test_pep492": _adapt_pep492,
    "test_tasks": _adapt_tasks,
    "test_runners": _adapt_runners,
}


class _ModuleView(types.ModuleType):
    """A module with a few names replaced, for one test module only."""

    def __init__(self, module: types.ModuleType, **names: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def install(spec: str, factory: LoopFactory | None = None) -> LoopUnderTest:
    """Point asyncio's loop-making at SPEC.  Call before any test is imported."""
    hook = _RunningLoopHook()
    module, default_factory = resolve(spec)
    factory = factory or default_factory
    loop = factory()
    loop_type = type(loop)
    loop.close()
    lut = hook.lut = LoopUnderTest(spec, factory, loop_type, module)

    from asyncio import unix_events

    runners: Any = asyncio.runners

    stand_in = _LoopClassStandIn(lut, unix_events._UnixSelectorEventLoop)
    policy: Any = (
        unix_events._UnixDefaultEventLoopPolicy
        if hasattr(unix_events, "_UnixDefaultEventLoopPolicy")
        else None
    )
    if policy is not None:
        # asyncio.new_event_loop, asyncio.run, asyncio.Runner,
        # IsolatedAsyncioTestCase and policy.new_event_loop all end here.
        policy._loop_factory = staticmethod(lut.new)
    else:
        # Pythons without policies: new_event_loop makes asyncio.EventLoop.
        asyncio.events.new_event_loop = asyncio.new_event_loop = lut.new
        runners.events.new_event_loop = lut.new
    for where in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(where, name):
                setattr(where, name, stand_in)
    _count_stdlib_loops(lut)
    return lut


def prepare(lut: LoopUnderTest, timeout: float) -> None:
    """Adapt the test suite's own helpers, after install()."""
    support: Any = importlib.import_module("test.support")

    # A test that waits for something in vain should say so before it counts
    # as hung, and not before that: its own 10 s are few for a slow machine.
    for name in ("LOOPBACK_TIMEOUT", "SHORT_TIMEOUT", "LONG_TIMEOUT"):
        setattr(support, name, 0.6 * timeout)
    _patch_script_helper(lut.spec)
    _share_patched_loggers()
    _adapt_utils(lut)
