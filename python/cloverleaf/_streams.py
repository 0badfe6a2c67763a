"""asyncio's stream reader and protocol, with hot methods of the native half.

asyncio's own functions make a stream's reader and protocol. A transport of ours that is given such
a protocol makes them instances of these classes, unless a program has changed asyncio's: then
theirs are the methods that run. Neither class adds a field: what a reader has by its `__init__` is
kept by the native half, which has properties for it.
"""

import asyncio
import asyncio.streams
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import cast

from . import _cloverleaf


class StreamReader(asyncio.StreamReader):
    """An `asyncio.StreamReader` that is fed and read natively."""

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; before the class, put the others where asyncio's methods look."""
        if name == "__class__":
            _cloverleaf.give_back_attributes(self)
        super().__setattr__(name, value)


class Nowhere:
    """The loop of a future that belongs to none."""

    def get_debug(self) -> bool:
        """Say that nothing is to be remembered."""
        return False


class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    """An `asyncio.StreamReaderProtocol` that feeds its reader natively."""

    _client_connected_cb: Callable[..., object] | None
    _reject_connection: bool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the native half see the writer that a server's callback gets."""
        callback = self._client_connected_cb
        if callback is not None and not self._reject_connection:
            self._client_connected_cb = partial(_cloverleaf.connected, self, callback)
        super().connection_made(transport)


class StreamWriter(asyncio.StreamWriter):
    """An `asyncio.StreamWriter` that is drained natively."""


# The methods that have native versions, and those that these do not call although asyncio's do.
_READER = [
    "feed_data",
    "readline",
    "readuntil",
    "readexactly",
    "read",
    "exception",
    "_wakeup_waiter",
    "_wait_for_data",
]
_PROTOCOL = ["data_received", "_drain_helper"]
_WRITER = ["drain"]
# The loop's methods by which asyncio's futures are made and wake their tasks.
_LOOP = ["create_future", "call_soon"]


def _are_asyncios(cls: type, names: list[str]) -> bool:
    """Whether the methods are those that asyncio has defined, and no wrappers around them."""
    methods = [getattr(cls, name) for name in names]
    return all(
        isinstance(method, FunctionType) and method.__globals__ is vars(asyncio.streams)
        for method in methods
    )


def set_classes(loop: type[_cloverleaf.Loop]) -> None:
    """Let transports of these loops use the classes, unless asyncio's have been changed already."""
    reader, protocol = asyncio.StreamReader, asyncio.StreamReaderProtocol
    writer = asyncio.StreamWriter
    are_asyncios = [
        _are_asyncios(reader, _READER),
        _are_asyncios(protocol, _PROTOCOL),
        _are_asyncios(writer, _WRITER),
    ]
    if all(are_asyncios):
        done: asyncio.Future[None] = asyncio.Future(loop=cast(asyncio.AbstractEventLoop, Nowhere()))
        done.set_result(None)
        _cloverleaf.set_stream_classes(
            (StreamReader, reader, _READER),
            (StreamReaderProtocol, protocol, _PROTOCOL),
            (StreamWriter, writer, _WRITER),
            (loop, _LOOP),
            done,
        )
