"""asyncio's stream classes, with hot methods of the native half.

The streams of a server, and the readers of a child's output, are made of these classes at once, by
asyncio's own code. What else asyncio's functions make, a transport of ours that is given such a
protocol makes instances of these classes. Neither is done if a program has changed asyncio's: then
theirs are the methods that run. No class adds a field: what a reader has by its `__init__` is kept
by the native half, which has properties for it.
"""

import asyncio
import asyncio.streams
import asyncio.subprocess
from collections import deque
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any, TypeVar, cast

from . import _cloverleaf

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


def _become(reader: asyncio.StreamReader, cls: type) -> None:
    """Make a reader one of another class, with its attributes where asyncio's methods look."""
    _cloverleaf.give_back_attributes(reader)
    vars(object)["__class__"].__set__(reader, cls)


class StreamReader(asyncio.StreamReader):
    """An `asyncio.StreamReader` that is fed and read natively."""

    __class__ = property(type, _become)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Keep natively what asyncio's method sets."""
        _cloverleaf.prepare_reader(self)
        asyncio.StreamReader.__init__(self, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Give a copy what one of asyncio's gets."""
        return _cloverleaf.attributes_of(self)


class Nowhere:
    """The loop of a future that belongs to none."""

    def get_debug(self) -> bool:
        """Say that nothing is to be remembered."""
        return False


class _DrainWaiters:
    """The deque of those that wait in `drain()`: 760 bytes, for which few connections have a use.

    The native half takes an empty one away; who asks for it gets one that the protocol keeps.
    """

    def __get__(
        self, protocol: "StreamReaderProtocol | None", cls: type
    ) -> "deque[asyncio.Future[None]]":
        """Make it."""
        if protocol is None:
            raise AttributeError(f"type object '{cls.__name__}' has no attribute '_drain_waiters'")
        made: deque[asyncio.Future[None]] = vars(protocol).setdefault("_drain_waiters", deque())
        return made


def _have_waiters(protocol: "StreamReaderProtocol", cls: type) -> None:
    """Make a protocol one of another class, with all the attributes that asyncio gave it."""
    _ = protocol._drain_waiters
    vars(object)["__class__"].__set__(protocol, cls)


class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    """An `asyncio.StreamReaderProtocol` that feeds its reader natively."""

    __class__ = property(type, _have_waiters)
    _drain_waiters = _DrainWaiters()

    def __getstate__(self) -> object:
        """Give a copy what one of asyncio's gets."""
        _ = self._drain_waiters
        return super().__getstate__()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Do as asyncio's method does, with a writer of ours for a server's callback."""
        if _connection_made is not None and _are_still_asyncios():
            _connection_made(self, transport)
        else:
            super().connection_made(transport)


class StreamWriter(asyncio.StreamWriter):
    """An `asyncio.StreamWriter` that is drained natively."""


# asyncio's own code, for which our classes are asyncio's.
_GLOBALS = {
    **vars(asyncio.streams),
    "StreamReader": StreamReader,
    "StreamReaderProtocol": StreamReaderProtocol,
    "StreamWriter": StreamWriter,
}
_ASYNCIOS = (asyncio.StreamReader, asyncio.StreamReaderProtocol, asyncio.StreamWriter)
_ASYNCIOS_CONNECTION_MADE = asyncio.StreamReaderProtocol.connection_made


# The same for `asyncio.subprocess`. The writer of a child's input has no reader to look at, and
# stays asyncio's.
_GLOBALS_OF_SUBPROCESS = {
    **vars(asyncio.subprocess),
    "streams": SimpleNamespace(
        StreamReader=StreamReader, StreamWriter=asyncio.streams.StreamWriter
    ),
}
_ASYNCIOS_PROCESS_PROTOCOL = asyncio.subprocess.SubprocessStreamProtocol
_ASYNCIOS_PROCESS_MADE = _ASYNCIOS_PROCESS_PROTOCOL.connection_made


def _with_ours(function: FunctionType, names: dict[str, Any] = _GLOBALS) -> FunctionType:
    """A function of asyncio's that makes objects of our classes."""
    return FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )


def _is_of(function: Any, module: Any) -> bool:
    """Whether it is a function that a module has defined, and nothing that passes for one."""
    return type(function) is FunctionType and function.__globals__ is vars(module)


# None if a program has put something else there before we came.
_connection_made = (
    _with_ours(_ASYNCIOS_CONNECTION_MADE)  # type: ignore[arg-type]
    if _is_of(_ASYNCIOS_CONNECTION_MADE, asyncio.streams)
    else None
)


def _are_still_asyncios() -> bool:
    """Whether nobody has changed what asyncio makes streams of, nor what makes them."""
    streams = asyncio.streams
    return (
        (streams.StreamReader, streams.StreamReaderProtocol, streams.StreamWriter) == _ASYNCIOS
        and asyncio.StreamReaderProtocol.connection_made is _ASYNCIOS_CONNECTION_MADE
        and _cloverleaf.streams_are_intact()
    )


_process_made = (
    _with_ours(_ASYNCIOS_PROCESS_MADE, _GLOBALS_OF_SUBPROCESS)  # type: ignore[arg-type]
    if _is_of(_ASYNCIOS_PROCESS_MADE, asyncio.subprocess)
    else None
)


def meeting_of(protocol: Any) -> Callable[[asyncio.SubprocessTransport], object]:
    """The `connection_made` of a child's protocol, making readers of ours if it is asyncio's."""
    if (
        _process_made is not None
        and type(protocol) is _ASYNCIOS_PROCESS_PROTOCOL
        and "connection_made" not in vars(protocol)
        and _ASYNCIOS_PROCESS_PROTOCOL.connection_made is _ASYNCIOS_PROCESS_MADE
        and vars(asyncio.subprocess).get("streams") is asyncio.streams
        and _are_still_asyncios()
    ):
        return MethodType(_process_made, protocol)
    made: Callable[[asyncio.SubprocessTransport], object] = protocol.connection_made
    return made


def _factories_of(starting: Callable[..., object]) -> Iterator[CodeType]:
    """The code of the functions by which asyncio's servers of streams make their protocols."""
    code = getattr(starting, "__code__", None)
    for constant in getattr(code, "co_consts", ()):
        if isinstance(constant, CodeType) and constant.co_name == "factory":
            yield constant


_FACTORIES = [
    *_factories_of(asyncio.start_server),
    *_factories_of(getattr(asyncio, "start_unix_server", asyncio.start_server)),
]


def making_ours(factory: Callable[[], _P]) -> Callable[[], _P]:
    """A factory that makes streams of our classes at once, if this is one that makes asyncio's."""
    code = getattr(factory, "__code__", None)
    if not (any(code is each for each in _FACTORIES) and _is_of(factory, asyncio.streams)):
        return factory
    ours = cast(Callable[[], _P], _with_ours(cast(FunctionType, factory)))

    def make() -> _P:
        return ours() if _are_still_asyncios() else factory()

    return make


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
    return all(_is_of(getattr(cls, name), asyncio.streams) for name in names)


def set_classes() -> None:
    """Let our transports use the classes, unless asyncio's have been changed already."""
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
            _LOOP,
            done,
        )
