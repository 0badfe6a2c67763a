"""Unix sockets: paths of every kind, abstract names, stale sockets, plain files, cleaning up."""

# ruff: noqa: ASYNC240 - looking at a path of a temporary folder does not block

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness.leaks import descriptors
from .harness.protocols import Echo, Recorder
from .harness.turns import turns
from .harness.types import Loop


@pytest.fixture
def path() -> Iterator[Path]:
    """Return a path for a socket, short enough for the kernel."""
    with tempfile.TemporaryDirectory(prefix="clv") as folder:
        yield Path(folder) / "socket"


async def talk(loop: Loop, path: Any) -> None:
    """Connect to an echo server and hear the echo."""
    protocol = Recorder(loop)
    transport, returned = await loop.create_unix_connection(lambda: protocol, path)
    assert returned is protocol
    transport.write(b"hello")
    assert await protocol.received(5) == b"hello"
    transport.close()
    assert await protocol.lost is None


@pytest.mark.parametrize("make", [str, Path, os.fsencode], ids=["str", "path", "bytes"])
async def test_a_path_may_be_text_bytes_or_pathlike(loop: Loop, path: Path, make: Any) -> None:
    server_end: list[Echo] = []

    def factory() -> Echo:
        server_end.append(Echo(loop))
        return server_end[-1]

    async with await loop.create_unix_server(factory, make(path)) as server:
        assert path.is_socket()
        assert server.sockets[0].getsockname() == str(path)
        await talk(loop, make(path))
        await server_end[0].lost


async def test_abstract_names_need_no_file(loop: Loop) -> None:
    names: list[Any] = [f"\0clover-{os.getpid()}", f"\0clover-{os.getpid()}".encode()]
    for name in names:
        echo = Echo(loop)
        async with await loop.create_unix_server(lambda echo=echo: echo, name) as server:  # type: ignore[misc]
            assert server.sockets[0].getsockname() == f"\0clover-{os.getpid()}".encode()
            await talk(loop, name)
            await echo.lost


async def test_extra_info_names_the_path(loop: Loop, path: Path) -> None:
    served = Recorder(loop)
    async with await loop.create_unix_server(lambda: served, path):
        protocol = Recorder(loop)
        await loop.create_unix_connection(lambda: protocol, str(path))
        assert protocol.transport.get_extra_info("peername") == str(path)
        assert protocol.transport.get_extra_info("sockname") == ""
        assert protocol.transport.get_extra_info("socket").family == socket.AF_UNIX
        protocol.transport.close()
        await protocol.lost
        await served.lost


async def test_a_path_with_a_zero_is_none(loop: Loop, path: Path) -> None:
    names: list[Any] = [f"{path}\0more", os.fsencode(f"{path}\0more")]
    for name in names:
        with pytest.raises(ValueError, match="embedded null"):
            await loop.create_unix_server(asyncio.Protocol, name)
    assert not path.exists()


async def test_a_stale_socket_is_replaced(loop: Loop, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.is_socket()
    echo = Echo(loop)
    async with await loop.create_unix_server(lambda: echo, path):
        await talk(loop, path)
        await echo.lost


async def test_a_plain_file_is_not_replaced(loop: Loop, path: Path) -> None:
    path.write_text("precious")
    before = descriptors()
    with pytest.raises(OSError, match=r"is already in use$") as raised:
        await loop.create_unix_server(asyncio.Protocol, path)
    assert raised.value.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"
    assert descriptors() == before


async def test_a_folder_that_is_not_there_is_an_error(loop: Loop, path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_server(asyncio.Protocol, path / "no" / "folder")


async def test_connecting_to_nothing_is_an_error(loop: Loop, path: Path) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(asyncio.Protocol, str(path))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(ConnectionRefusedError):
        await loop.create_unix_connection(asyncio.Protocol, str(path))
    assert descriptors() == before


async def test_a_path_that_is_too_long_is_an_error(loop: Loop) -> None:
    long = "/tmp/" + "x" * 200
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        await loop.create_unix_server(asyncio.Protocol, long)
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        await loop.create_unix_connection(asyncio.Protocol, long)


if sys.version_info >= (3, 13):  # until 3.12 a server left its path behind

    async def test_close_removes_the_path(loop: Loop, path: Path) -> None:
        server = await loop.create_unix_server(asyncio.Protocol, path)
        assert path.is_socket()
        server.close()
        assert not path.exists()
        await server.wait_closed()

    async def test_cleanup_socket_false_leaves_the_path(loop: Loop, path: Path) -> None:
        server = await loop.create_unix_server(asyncio.Protocol, path, cleanup_socket=False)
        server.close()
        assert path.is_socket()

    async def test_close_leaves_what_others_put_in_the_paths_place(loop: Loop, path: Path) -> None:
        server = await loop.create_unix_server(asyncio.Protocol, path)
        path.rename(path.with_name("moved"))
        path.write_text("not ours")
        server.close()
        assert path.read_text() == "not ours"

    async def test_close_with_the_path_gone_is_no_error(loop: Loop, path: Path) -> None:
        server = await loop.create_unix_server(asyncio.Protocol, path)
        path.unlink()
        server.close()
        await server.wait_closed()

    async def test_close_removes_the_path_of_a_given_socket(loop: Loop, path: Path) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        server = await loop.create_unix_server(asyncio.Protocol, sock=sock)
        server.close()
        assert not path.exists()

else:

    async def test_close_leaves_the_path(loop: Loop, path: Path) -> None:
        server = await loop.create_unix_server(asyncio.Protocol, path)
        server.close()
        assert path.is_socket()


async def test_a_given_socket_is_served_and_connected(loop: Loop, path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    echo = Echo(loop)
    async with await loop.create_unix_server(lambda: echo, sock=sock):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        protocol = Recorder(loop)
        await loop.create_unix_connection(lambda: protocol, sock=client)
        protocol.transport.write(b"x")
        assert await protocol.received(1) == b"x"
        protocol.transport.close()
        await protocol.lost
        await echo.lost


async def test_start_serving_false_listens_only_later(loop: Loop, path: Path) -> None:
    server = await loop.create_unix_server(asyncio.Protocol, path, start_serving=False)
    with pytest.raises(ConnectionRefusedError):
        await loop.create_unix_connection(asyncio.Protocol, str(path))
    await server.start_serving()
    assert server.is_serving()
    server.close()


@pytest.mark.parametrize("method", ["create_unix_server", "create_unix_connection"])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
        ({"ssl_shutdown_timeout": 1}, "ssl_shutdown_timeout is only meaningful with ssl"),
    ],
)
async def test_arguments_that_contradict_are_refused(
    loop: Loop, method: str, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        await getattr(loop, method)(asyncio.Protocol, "/no/path", **arguments)


async def test_server_hostname_needs_ssl(loop: Loop) -> None:
    with pytest.raises(ValueError, match=r"^server_hostname is only meaningful with ssl$"):
        await loop.create_unix_connection(asyncio.Protocol, "/no/path", server_hostname="x")


@pytest.mark.parametrize("method", ["create_unix_server", "create_unix_connection"])
async def test_path_or_socket_must_be_given_and_not_both(loop: Loop, method: str) -> None:
    create = getattr(loop, method)
    with pytest.raises(ValueError, match=r"^(no path and sock were specified|path was not spec)"):
        await create(asyncio.Protocol)
    with socket.socket(socket.AF_UNIX) as sock:
        text = r"^path and sock can not be specified at the same time$"
        with pytest.raises(ValueError, match=text):
            await create(asyncio.Protocol, "/no/path", sock=sock)


@pytest.mark.parametrize("method", ["create_unix_server", "create_unix_connection"])
@pytest.mark.parametrize(
    ("family", "kind_of_socket"),
    [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)],
)
async def test_another_kind_of_socket_is_refused(
    loop: Loop, method: str, family: int, kind_of_socket: int
) -> None:
    with socket.socket(family, kind_of_socket) as sock:
        text = r"^A UNIX Domain Stream Socket was expected, got <socket"
        with pytest.raises(ValueError, match=text):
            await getattr(loop, method)(asyncio.Protocol, sock=sock)


async def test_sixteen_mebibytes_come_back_over_a_unix_socket(loop: Loop, path: Path) -> None:
    data = os.urandom(1 << 20) * 16
    echo = Echo(loop)
    async with await loop.create_unix_server(lambda: echo, path):
        protocol = Recorder(loop)
        transport, _ = await loop.create_unix_connection(lambda: protocol, str(path))
        transport.write(data)
        transport.write_eof()
        assert await protocol.received(len(data)) == data
        assert await protocol.lost is None
        assert await echo.lost is None


@pytest.mark.only("cloverleaf")
@pytest.mark.skipif(sys.version_info < (3, 13), reason="until 3.13 the path stays")
async def test_no_call_of_os_removes_the_path(
    loop: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tools that find blocking calls know those of asyncio by its files, and have no mercy on ours.

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("a blocking call on the loop's thread")

    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        patch.setattr(os, "stat", refuse)
        server = await loop.create_unix_server(lambda: Echo(loop), path)
        server.close()
        await server.wait_closed()
    assert not path.exists()


@pytest.mark.only("cloverleaf")  # asyncio's goes on listening, and nobody can close it
async def test_a_server_given_up_as_it_starts_leaves_nothing(loop: Loop, path: Path) -> None:
    before = descriptors()
    starting = loop.create_task(loop.create_unix_server(asyncio.Protocol, path))
    await turns(1)
    assert starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert descriptors() == before
    assert path.exists() == (sys.version_info < (3, 13))


@pytest.mark.only("cloverleaf")  # see above
async def test_a_given_socket_keeps_its_path_then(loop: Loop, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        starting = loop.create_task(loop.create_unix_server(asyncio.Protocol, sock=sock))
        await turns(1)
        assert starting.cancel()
        await asyncio.wait([starting])
        assert sock.getsockname() == str(path)
        assert path.exists()
