"""aiohttp's server and client against each other: requests, bodies, keep-alive and many at once."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from .aiohttp_site import served, visited
from .conftest import Run

MIB = 1024 * 1024


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def mirror(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type=request.content_type)


async def digest(request: web.Request) -> web.Response:
    seen = hashlib.sha256()
    async for chunk in request.content.iter_chunked(64 * 1024):
        seen.update(chunk)
    return web.Response(text=seen.hexdigest())


async def count_up(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for number in range(200):
        await response.write(b"%d\n" % number)
        if number % 50 == 0:
            await asyncio.sleep(0)
    await response.write_eof()
    return response


async def peer(request: web.Request) -> web.Response:
    assert request.transport is not None
    return web.json_response(request.transport.get_extra_info("peername")[1])


def application() -> web.Application:
    app = web.Application(client_max_size=16 * MIB)
    app.router.add_get("/", hello)
    app.router.add_post("/mirror", mirror)
    app.router.add_post("/digest", digest)
    app.router.add_get("/count", count_up)
    app.router.add_get("/peer", peer)
    return app


def test_get_and_post_are_answered(run: Run) -> None:
    async def main() -> None:
        async with visited(application()) as session:
            async with session.get("/") as response:
                assert (response.status, await response.text()) == (200, "hello")
                assert response.headers["Content-Length"] == "5"
            async with session.post("/mirror", json={"leaf": 4}) as response:
                assert await response.json() == {"leaf": 4}
            async with session.get("/nowhere") as response:
                assert response.status == 404

    run(main())


def test_a_chunked_response_arrives_whole_and_in_order(run: Run) -> None:
    async def main() -> None:
        async with visited(application()) as session:
            async with session.get("/count") as response:
                assert response.headers["Transfer-Encoding"] == "chunked"
                lines = [int(line) async for line in response.content]
            assert lines == list(range(200))

    run(main())


def test_a_chunked_request_body_arrives_whole(run: Run) -> None:
    block = bytes(range(256)) * 64

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield block
            await asyncio.sleep(0)

    async def main() -> None:
        async with (
            visited(application()) as session,
            session.post("/digest", data=blocks()) as response,
        ):
            assert await response.text() == hashlib.sha256(block * 50).hexdigest()

    run(main())


def test_eight_mebibytes_go_up_and_come_back(run: Run) -> None:
    body = b"".join(number.to_bytes(8, "big") for number in range(MIB))

    async def main() -> None:
        async with (
            visited(application()) as session,
            session.post("/mirror", data=io.BytesIO(body)) as response,
        ):
            assert await response.read() == body

    run(main())


def test_keep_alive_uses_one_connection(run: Run) -> None:
    async def main() -> None:
        async with visited(application()) as session:
            ports = set()
            for _ in range(20):
                async with session.get("/peer") as response:
                    ports.add(await response.json())
            assert len(ports) == 1
            async with session.get("/peer", headers={"Connection": "close"}) as response:
                assert await response.json() in ports
            async with session.get("/peer") as response:
                assert await response.json() not in ports

    run(main())


@pytest.mark.parametrize("limit", [100, 7], ids=["100-connections", "7-connections"])
def test_a_hundred_requests_at_once_each_get_their_own_answer(run: Run, limit: int) -> None:
    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=limit)
        async with (
            served(application()) as url,
            aiohttp.ClientSession(url, connector=connector) as session,
        ):

            async def ask(number: int) -> None:
                body = f"request {number} ".encode() * (number * 40 + 1)
                async with session.post("/mirror", data=body) as response:
                    assert await response.read() == body

            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(ask(number))

    run(main())


def test_a_client_timeout_ends_the_request_and_not_the_session(run: Run) -> None:
    async def main() -> None:
        never = asyncio.Event()

        async def hang(_: web.Request) -> web.Response:
            await never.wait()
            return web.Response()

        app = application()
        app.router.add_get("/hang", hang)
        async with visited(app, shutdown_timeout=0.1) as session:
            with pytest.raises(asyncio.TimeoutError):
                await session.get("/hang", timeout=aiohttp.ClientTimeout(total=0.05))
            async with session.get("/") as response:
                assert await response.text() == "hello"
            never.set()

    run(main())


def test_a_file_is_served_even_without_sendfile(run: Run, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    file = tmp_path / "leaf.bin"
    file.write_bytes(content)

    async def main() -> None:
        app = web.Application()
        app.router.add_static("/files", tmp_path)
        async with visited(app) as session:
            async with session.get("/files/leaf.bin") as response:
                assert await response.read() == content
            async with session.get(
                "/files/leaf.bin", headers={"Range": "bytes=100-99999"}
            ) as response:
                assert (response.status, await response.read()) == (206, content[100:100_000])

    run(main())


def test_the_server_answers_over_a_unix_socket(run: Run, socket_path: str) -> None:
    async def main() -> None:
        runner = web.AppRunner(application())
        await runner.setup()
        await web.UnixSite(runner, socket_path).start()
        connector = aiohttp.UnixConnector(socket_path)
        async with (
            aiohttp.ClientSession("http://unix", connector=connector) as session,
            session.post("/mirror", data=b"over a path") as response,
        ):
            assert await response.read() == b"over a path"
        await runner.cleanup()

    run(main())


def test_a_host_name_is_resolved_and_reached(run: Run) -> None:
    async def main() -> None:
        async with (
            served(application()) as url,
            aiohttp.ClientSession(url.replace("127.0.0.1", "localhost")) as session,
            session.get("/") as response,
        ):
            assert await response.text() == "hello"

    run(main())
