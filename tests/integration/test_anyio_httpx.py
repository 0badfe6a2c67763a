"""anyio and httpx, the layer under Starlette, FastAPI and many clients, on the loop under test."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest
from aiohttp import web
from anyio.abc import Listener, SocketAttribute, SocketStream

from .aiohttp_site import served
from .conftest import LoopFactory, Run

T = TypeVar("T")


def anyio_run(main: Callable[[], Awaitable[T]], loop_factory: LoopFactory) -> T:
    return anyio.run(main, backend="asyncio", backend_options={"loop_factory": loop_factory})


def test_anyio_runs_on_the_loop_asked_for(loop_factory: LoopFactory, loop_name: str) -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    module = anyio_run(main, loop_factory)
    assert module.partition(".")[0] == loop_name


def test_anyio_streams_echo_over_tcp(loop_factory: LoopFactory) -> None:
    async def echo(stream: SocketStream) -> None:
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)

    async def main() -> bytes:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        received = bytearray()
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(bytes(range(256)) * 4096)
                await stream.send_eof()
                async for chunk in stream:
                    received += chunk
            group.cancel_scope.cancel()
        await listener.aclose()
        return bytes(received)

    assert anyio_run(main, loop_factory) == bytes(range(256)) * 4096


def test_anyio_streams_echo_over_unix_sockets(loop_factory: LoopFactory, socket_path: str) -> None:
    async def main() -> bytes:
        listener = await anyio.create_unix_listener(socket_path)
        async with listener, anyio.create_task_group() as group:

            async def serve_one() -> None:
                async with await listener.accept() as stream:
                    await stream.send(await stream.receive())

            group.start_soon(serve_one)
            async with await anyio.connect_unix(socket_path) as stream:
                await stream.send(b"leaf")
                return bytes(await stream.receive())
        raise AssertionError("the block above returns")

    assert anyio_run(main, loop_factory) == b"leaf"


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_closing_an_anyio_stream_wakes_the_task_that_reads_it(
    loop_factory: LoopFactory,
    socket_path: str,
    family: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> type[BaseException]:
        listener: Listener[SocketStream]
        if family == "unix":
            listener = await anyio.create_unix_listener(socket_path)
            stream: SocketStream = await anyio.connect_unix(socket_path)
        else:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            port = listener.extra(SocketAttribute.local_port)
            stream = await anyio.connect_tcp("127.0.0.1", port)
        raised: list[BaseException] = []

        async def read() -> None:
            try:
                await stream.receive()
            except anyio.ClosedResourceError as error:
                raised.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
        await listener.aclose()
        # anyio removes its reader by the socket object, which is closed by then.
        await anyio.lowlevel.checkpoint()
        return type(raised[0])

    assert anyio_run(main, loop_factory) is anyio.ClosedResourceError
    assert not caplog.records, "the exception handler has something to say"


def test_anyio_threads_call_back_into_the_loop(loop_factory: LoopFactory) -> None:
    async def main() -> list[int]:
        loop_thread, heard = threading.get_ident(), []

        async def hear(number: int) -> int:
            assert threading.get_ident() == loop_thread
            heard.append(number)
            return number

        def work(number: int) -> None:
            assert threading.get_ident() != loop_thread
            assert anyio.from_thread.run(hear, number) == number

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(anyio.to_thread.run_sync, work, number)
        return heard

    assert sorted(anyio_run(main, loop_factory)) == list(range(50))


def test_anyio_deadlines_cancel_on_time(loop_factory: LoopFactory) -> None:
    async def main() -> float:
        start = time.monotonic()
        with anyio.move_on_after(0.05) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        return time.monotonic() - start

    # None is early, and one in time is enough: the machine may stand still meanwhile.
    taken: list[float] = []
    while not taken or (taken[-1] >= 2 and len(taken) < 10):
        taken.append(anyio_run(main, loop_factory))
    assert min(taken) >= 0.05
    assert taken[-1] < 2


def test_an_anyio_portal_starts_the_loop_in_a_thread(
    loop_factory: LoopFactory, loop_name: str
) -> None:
    async def where() -> tuple[str, int]:
        await anyio.sleep(0.001)
        return type(asyncio.get_running_loop()).__module__, threading.get_ident()

    options = {"loop_factory": loop_factory}
    with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
        module, thread = portal.call(where)
        futures = [portal.start_task_soon(where) for _ in range(20)]
        assert {future.result(60)[1] for future in futures} == {thread}
    assert module.partition(".")[0] == loop_name
    assert thread != threading.get_ident()


async def mirror(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


def test_httpx_talks_to_aiohttp(run: Run) -> None:
    async def main() -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/", mirror)
        async with served(app) as url, httpx.AsyncClient(trust_env=False, timeout=60) as client:

            async def ask(number: int) -> None:
                body = f"request {number} ".encode() * (number * 100 + 1)
                response = await client.post(url, content=body)
                assert (response.status_code, response.content) == (200, body)

            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(ask(number))

    run(main())


def test_httpx_streams_a_large_answer(run: Run) -> None:
    body = bytes(range(256)) * 32768

    async def main() -> None:
        async def large(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for start in range(0, len(body), 100_000):
                await response.write(body[start : start + 100_000])
            return response

        app = web.Application()
        app.router.add_get("/", large)
        async with (
            served(app) as url,
            httpx.AsyncClient(trust_env=False, timeout=60) as client,
            client.stream("GET", url) as response,
        ):
            received = b"".join([chunk async for chunk in response.aiter_bytes()])
        assert received == body

    run(main())


def test_httpx_times_out_and_goes_on(run: Run) -> None:
    async def main() -> None:
        may_answer = asyncio.Event()

        async def slow(_: web.Request) -> web.Response:
            await may_answer.wait()
            return web.Response(text="late")

        app = web.Application()
        app.router.add_get("/", slow)
        async with served(app) as url, httpx.AsyncClient(trust_env=False, timeout=60) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(url, timeout=0.05)
            may_answer.set()
            assert (await client.get(url)).text == "late"

    run(main())
