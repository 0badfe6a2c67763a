"""Servers as people run them: uvicorn with httptools, aiohttp, and websockets."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.suite.workload import ServerWorkload, Traffic

BODY = "Hello, world!"

Send = Callable[[dict[str, Any]], Awaitable[None]]
HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", str(len(BODY)).encode()),
]


async def application(scope: dict[str, Any], receive: object, send: Send) -> None:
    """An ASGI application that answers everything with `BODY`."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY.encode()})


async def serve_uvicorn(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> object:
    """uvicorn, told to use the loop that runs."""
    uvicorn = importlib.import_module("uvicorn")
    config = uvicorn.Config(
        application,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
    )
    return loop.create_task(uvicorn.Server(config).serve(sockets=[listener]))


async def serve_aiohttp(_: asyncio.AbstractEventLoop, listener: socket.socket) -> object:
    """aiohttp's application server."""
    web = importlib.import_module("aiohttp.web")

    async def hello(request: object) -> Any:
        return web.Response(text=BODY)

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=1024).start()
    return runner


async def serve_websockets(_: asyncio.AbstractEventLoop, listener: socket.socket) -> object:
    """websockets' echo server. It neither compresses nor pings, which the load does not speak."""
    server = importlib.import_module("websockets.asyncio.server")

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    return await server.serve(echo, sock=listener, compression=None, ping_interval=None)


TRAFFIC = Traffic(mode="http", connections=64, body=BODY)

WORKLOADS = (
    ServerWorkload(
        "http-uvicorn",
        "uvicorn with httptools, plain text, 64 conn.",
        "request",
        serve_uvicorn,
        TRAFFIC,
        floor=False,
    ),
    ServerWorkload(
        "http-aiohttp",
        "aiohttp server, plain text, 64 conn.",
        "request",
        serve_aiohttp,
        TRAFFIC,
        floor=False,
    ),
    ServerWorkload(
        "websockets-echo",
        "websockets echo 1 KiB, 64 conn.",
        "message",
        serve_websockets,
        Traffic(mode="websocket", connections=64),
        floor=False,
    ),
)
