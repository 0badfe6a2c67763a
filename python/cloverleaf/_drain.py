"""`drain`: the end of a server in bounded time, in which its connections may end by themselves."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

from ._cloverleaf import accept_waiting
from ._server import Server
from ._transports import SSLTransport


@dataclass(frozen=True, slots=True)
class Drained:
    """How the connections that a server had when it was drained have ended: so many each way."""

    # By themselves or by their peers, within the time that they had.
    ended: int
    # After they were told to close, when that time was over.
    closed: int
    # Because they were aborted, as they did not close within the grace. What they still had to send
    # is lost.
    aborted: int


async def drain(
    server: asyncio.AbstractServer,
    timeout: float | None,  # noqa: ASYNC109  # it does not end the call
    *,
    grace: float = 1.0,
) -> Drained:
    """End a server: listen no more, let its connections end, then close them, then abort them.

    Who has called already is still accepted. Then nobody is, and the connections have `timeout`
    seconds to end by themselves, or for ever if that is None. Those that are left are closed, which
    sends what they have written, and with TLS tells the peer; after `grace` seconds more, the rest
    is aborted. It returns when `connection_lost` of the last one has been called. `serve_forever`
    ends then, too, and not before.

    A drain that is cancelled leaves a server that does not listen and the connections as they are.
    It can be drained again; `close` then ends `serve_forever`.
    """
    if not isinstance(server, Server):
        raise TypeError(f"drain() needs a server of Cloverleaf's, not {type(server).__name__}")
    if timeout is not None:
        _check(timeout, "timeout")
    _check(grace, "grace")
    loop = server._loop
    if asyncio.get_running_loop() is not loop:
        raise RuntimeError("drain() must be called in the loop of its server")
    try:
        # As callbacks of their own, for they call protocols, which are no part of this task.
        for number in server._numbers:
            loop.call_soon(accept_waiting, loop, number)
        await asyncio.tasks.sleep(0)
    finally:
        server._stop_listening()
        if not server._clients:
            server._wake_waiters()
    begun = len(server._clients)
    await server._wait_until_gone(timeout)
    told = len(server._clients)
    if told:
        for transport in server._clients.alive():
            _outermost(transport).close()
        await server._wait_until_gone(grace)
    aborted = len(server._clients)
    if aborted:
        server.abort_clients()
        await server._wait_until_gone(None)
    server._end_forever()
    return Drained(ended=begun - told, closed=told - aborted, aborted=aborted)


def _outermost(transport: asyncio.Transport) -> asyncio.Transport:
    """Return the TLS over a transport, if there is any, which has a goodbye to say."""
    protocol: Any = transport.get_protocol()
    while isinstance(protocol, SSLTransport):
        transport, protocol = protocol, protocol.get_protocol()
    return transport


def _check(seconds: float, name: str) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a number of seconds from zero on, not {seconds!r}")
