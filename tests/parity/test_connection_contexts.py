"""Contexts of a connection's callbacks: from Python 3.15 on they share one of its own."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from .harness.certificates import HOST, client_context, server_context
from .harness.protocols import Recorder
from .harness.types import Loop

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

since_3_15 = pytest.mark.skipif(
    sys.version_info < (3, 15), reason="until Python 3.14 each kind of callback has its own context"
)
until_3_14 = pytest.mark.skipif(
    sys.version_info >= (3, 15), reason="from Python 3.15 on a connection has one context"
)
tls_too = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class Chaining(Recorder):
    """Notes for each call which call has set the variable, and sets it."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.links: list[tuple[str, str]] = []
        variable.set("factory")

    def link(self, name: str) -> None:
        if self.links[-1:] != [(name, name)]:
            self.links.append((name, variable.get()))
        variable.set(name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.link("made")
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.link("data")
        super().data_received(data)

    def eof_received(self) -> bool | None:
        self.link("eof")
        return super().eof_received()

    def resume_writing(self) -> None:
        self.link("resume")
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.link("lost")
        super().connection_lost(exc)


@asynccontextmanager
async def connected(loop: Loop, *, tls: bool) -> AsyncIterator[tuple[Chaining, Chaining]]:
    """Give both protocols of a connection, each begun while the variable named its maker."""
    served: asyncio.Future[Chaining] = loop.create_future()

    def serve() -> Chaining:
        protocol = Chaining(loop)
        served.set_result(protocol)
        return protocol

    variable.set("server's maker")
    server = await loop.create_server(
        serve, "127.0.0.1", 0, ssl=server_context() if tls else None, start_serving=False
    )
    variable.set("who starts the server")
    await server.start_serving()
    variable.set("client's maker")
    transport, client = await loop.create_connection(
        lambda: Chaining(loop),
        *server.sockets[0].getsockname(),
        ssl=client_context() if tls else None,
        server_hostname=HOST if tls else None,
    )
    variable.set("test")
    theirs = await served
    await theirs.made
    server.close()
    yield client, theirs
    transport.close()
    await asyncio.wait([client.lost, theirs.lost])
    await server.wait_closed()


async def exchange(client: Chaining, server: Chaining) -> None:
    """Let every call of the two protocols come, some of them asked for from here."""
    client.transport.write(b"first")
    assert await server.received(5) == b"first"
    server.transport.pause_reading()
    client.transport.set_write_buffer_limits(high=1)
    size = 0
    while "pause_writing" not in client.calls:
        client.transport.write(bytes(1 << 20))
        size += 1 << 20
    variable.set("who resumes")
    server.transport.resume_reading()
    await server.received(size)
    client.transport.close()
    await client.lost
    await server.lost


@since_3_15
@tls_too
async def test_the_callbacks_of_a_connection_share_one_context(loop: Loop, tls: bool) -> None:
    async with connected(loop, tls=tls) as (client, server):
        await exchange(client, server)
    made, *others = client.links
    assert made == ("made", "client's maker")
    assert others == [
        (name, before) for (before, _), (name, _) in zip(client.links, others, strict=False)
    ]
    assert {name for name, _ in others} >= ({"lost"} if tls else {"resume", "lost"})
    assert server.links[:2] == [("made", "factory"), ("data", "made")]
    assert server.links[-2:] == [("eof", "data"), ("lost", "eof")]


@tls_too
async def test_no_client_of_a_server_changes_the_context_of_another(loop: Loop, tls: bool) -> None:
    seen: list[str] = []

    class Noting(Recorder):
        def __init__(self) -> None:
            super().__init__(loop)
            seen.append(variable.get())
            variable.set("changed by a client")

    variable.set("server's maker")
    served: list[Noting] = []

    def serve() -> Noting:
        served.append(Noting())
        return served[-1]

    server = await loop.create_server(
        serve, "127.0.0.1", 0, ssl=server_context() if tls else None, start_serving=False
    )
    variable.set("who starts the server")
    await server.start_serving()
    for _ in range(3):
        client = Recorder(loop)
        await loop.create_connection(
            lambda client=client: client,
            *server.sockets[0].getsockname(),
            ssl=client_context() if tls else None,
            server_hostname=HOST if tls else None,
        )
        client.transport.close()
        await client.lost
    await asyncio.wait([protocol.lost for protocol in served])
    server.close()
    await server.wait_closed()
    # Until Python 3.14 the context is that of whoever starts the server.
    expected = "server's maker" if sys.version_info >= (3, 15) else "who starts the server"
    assert seen == [expected] * 3


@until_3_14
async def test_each_kind_of_callback_has_a_context(loop: Loop) -> None:
    async with connected(loop, tls=False) as (client, server):
        await exchange(client, server)
    assert client.links[0] == ("made", "factory")
    assert server.links[:2] == [("made", "factory"), ("data", "factory")]
    # Reading was resumed from another context.
    assert ("data", "who resumes") in server.links
    assert server.links[-2:] == [("eof", "data"), ("lost", "eof")]
