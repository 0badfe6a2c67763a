"""Echo through the loop's socket methods: a coroutine and two awaits per message."""

from __future__ import annotations

import asyncio
import socket

from benchmarks.suite.workload import ServerWorkload, Traffic


async def answer(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """Echoes until the peer is done."""
    with connection:
        while received := await loop.sock_recv(connection, 64 * 1024):
            await loop.sock_sendall(connection, received)


async def accept(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
    """Answers every connection in a task of its own."""
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        task = loop.create_task(answer(loop, connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def serve(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> object:
    """Accepts in the background."""
    return loop.create_task(accept(loop, listener))


WORKLOADS = (
    ServerWorkload(
        "sock-recv-sendall",
        "sock_recv and sock_sendall echo, 1 KiB, 64 conn.",
        "message",
        serve,
        Traffic(connections=64),
    ),
)
