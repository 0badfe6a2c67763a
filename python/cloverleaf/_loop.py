"""`EventLoop`: the native loop and its Python half, joined."""

import asyncio
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from . import _cloverleaf
from ._executor import Executing
from ._later import Part, imported
from ._signals import Signals

if TYPE_CHECKING:
    from ._datagram import Datagrams
    from ._guest import Guest
    from ._inspect import Inspecting
    from ._processes import Processes
    from ._sendfile import Sendfile
    from ._start_tls import StartTLS
    from ._unix import UnixSockets
    from ._watchdog import Watching

    class _Parts(
        UnixSockets,
        Sendfile,
        Datagrams,
        StartTLS,
        Processes,
        Inspecting,
        Watching,
        Guest,
        Executing,
    ):
        """All that a loop consists of once all of it has been asked for."""
else:
    _Parts = Executing


class EventLoop(_Parts, Signals, _cloverleaf.Loop, asyncio.AbstractEventLoop):
    """An asyncio event loop that runs on Cloverleaf's engine.

    It may be subclassed. `backend` says which interfaces of the kernel it may use: "epoll" alone,
    "io_uring" beside it, which raises OSError where the kernel refuses that, or "auto", which then
    does without and tells so by `loop.backend`. Without the argument the environment variable
    CLOVERLEAF_BACKEND decides, and otherwise it is "auto".

    "io_uring" alone also sends the answers of many ready connections by one call: what a protocol
    writes when it is told of data may then wait while other protocols are told of theirs, for up
    to 50 microseconds and the length of one call of a protocol.

    `watchdog` has a thread tell, while it lasts, what keeps the loop from going on for longer than
    so many seconds: see `set_watchdog`. Without the argument the environment variable
    CLOVERLEAF_WATCHDOG decides, and otherwise nobody watches. Zero is nobody, too.
    """

    def __init__(
        self,
        *,
        backend: Literal["auto", "epoll", "io_uring"] | None = None,
        watchdog: float | None = None,
    ) -> None:
        # First, so that a loop that cannot be made leaves nothing to close.
        try:
            self._choose_backend(backend)
            seconds = 0.0
            if watchdog is not None or "CLOVERLEAF_WATCHDOG" in os.environ:
                seconds = imported("_watchdog").wanted(watchdog)
        except BaseException:
            self._close()  # now, for whoever keeps the exception keeps the loop
            raise
        super().__init__()
        if seconds:
            self.set_watchdog(seconds)


# What runs for every callback must not be searched for through all the bases.
_cloverleaf.attach_hot_methods(EventLoop)

# The parts that come later: where each is, and its methods.
_SOCKETS = (
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_accept",
    "sock_connect",
)
Part(EventLoop, "_sockets", "SocketOperations", _SOCKETS)
Part(EventLoop, "_resolve", "Resolving", ("getaddrinfo", "getnameinfo"))
Part(EventLoop, "_accepted", "Adopting", ("connect_accepted_socket",))
Part(EventLoop, "_connect", "Connecting", ("create_connection",))
Part(EventLoop, "_serve", "Listening", ("create_server",))
Part(EventLoop, "_unix", "UnixSockets", ("create_unix_connection", "create_unix_server"))
Part(EventLoop, "_datagram", "Datagrams", ("create_datagram_endpoint",))
Part(EventLoop, "_sendfile", "Sendfile", ("sock_sendfile", "sendfile"))
Part(EventLoop, "_start_tls", "StartTLS", ("start_tls",))
Part(EventLoop, "_pipes", "Pipes", ("connect_read_pipe", "connect_write_pipe"))
Part(EventLoop, "_processes", "Processes", ("subprocess_exec", "subprocess_shell"))
Part(EventLoop, "metrics", "Measuring", ("metrics",))
Part(EventLoop, "_watchdog", "Watching", ("set_watchdog",))
Part(EventLoop, "_inspect", "Inspecting", ("snapshot",))
Part(EventLoop, "_guest", "Guest", ("run_once", "fileno", "next_deadline"))


def chosen_factory(
    caller: str,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    backend: Literal["auto", "epoll", "io_uring"] | None,
    watchdog: float | None,
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loops of a caller who takes either a factory or our arguments."""
    if loop_factory is None:
        return functools.partial(EventLoop, backend=backend, watchdog=watchdog)
    for name, value in (("backend", backend), ("watchdog", watchdog)):
        if value is not None:
            raise TypeError(f"{caller}() takes a loop_factory or a {name}, not both")
    return loop_factory
