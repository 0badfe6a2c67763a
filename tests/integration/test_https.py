"""aiohttp's server and client over TLS: bodies, keep-alive, many at once, and endings."""

import asyncio
import hashlib
import io
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from parity.harness.certificates import (
    HOST,
    client_context,
    demanding_context,
    server_context,
)

from .conftest import Run

BODY = bytes(range(256)) * 8192  # 2 MiB


async def digest(request: web.Request) -> web.Response:
    seen = hashlib.sha256()
    async for chunk in request.content.iter_chunked(64 * 1024):
        seen.update(chunk)
    return web.Response(text=seen.hexdigest())


async def body(_: web.Request) -> web.Response:
    return web.Response(body=BODY)


async def who(request: web.Request) -> web.Response:
    assert request.transport is not None
    assert request.scheme == "https"
    certificate = request.transport.get_extra_info("peercert")
    names = [value for _, value in certificate["subjectAltName"]] if certificate else []
    return web.json_response(names)


async def shout(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data.upper())
    return socket


@asynccontextmanager
async def visited(*, demanding: bool = False) -> AsyncIterator[aiohttp.ClientSession]:
    """Serves over TLS, and gives a client session whose base URL it is."""
    app = web.Application(client_max_size=len(BODY))
    app.router.add_post("/digest", digest)
    app.router.add_get("/body", body)
    app.router.add_get("/who", who)
    app.router.add_get("/shout", shout)
    runner = web.AppRunner(app, shutdown_timeout=60)
    await runner.setup()
    try:
        context = demanding_context() if demanding else server_context()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        connector = aiohttp.TCPConnector(
            ssl=client_context(certificate=demanding), resolver=Loopback()
        )
        url = f"https://{HOST}:{port}"
        async with aiohttp.ClientSession(url, connector=connector) as session:
            yield session
    finally:
        await runner.cleanup()


class Loopback(aiohttp.abc.AbstractResolver):
    """Finds every name on this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: int = 0
    ) -> list[aiohttp.abc.ResolveResult]:
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": 2,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self) -> None:
        pass


def test_bodies_go_both_ways(run: Run) -> None:
    async def main() -> None:
        async with visited() as session:
            async with session.post("/digest", data=io.BytesIO(BODY)) as response:
                assert await response.text() == hashlib.sha256(BODY).hexdigest()
            async with session.get("/body") as response:
                assert await response.read() == BODY

    run(main())


def test_many_requests_at_once(run: Run) -> None:
    async def main() -> None:
        async with visited() as session:

            async def one(number: int) -> None:
                data = b"%d" % number * 5000
                async with session.post("/digest", data=data) as response:
                    assert await response.text() == hashlib.sha256(data).hexdigest()

            await asyncio.gather(*map(one, range(50)))

    run(main())


def test_client_certificates(run: Run) -> None:
    async def main() -> None:
        async with visited(demanding=True) as session, session.get("/who") as response:
            assert await response.json() == ["client@example.org"]

    run(main())


def test_websockets_over_tls(run: Run) -> None:
    async def main() -> None:
        async with visited() as session, session.ws_connect("/shout") as socket:
            for text in ("hello", "x" * 100_000):
                await socket.send_str(text)
                assert await socket.receive_str() == text.upper()

    run(main())


def test_a_download_that_the_client_gives_up(run: Run) -> None:
    async def main() -> None:
        async with visited() as session:
            async with session.get("/body") as response:
                assert await response.content.readexactly(1000) == BODY[:1000]
                response.close()
            async with session.get("/who") as response:
                assert await response.json() == []

    run(main())


def test_an_untrusted_server_is_refused(run: Run) -> None:
    async def main() -> None:
        async with visited() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get("/who", ssl=ssl.create_default_context())

    run(main())
