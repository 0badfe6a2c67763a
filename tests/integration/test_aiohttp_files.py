"""aiohttp's `FileResponse`, which sends by `loop.sendfile`: whole files, ranges, files given up."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from .aiohttp_site import visited
from .conftest import Run

CONTENT = bytes(range(256)) * 4096 * 8  # 8 MiB, more than the kernel takes at once


class Counter:
    """Counts the calls of the loop's own `sendfile`, and passes them on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[int] = []
        self._patch = monkeypatch

    def watch(self) -> None:
        """Begin to count, on the running loop."""
        kind = type(asyncio.get_running_loop())
        original = kind.sendfile

        async def counted(loop: asyncio.AbstractEventLoop, *args: object, **kwargs: object) -> int:
            sent: int = await original(loop, *args, **kwargs)  # type: ignore[arg-type]
            self.sent.append(sent)
            return sent

        self._patch.setattr(kind, "sendfile", counted)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch)


def application(path: Path) -> web.Application:
    async def file(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app = web.Application()
    app.router.add_get("/file", file)
    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "content.bin"
    file.write_bytes(CONTENT)
    return file


def test_a_file_is_served_by_sendfile(run: Run, path: Path, counter: Counter) -> None:
    async def main() -> None:
        counter.watch()
        async with visited(application(path)) as session:
            for _ in range(3):  # on one connection: writing goes on behind a file
                async with session.get("/file") as response:
                    assert response.status == 200
                    assert response.headers["Content-Length"] == str(len(CONTENT))
                    assert await response.read() == CONTENT

    run(main())
    assert counter.sent == [len(CONTENT)] * 3


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=1000000-3000000", slice(1_000_000, 3_000_001)),
        ("bytes=-5", slice(-5, None)),
    ],
)
def test_a_range_is_that_part_of_the_file(
    run: Run, path: Path, counter: Counter, wanted: str, part: slice
) -> None:
    async def main() -> None:
        counter.watch()
        async with (
            visited(application(path)) as session,
            session.get("/file", headers={"Range": wanted}) as response,
        ):
            assert response.status == 206
            assert await response.read() == CONTENT[part]

    run(main())
    assert counter.sent == [len(CONTENT[part])]


def test_many_clients_get_the_file_at_once(run: Run, path: Path) -> None:
    async def main() -> None:
        async with visited(application(path)) as session:

            async def get() -> bytes:
                async with session.get("/file") as response:
                    return await response.read()

            for body in await asyncio.gather(*[get() for _ in range(8)]):
                assert body == CONTENT

    run(main())


def test_a_client_that_goes_in_the_middle_harms_nobody(run: Run, path: Path) -> None:
    async def main() -> None:
        async with visited(application(path)) as session:
            async with session.get("/file") as response:
                assert await response.content.readexactly(1000) == CONTENT[:1000]
                response.close()
            async with session.get("/file") as response:
                assert await response.read() == CONTENT

    run(main())
