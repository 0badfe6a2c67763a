"""asyncio's stream reader and protocol, with hot methods of the native half.

asyncio's own functions make a stream's reader and protocol. A transport of ours that is given such
a protocol makes them instances of these classes, unless a program has changed asyncio's: then
theirs are the methods that run. Neither class adds a field.
"""

import asyncio
import asyncio.streams
from types import FunctionType

from . import _cloverleaf


class StreamReader(asyncio.StreamReader):
    """An `asyncio.StreamReader` that is fed and read natively."""


class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    """An `asyncio.StreamReaderProtocol` that feeds its reader natively."""


# The methods that have native versions, and those that these do not call although asyncio's do.
_READER = [
    "feed_data",
    "readline",
    "readuntil",
    "readexactly",
    "read",
    "_wakeup_waiter",
    "_wait_for_data",
]
_PROTOCOL = ["data_received", "_drain_helper"]


def _are_asyncios(cls: type, names: list[str]) -> bool:
    """Whether the methods are those that asyncio has defined, and no wrappers around them."""
    methods = [getattr(cls, name) for name in names]
    return all(
        isinstance(method, FunctionType) and method.__globals__ is vars(asyncio.streams)
        for method in methods
    )


def set_classes() -> None:
    """Let transports use these classes, unless asyncio's have been changed already."""
    reader, protocol = asyncio.StreamReader, asyncio.StreamReaderProtocol
    if _are_asyncios(reader, _READER) and _are_asyncios(protocol, _PROTOCOL):
        _cloverleaf.set_stream_classes(
            (StreamReader, reader, _READER), (StreamReaderProtocol, protocol, _PROTOCOL)
        )
