"""anyio's files and httpx: how Starlette and FastAPI send a file, on the loop under test."""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import httpx

import cloverleaf

from .conftest import LoopFactory

PIECE = 64 * 1024

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


def sends(path: Path, open_file: Callable[[Path], Any]) -> Any:
    """Return an application that answers with a file, by pieces, as Starlette's `FileResponse`."""

    async def application(scope: Message, _receive: Any, send: Send) -> None:
        stat = await anyio.to_thread.run_sync(os.stat, path)
        headers = [(b"content-length", str(stat.st_size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with await open_file(path) as file:
            more = True
            while more:
                piece = await file.read(PIECE)
                more = len(piece) == PIECE
                await send({"type": "http.response.body", "body": piece, "more_body": more})

    return application


def fetch(
    loop_factory: LoopFactory, path: Path, open_file: Callable[[Path], Any], count: int
) -> list[bytes]:
    """Return what so many requests at a time are answered."""
    found: list[bytes] = []

    async def get(client: httpx.AsyncClient) -> None:
        response = await client.get("/")
        found.append(response.content)

    async def main() -> None:
        transport = httpx.ASGITransport(app=sends(path, open_file))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://files") as client,
            anyio.create_task_group() as group,
        ):
            for _ in range(count):
                group.start_soon(get, client)

    anyio.run(main, backend="asyncio", backend_options={"loop_factory": loop_factory})
    return found


def test_files_are_sent_by_pieces(loop_factory: LoopFactory, tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = os.urandom(10 * PIECE + 1)
    path.write_bytes(content)

    async def by_anyio(path: Path) -> Any:
        return await anyio.open_file(path, "rb")

    async def by_cloverleaf(path: Path) -> Any:
        return await cloverleaf.open(path, "rb")

    for open_file in (by_anyio, by_cloverleaf):
        assert fetch(loop_factory, path, open_file, 8) == [content] * 8


def test_text_is_written_and_iterated(loop_factory: LoopFactory, tmp_path: Path) -> None:
    path = anyio.Path(tmp_path / "text")

    async def main() -> list[str]:
        async with await anyio.open_file(path, "w") as file:
            await file.writelines(f"line {number}\n" for number in range(100))
        async with await anyio.open_file(path) as file:
            return [line async for line in file]

    lines = anyio.run(main, backend="asyncio", backend_options={"loop_factory": loop_factory})
    assert lines == [f"line {number}\n" for number in range(100)]
