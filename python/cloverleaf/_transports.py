"""The classes that the native half instantiates for streams, datagrams, TLS, pipes and sockets.

All of their work is native; deriving them here gives them weak references, a `__dict__` for
whatever a program likes to hang on them, a repr, and the marks by which asyncio and others know
what they are good for. Whoever has a transport made imports this module before.
"""

import asyncio
from asyncio.constants import _SendfileMode
from typing import Any, Self

from . import _cloverleaf
from ._releases import TLS_SHUTDOWNS_STAY_LIMITED
from ._streams import set_classes


class StreamTransport(_cloverleaf.StreamTransportBase):
    """A connected stream: an `asyncio.Transport`."""

    _sendfile_compatible = _SendfileMode.TRY_NATIVE
    _start_tls_compatible = True

    def __repr__(self) -> str:
        return _socket_repr(self)


class ShownSocket(_cloverleaf.ShownSocketBase):
    """What `get_extra_info("socket")._sock` is while nobody does more than look at it.

    It passes for a `socket.socket`. Whatever it does not know is asked of the real one.
    """

    __slots__ = ("__weakref__",)

    # Python looks for these two at the class alone, and the native half asks the real socket.
    def __enter__(self) -> Any:
        return self.__getattribute__("__enter__")()

    def __exit__(self, *reason: object) -> None:
        self.__getattribute__("__exit__")(*reason)


class DatagramTransport(_cloverleaf.DatagramTransportBase, asyncio.Transport):
    """An endpoint for datagrams: an `asyncio.DatagramTransport`.

    As on asyncio it is an `asyncio.Transport` as well, though it is no stream and refuses to
    `write()`.
    """

    def __repr__(self) -> str:
        return _socket_repr(self)


class SSLTransport(_cloverleaf.SSLTransportBase, asyncio.Protocol):
    """TLS over another transport, whose protocol it is.

    Named as asyncio's, because programs (and CPython's tests) look for "ssl" in the name.
    """

    _start_tls_compatible = True
    # A file's bytes must be encrypted, so the kernel cannot send them by itself.
    _sendfile_compatible = _SendfileMode.FALLBACK

    # Private in asyncio, which has a protocol beside the transport, and yet asked for by programs.
    @property
    def _ssl_protocol(self) -> Self:
        return self

    @property
    def _sslcontext(self) -> Any:
        return self.get_extra_info("sslcontext")

    def __repr__(self) -> str:
        inner = self._get_inner()
        word = "closed" if inner is None else "closing" if self.is_closing() else "open"
        return f"<{type(self).__name__} {word}{'' if inner is None else f' over {inner!r}'}>"


class ReadPipeTransport(_cloverleaf.ReadPipeTransportBase):
    """The end of a pipe that is read: an `asyncio.ReadTransport`."""

    def __repr__(self) -> str:
        return _pipe_repr(self, "polling" if self.is_reading() else "idle")


class WritePipeTransport(_cloverleaf.WritePipeTransportBase):
    """The end of a pipe that is written: an `asyncio.WriteTransport`.

    As on asyncio it is a whole `asyncio.Transport`, although it cannot read.
    """

    def __repr__(self) -> str:
        size = self.get_write_buffer_size()
        return _pipe_repr(self, f"{'polling' if size else 'idle'} bufsize={size}")


def _socket_repr(transport: StreamTransport | DatagramTransport) -> str:
    fd, is_closed = transport._shown_descriptor()
    words = [type(transport).__name__]
    if is_closed:
        words.append("closed")
    elif transport.is_closing():
        words.append("closing")
    words.append(f"fd={fd}")
    if not is_closed and not _is_loop_closed(transport):
        size = transport.get_write_buffer_size()
        words.append(f"read={'polling' if transport.is_reading() else 'idle'}")
        words.append(f"write=<{'polling' if size else 'idle'}, bufsize={size}>")
    return f"<{' '.join(words)}>"


def _pipe_repr(transport: ReadPipeTransport | WritePipeTransport, doing: str) -> str:
    fd, is_closed = transport._shown_descriptor()
    words = [type(transport).__name__]
    if is_closed:
        # Twice, as asyncio says it: of the transport, and of its pipe.
        words.append("closed")
        doing = "closed"
    elif transport.is_closing():
        words.append("closing")
    if not is_closed and _is_loop_closed(transport):
        doing = "open"
    words += [f"fd={fd}", doing]
    return f"<{' '.join(words)}>"


def _is_loop_closed(
    transport: StreamTransport | DatagramTransport | ReadPipeTransport | WritePipeTransport,
) -> bool:
    event_loop = transport._get_loop()
    return event_loop is not None and event_loop.is_closed()


_cloverleaf.set_transport_class(StreamTransport)
_cloverleaf.set_transport_class(DatagramTransport)
_cloverleaf.set_transport_class(ReadPipeTransport)
_cloverleaf.set_transport_class(WritePipeTransport)
_cloverleaf.set_transport_class(ShownSocket)
_cloverleaf.set_ssl_transport_class(SSLTransport, TLS_SHUTDOWNS_STAY_LIMITED)
set_classes()
