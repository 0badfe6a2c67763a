"""`EventLoop`: the native loop and its Python half, joined."""

import asyncio
from typing import Literal

from . import _cloverleaf
from ._datagram import Datagrams
from ._processes import Processes
from ._sendfile import Sendfile
from ._signals import Signals
from ._start_tls import StartTLS
from ._streams import set_classes
from ._transports import (
    DatagramTransport,
    ReadPipeTransport,
    ShownSocket,
    SSLTransport,
    StreamTransport,
    WritePipeTransport,
)
from ._unix import UnixSockets


class EventLoop(
    UnixSockets,
    Sendfile,
    Datagrams,
    StartTLS,
    Processes,
    Signals,
    _cloverleaf.Loop,
    asyncio.AbstractEventLoop,
):
    """An asyncio event loop that runs on Cloverleaf's engine.

    It may be subclassed. `backend` says which interfaces of the kernel it may use: "epoll" alone,
    "io_uring" beside it, which raises OSError where the kernel refuses that, or "auto", which then
    does without and tells so by `loop.backend`. Without the argument the environment variable
    CLOVERLEAF_BACKEND decides, and otherwise it is "auto".

    "io_uring" alone also sends the answers of many ready connections by one call: what a protocol
    writes when it is told of data may then wait while other protocols are told of theirs, for up
    to 50 microseconds and the length of one call of a protocol.
    """

    def __init__(self, *, backend: Literal["auto", "epoll", "io_uring"] | None = None) -> None:
        # First, so that a loop that cannot be made leaves nothing to close.
        try:
            self._choose_backend(backend)
        except BaseException:
            self._close()  # now, for whoever keeps the exception keeps the loop
            raise
        super().__init__()


# What runs for every callback must not be searched for through all the bases.
_cloverleaf.attach_hot_methods(EventLoop)
_cloverleaf.set_transport_class(StreamTransport)
_cloverleaf.set_transport_class(DatagramTransport)
_cloverleaf.set_transport_class(ReadPipeTransport)
_cloverleaf.set_transport_class(WritePipeTransport)
_cloverleaf.set_transport_class(ShownSocket)
_cloverleaf.set_ssl_transport_class(SSLTransport)
set_classes(EventLoop)
