"""What a program puts in the place of `asyncio.sleep` and its kin is for the program's own calls.

`unittest.mock.patch("asyncio.sleep")` is how many tests stop waiting, and tracers wrap
`asyncio.ensure_future` and `asyncio.gather`. asyncio's loop calls the functions of the modules that
they are written in, and so is not touched.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import cloverleaf

from .harness.types import Loop

SIZE = 8 << 20
FUNCTIONS = [
    name
    for name in asyncio.__all__
    if inspect.isfunction(found := getattr(asyncio, name)) or inspect.isbuiltin(found)
]


@contextmanager
def refused(*but: str) -> Iterator[None]:
    """Let every function of asyncio raise where it is called by `asyncio.NAME`, but for these."""

    def refuse(name: str) -> Callable[..., Any]:
        def called(*args: object, **kwargs: object) -> Any:
            raise AssertionError(f"asyncio.{name}() was called")

        return called

    names: dict[str, Any] = {name: refuse(name) for name in FUNCTIONS if name not in but}
    with mock.patch.multiple(asyncio, **names):
        yield


def test_they_are_what_is_meant() -> None:
    assert {"sleep", "gather", "wait", "ensure_future", "wrap_future"} <= set(FUNCTIONS)


def test_running_and_shutting_down(loop: Loop) -> None:
    async def generator() -> AsyncGenerator[int, None]:
        yield 1

    async def main() -> int:
        async for _ in (begun := generator()):
            kept.append(begun)
            break
        return await loop.run_in_executor(None, int, "7")

    kept: list[AsyncGenerator[int, None]] = []
    with refused():
        assert loop.run_until_complete(main()) == 7
        future = loop.create_future()
        loop.call_soon(future.set_result, 8)
        assert loop.run_until_complete(future) == 8
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())


def test_executors(loop: Loop) -> None:
    async def main() -> int:
        return await loop.run_in_executor(executor, int, "7")

    with ThreadPoolExecutor() as executor, refused():
        assert loop.run_until_complete(main()) == 7


def test_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    with refused():
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_servers_and_connections(loop: Loop) -> None:
    async def main() -> None:
        hosts = ["127.0.0.1", "localhost"]
        server = await loop.create_server(asyncio.Protocol, hosts, 0, family=socket.AF_INET)
        await server.start_serving()
        port = server.sockets[0].getsockname()[1]
        for delay in (None, 0.25):
            transport, _ = await loop.create_connection(
                asyncio.Protocol, "localhost", port, happy_eyeballs_delay=delay
            )
            transport.close()
        server.close()
        await server.wait_closed()

    with refused():
        loop.run_until_complete(main())


@pytest.mark.only("cloverleaf")  # asyncio takes such a socket for connected
def test_a_unix_socket_whose_queue_is_full(loop: Loop, tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "queue")

    def accept() -> None:
        listener.accept()[0].close()

    async def main() -> None:
        connecting = loop.create_task(loop.sock_connect(late, path))
        loop.call_soon(accept)  # when the task has found the queue full
        await connecting

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with socket.socket(socket.AF_UNIX) as late:
            late.setblocking(False)
            with refused():
                loop.run_until_complete(main())


def test_sending_a_file(loop: Loop) -> None:
    async def main() -> None:
        got = asyncio.StreamReader(loop=loop)
        accepted = loop.create_future()

        async def drain() -> None:
            connection, _ = await loop.sock_accept(listener)
            with connection:
                while data := await loop.sock_recv(connection, 1 << 20):
                    got.feed_data(data)
            accepted.set_result(None)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            task = loop.create_task(drain())
            transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
            assert await loop.sendfile(transport, file) == SIZE
            transport.close()
            await accepted
            await task
        got.feed_eof()
        assert len(await got.read()) == SIZE

    with tempfile.TemporaryFile() as file, refused():
        file.truncate(SIZE)
        loop.run_until_complete(main())


def test_children(loop: Loop) -> None:
    async def main() -> bytes:
        process = await asyncio.subprocess.create_subprocess_exec("echo", "7", stdout=-1)
        return (await process.communicate())[0]

    with refused():
        assert loop.run_until_complete(main()) == b"7\n"


def test_files_of_ours(loop: Loop, tmp_path: Path) -> None:
    async def main() -> bytes:
        async with cloverleaf.open(tmp_path / "file", "wb") as file:
            await file.write(b"7" * 100_000)
        return await cloverleaf.files.read_bytes(tmp_path / "file")

    with refused("get_running_loop"):
        assert loop.run_until_complete(main()) == b"7" * 100_000
