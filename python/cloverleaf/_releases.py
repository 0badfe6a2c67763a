"""What differs between the releases of one Python, asked of its asyncio.

A change of asyncio comes to several Pythons, each in a release of its own, and distributions take
some before that, so a version says little. What a method of asyncio's names says whether it has the
change. A method that is no longer there means a newer Python, which has all of them. Where no name
tells, the method is tried.
"""

from asyncio import selector_events
from asyncio.base_events import Server
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.sslproto import SSLProtocol
from asyncio.unix_events import _UnixSelectorEventLoop


def _names(owner: type, method: str, name: str, *, otherwise: bool) -> bool:
    """Tell whether a method names something, be it an attribute or a variable of its own."""
    code = getattr(getattr(owner, method, None), "__code__", None)
    return otherwise if code is None else name in code.co_names + code.co_varnames


class _Sender:
    """What `writelines` needs of a transport to which nothing is sent."""

    _eof = False
    _empty_waiter = None
    _conn_lost = 0
    _buffer: list[memoryview] = []  # noqa: RUF012  # nothing is added

    def _write_ready(self) -> None:
        pass


def _takes_no_piece_for_none() -> bool:
    transport = getattr(selector_events, "_SelectorSocketTransport", None)
    writelines = getattr(transport, "writelines", None)
    if writelines is None:
        return True
    try:
        writelines(_Sender(), [None])
    except TypeError:
        return False
    except AttributeError:
        return True  # a newer Python, which asks for more
    return True


# Being cancelled, `serve_forever` also closes the connections (gh-123720).
SERVERS_CLOSE_CLIENTS = _names(Server, "serve_forever", "close_clients", otherwise=True)

# `Process.wait()` does not wait for whoever else may hold the child's pipes (gh-119710).
WAITS_END_AT_EXIT = _names(
    BaseSubprocessTransport, "_process_exited", "_exit_waiters", otherwise=True
)

# A TLS shutdown has its time until the connection is lost, and not only until the peer's goodbye.
TLS_SHUTDOWNS_STAY_LIMITED = _names(
    SSLProtocol, "_on_shutdown_complete", "call_later", otherwise=True
)

# Sending a file moves its position also if nothing was sent.
SENDFILE_ALWAYS_MOVES = not _names(
    _UnixSelectorEventLoop, "_sock_sendfile_update_filepos", "total_sent", otherwise=False
)

# Sockets make no `memoryview` of a piece of `writelines` that is false, whatever it is (gh-155888).
WRITELINES_SKIPS_WHAT_IS_FALSE = _takes_no_piece_for_none()

# `writelines` does not look at its pieces once the connection is lost, or closed with all sent.
WRITELINES_SEES_THE_END_FIRST = _names(
    getattr(selector_events, "_SelectorSocketTransport", object),
    "writelines",
    "_conn_lost",
    otherwise=True,
)
