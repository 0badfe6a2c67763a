"""An aiohttp application served inside the test's own loop, on a port of the system's choice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web


@asynccontextmanager
async def served(app: web.Application, *, shutdown_timeout: float = 5) -> AsyncIterator[str]:
    """Serves `app` with an `AppRunner`; gives its base URL, and shuts it down in order."""
    runner = web.AppRunner(app, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def visited(
    app: web.Application, *, shutdown_timeout: float = 5
) -> AsyncIterator[aiohttp.ClientSession]:
    """Serves `app`, and gives a client session whose base URL it is."""
    async with (
        served(app, shutdown_timeout=shutdown_timeout) as url,
        # Its own patience with a connection at rest is 15 s, for which a machine may stand still.
        aiohttp.ClientSession(
            url, connector=aiohttp.TCPConnector(keepalive_timeout=100)
        ) as session,
    ):
        yield session
