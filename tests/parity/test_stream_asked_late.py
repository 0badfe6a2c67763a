"""What a transport tells of a TCP connection that has ended, to whoever still finds it.

Nobody has asked it anything before. Each way to keep it until then is one of its own.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .harness.turns import turns, until
from .harness.types import Context, Loop

#: What each connection tells in the end, in the order of the connections.
Told = list[Any]


def tell(transport: asyncio.BaseTransport, told: Told) -> None:
    """Note all that the transport knows."""
    names = ("sockname", "peername")
    told.append(tuple(transport.get_extra_info(name) for name in names))
    told.append(transport.get_extra_info("socket").fileno())


class Plain(asyncio.Protocol):
    """Keeps its transport, as most do."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.held: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told.append("lost")


class Finalized(Plain):
    """Asks when it goes."""

    def __del__(self) -> None:
        tell(self.transport, self.told)


class Reviving(Plain):
    """Keeps the transport when it goes."""

    def __del__(self) -> None:
        self.told.append(self.transport)


class Helper:
    """Is one of the protocol's attributes, and asks when it goes."""

    def __init__(self, transport: asyncio.BaseTransport, told: Told) -> None:
        self.transport, self.told = transport, told

    def __del__(self) -> None:
        tell(self.transport, self.told)


class Helped(Plain):
    """Has a helper that knows the transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.held = Helper(transport, self.told)


class Weak(Plain):
    """Has somebody who finds the transport by a weak reference when the protocol goes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        told, found = self.told, weakref.ref(transport)
        told.append(weakref.ref(self, lambda _: told.append(found())))


class Handed(Plain):
    """Hands the transport to a callback that comes after the end."""

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        asyncio.get_running_loop().call_soon(tell, self.transport, self.told)


class Cyclic(Plain):
    """Is part of a cycle, which only the collector ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.held = self

    def __del__(self) -> None:
        tell(self.transport, self.told)


class Kept(Plain):
    """Gives the transport to somebody who keeps it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append(transport)


async def addresses(loop: Loop, protocol: type[Plain], told: Told, *, accepts: bool) -> Any:
    """Have a connection that the peer ends, and return its own and its peer's address."""
    if accepts:
        server = await loop.create_server(lambda: protocol(told), "127.0.0.1", 0)
        async with server:
            with socket.create_connection(server.sockets[0].getsockname()) as peer:
                ends = (peer.getpeername(), peer.getsockname())
            await until(lambda: "lost" in told)
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await loop.create_connection(lambda: protocol(told), *listener.getsockname())
            peer, address = listener.accept()
            ends = (address, peer.getsockname())
            peer.close()
            await until(lambda: "lost" in told)
    told.remove("lost")
    gc.collect()
    return ends


@pytest.mark.parametrize("accepts", [True, False], ids=["accepted", "made"])
@pytest.mark.parametrize("protocol", [Finalized, Helped, Handed, Cyclic])
async def test_who_asks_after_the_end_is_told(
    loop: Loop, protocol: type[Plain], accepts: bool
) -> None:
    told: Told = []
    ends = await addresses(loop, protocol, told, accepts=accepts)
    await until(lambda: len(told) == 2)
    assert told == [ends, -1]


@pytest.mark.parametrize("accepts", [True, False], ids=["accepted", "made"])
@pytest.mark.parametrize("protocol", [Reviving, Weak, Kept])
async def test_who_keeps_the_transport_may_ask_later(
    loop: Loop, protocol: type[Plain], accepts: bool
) -> None:
    kept: Told = []
    ends = await addresses(loop, protocol, kept, accepts=accepts)
    transport = kept.pop()
    told: Told = []
    tell(transport, told)
    assert told == [ends, -1]


@pytest.mark.parametrize("accepts", [True, False], ids=["accepted", "made"])
async def test_a_handler_may_ask_the_transport_that_failed(
    loop: Loop, contexts: list[Context], accepts: bool
) -> None:
    class Failing(Plain):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            pass

        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise ZeroDivisionError

    told: Told = []
    ends = await addresses(loop, Failing, told, accepts=accepts)
    await until(lambda: bool(contexts))
    transport = contexts[0]["handle"]._callback.__self__
    tell(transport, told)
    assert told == [ends, -1]


async def test_a_weak_reference_keeps_no_transport_of_a_server_that_is_closed(loop: Loop) -> None:
    told: Told = []
    made: list[Callable[[], Any]] = []

    class Noted(Plain):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            made.append(weakref.ref(transport))

    server = await loop.create_server(lambda: Noted(told), "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        await until(lambda: bool(made))
        server.close()
    await server.wait_closed()
    await until(lambda: "lost" in told)
    gc.collect()
    assert made[0]() is None


@pytest.mark.only("cloverleaf")  # the method is ours; on asyncio's the end is the loop's alone
async def test_the_method_of_a_transport_that_nobody_else_has_leaves_its_address(
    loop: Loop,
) -> None:
    made: list[Any] = []

    class Listed(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    server = await loop.create_server(Listed, "127.0.0.1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        with socket.create_connection(address):
            await until(lambda: bool(made))
            await turns(3)
            method = made.pop()._call_connection_lost
            method(None)
            assert method.__self__.get_extra_info("sockname") == address
