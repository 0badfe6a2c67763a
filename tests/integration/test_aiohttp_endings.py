"""How aiohttp's connections end: peers that leave, sockets that upgrade, servers that stop."""

import asyncio
import signal
import socket

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from .aiohttp_site import served, visited
from .conftest import Run
from .programs import Programs

MIB = 1024 * 1024
CLOSE_CODES: web.AppKey[list[int | None]] = web.AppKey("CLOSE_CODES", list)


def test_a_client_that_leaves_mid_response_frees_the_handler(run: Run) -> None:
    async def main() -> None:
        left: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def pour(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(bytes(64 * 1024))
            except (ConnectionError, asyncio.CancelledError) as error:
                left.set_result(error)
                raise

        app = web.Application()
        app.router.add_get("/", pour)
        async with visited(app) as session:
            response = await session.get("/")
            assert len(await response.content.readexactly(MIB)) == MIB
            response.close()
            assert isinstance(await left, ConnectionError | asyncio.CancelledError)

    run(main())


def test_a_server_that_leaves_mid_response_is_noticed(run: Run) -> None:
    async def main() -> None:
        async def break_off(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"only this")
            assert request.transport is not None
            request.transport.close()
            return response

        app = web.Application()
        app.router.add_get("/", break_off)
        async with visited(app) as session, session.get("/") as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    run(main())


async def ws_echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(max_msg_size=8 * MIB)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    request.app[CLOSE_CODES].append(ws.close_code)
    return ws


def ws_application() -> web.Application:
    app = web.Application()
    app[CLOSE_CODES] = []
    app.router.add_get("/", ws_echo)
    return app


def test_a_websocket_echoes_text_and_large_binaries(run: Run) -> None:
    async def main() -> None:
        app = ws_application()
        async with visited(app) as session, session.ws_connect("/", max_msg_size=8 * MIB) as ws:
            for number in range(100):
                await ws.send_str(f"message {number}")
                assert await ws.receive_str() == f"message {number}"
            big = bytes(range(256)) * (4 * MIB // 256)
            await ws.send_bytes(big)
            assert await ws.receive_bytes() == big
            await ws.close(code=4001)
        assert app[CLOSE_CODES] == [4001]

    run(main())


def test_fifty_websockets_talk_at_once(run: Run) -> None:
    async def main() -> None:
        app = ws_application()
        async with visited(app) as session:

            async def talk(number: int) -> None:
                async with session.ws_connect("/") as ws:
                    for turn in range(10):
                        await ws.send_str(f"{number}:{turn}")
                        assert await ws.receive_str() == f"{number}:{turn}"

            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(talk(number))

    run(main())


def test_cleanup_lets_a_request_in_flight_finish(run: Run) -> None:
    async def main() -> None:
        entered, may_answer = asyncio.Event(), asyncio.Event()

        async def slow(_: web.Request) -> web.Response:
            entered.set()
            await may_answer.wait()
            return web.Response(text="finished")

        app = web.Application()
        app.router.add_get("/", slow)
        runner = web.AppRunner(app, shutdown_timeout=60)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            asking = asyncio.create_task(session.get("/"))
            await entered.wait()
            stopping = asyncio.create_task(runner.cleanup())
            await refuses(host, port)
            assert not stopping.done()
            may_answer.set()
            async with await asking as response:
                assert await response.text() == "finished"
            await stopping

    run(main())


async def refuses(host: str, port: int) -> None:
    """Returns once nothing listens there any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0)


def test_cleanup_closes_idle_keep_alive_connections(run: Run) -> None:
    async def main() -> None:
        async def hello(_: web.Request) -> web.Response:
            return web.Response(text="hello")

        app = web.Application()
        app.router.add_get("/", hello)
        async with served(app) as url:
            host, port = url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    run(main())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_run_app_stops_in_order_on_a_signal(
    loop_name: str, programs: Programs, number: signal.Signals
) -> None:
    program = programs.python("run_app_program.py", loop_name)
    port = int(program.wait_for_line(r"listening on (\d+)")[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(loop_name.encode())
        program.signal(number)
        assert client.recv(4096) == b""
    assert program.wait() == 0, program.text()
    assert program.lines[-2:] == ["cleaning up", "loop closed"]
