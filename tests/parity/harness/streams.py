"""Streams as a server's callback and `open_connection` give them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .links import tcp_pair

Stream = tuple[Any, Any, socket.socket]


@asynccontextmanager
async def stream(limit: int = 64) -> AsyncIterator[Stream]:
    """A stream's reader and writer, and the plain socket at its other end."""
    ours, peer = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=ours, limit=limit)
    try:
        with peer:
            yield reader, writer, peer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


@asynccontextmanager
async def served(side: str, limit: int = 64 << 10) -> AsyncIterator[Stream]:
    """A stream's reader and writer on this side, and the plain socket at its other end."""
    if side == "client":
        ours, peer = tcp_pair()
        reader, writer = await asyncio.open_connection(sock=ours, limit=limit)
        with peer:
            yield reader, writer, peer
            writer.transport.abort()
        return
    connected: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()

    async def serve(reader: Any, writer: Any) -> None:
        connected.set_result((reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=limit)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        reader, writer = await connected
        yield reader, writer, peer
        writer.transport.abort()
    server.close()


both_sides = pytest.mark.parametrize("side", ["client", "server"])
