"""Cloverleaf: asyncio's event loop, rebuilt in Rust.

`cloverleaf.run(main())` does what `asyncio.run(main())` does, on Cloverleaf's loop. Programs that
bring their own runner take `cloverleaf.new_event_loop` as their loop factory.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ._later import imported
from ._loop import EventLoop, chosen_factory

if TYPE_CHECKING:
    from . import files, metrics, snapshots
    from ._drain import Drained, drain
    from ._dump import dump_on_signal
    from ._file_open import open  # noqa: A004  # it is ours
    from ._nested import allow_nested, run_nested
    from ._policy import EventLoopPolicy
    from ._server import Server
    from ._watchdog import Stall
    from ._worker import Worker, WorkerError
    from ._workers import run_workers

    __version__: str

__all__ = [
    "Drained",
    "EventLoop",
    "EventLoopPolicy",
    "Server",
    "Stall",
    "Worker",
    "WorkerError",
    "__version__",
    "allow_nested",
    "drain",
    "dump_on_signal",
    "files",
    "install",
    "metrics",
    "new_event_loop",
    "open",
    "run",
    "run_nested",
    "run_workers",
    "snapshots",
]

_T = TypeVar("_T")

if "t" in sys.abiflags:
    # What it registers with `atexit` is called behind all that the program registers from here on.
    imported("_file_ends")

# What lies in modules that are imported when it is asked for.
_LATER = {
    "Drained": "_drain",
    "Server": "_server",
    "Stall": "_watchdog",
    "Worker": "_worker",
    "WorkerError": "_worker",
    "allow_nested": "_nested",
    "drain": "_drain",
    "dump_on_signal": "_dump",
    "open": "_file_open",
    "run_nested": "_nested",
    "run_workers": "_workers",
}


def new_event_loop(
    *,
    backend: Literal["auto", "epoll", "io_uring"] | None = None,
    watchdog: float | None = None,
) -> EventLoop:
    """Make an event loop; see `EventLoop` for what `backend` and `watchdog` mean."""
    return EventLoop(backend=backend, watchdog=watchdog)


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    backend: Literal["auto", "epoll", "io_uring"] | None = None,
    watchdog: float | None = None,
) -> _T:
    """Run a coroutine in a new loop, and close the loop after it, as `asyncio.run` does.

    The loop is what `loop_factory` makes, or else a loop of ours with this `backend` and this
    `watchdog`.
    """
    if asyncio.events._get_running_loop() is not None:
        raise RuntimeError("cloverleaf.run() cannot be called from a running event loop")
    factory = chosen_factory("run", loop_factory, backend, watchdog)
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(main)


def install() -> None:
    """Make Cloverleaf's loop the one that asyncio's own functions use, by the loop policy.

    Prefer `run`, which needs no policy. Python deprecates policies from 3.14 on, where this still
    works and warns of nothing; where Python has no policies any more, it raises RuntimeError.
    """
    imported("_policy").install()


def __getattr__(name: str) -> Any:
    """What most programs do not ask for is found when it is asked for."""
    if name in ("files", "metrics", "snapshots"):
        return imported(name)
    if name in _LATER:
        found = globals()[name] = getattr(imported(_LATER[name]), name)
        return found
    if name == "EventLoopPolicy":
        try:
            return imported("_policy").EventLoopPolicy
        except AttributeError:
            raise AttributeError("this Python has no event loop policies") from None
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("cloverleaf")
        except PackageNotFoundError:
            raise AttributeError("cloverleaf is not installed, so it has no version") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
