"""``sock_sendfile``: by the system and by reading, from where to where, and where it leaves off."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from cloverleaf._releases import SENDFILE_ALWAYS_MOVES

from .harness.files import BIG, SMALL, Unreal, either_file, file_of
from .harness.links import linked
from .harness.protocols import Recorder
from .harness.sockets import PAIRS, nonblocking, receive
from .harness.turns import turns
from .harness.types import Loop

every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


def test_it_is_a_coroutine_function(loop: Loop) -> None:
    assert inspect.iscoroutinefunction(loop.sock_sendfile)
    assert inspect.iscoroutinefunction(loop.sendfile)


@every_pair
@pytest.mark.parametrize("content", [SMALL, BIG], ids=["small", "big"])
async def test_a_file_arrives_whole(loop: Loop, tmp_path: Path, pair: Any, content: bytes) -> None:
    with nonblocking(pair) as (ours, theirs), file_of(tmp_path, content) as file:
        sending = loop.create_task(loop.sock_sendfile(ours, file, fallback=False))
        assert await receive(loop, theirs, len(content)) == content
        assert await sending == len(content)
        assert file.tell() == len(content)


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, SMALL),
        (10, None, SMALL[10:]),
        (0, 10, SMALL[:10]),
        (990, 10, SMALL[990:]),
        (995, 100, SMALL[995:]),
        (3, 1000, SMALL[3:]),
        (1000, None, b""),
        (2000, 5, b""),
    ],
)
async def test_offset_and_count(
    loop: Loop,
    tmp_path: Path,
    native: bool,
    offset: int,
    count: int | None,
    expected: bytes,
) -> None:
    with nonblocking() as (ours, theirs), either_file(tmp_path, SMALL, native=native) as file:
        assert await loop.sock_sendfile(ours, file, offset, count) == len(expected)
        if expected:
            assert file.tell() == offset + len(expected)
        ours.close()
        assert await receive(loop, theirs, 5000) == expected


async def test_the_files_own_position_does_not_matter(loop: Loop, tmp_path: Path) -> None:
    with nonblocking() as (ours, theirs), file_of(tmp_path, SMALL) as file:
        file.seek(500)
        assert await loop.sock_sendfile(ours, file, 0, 7) == 7
        assert file.tell() == 7
        assert await loop.sock_recv(theirs, 100) == SMALL[:7]


async def test_nothing_sent_leaves_the_position_or_moves_it(loop: Loop, tmp_path: Path) -> None:
    with nonblocking() as (ours, _), file_of(tmp_path, SMALL) as file:
        file.seek(500)
        assert await loop.sock_sendfile(ours, file, 2000) == 0
        assert file.tell() == (2000 if SENDFILE_ALWAYS_MOVES else 500)


@pytest.mark.only("cloverleaf")  # older releases of asyncio read on from where the file is
async def test_a_file_is_read_from_its_start_wherever_it_is(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        file = Unreal(SMALL)
        file.seek(500)
        assert await loop.sock_sendfile(ours, file) == len(SMALL)
        assert await receive(loop, theirs, len(SMALL)) == SMALL


@pytest.mark.parametrize("of_transport", [False, True], ids=["socket", "transport"])
async def test_an_empty_file_keeps_its_position(
    loop: Loop, tmp_path: Path, of_transport: bool
) -> None:
    with file_of(tmp_path, b"") as file:
        file.seek(5)
        if of_transport:
            async with linked(loop, Recorder) as (protocol, _):
                assert await loop.sendfile(protocol.transport, file, 2) == 0
        else:
            with nonblocking() as (ours, _):
                assert await loop.sock_sendfile(ours, file, 2) == 0
        assert file.tell() == 5


async def test_an_empty_file_is_sent_at_once(loop: Loop, tmp_path: Path) -> None:
    with nonblocking() as (ours, _), file_of(tmp_path, b"") as file:
        assert await loop.sock_sendfile(ours, file) == 0


async def test_a_file_without_a_descriptor_is_read(loop: Loop) -> None:
    with nonblocking() as (ours, theirs):
        file = Unreal(BIG[: 1 << 20])
        sending = loop.create_task(loop.sock_sendfile(ours, file, 5))
        assert await receive(loop, theirs, (1 << 20) - 5) == BIG[5 : 1 << 20]
        assert await sending == (1 << 20) - 5
        assert set(file.asked) == {256 * 1024}


@pytest.mark.parametrize("which", ["unreal", "closed number", "none"])
async def test_without_fallback_such_a_file_is_an_error(loop: Loop, which: str) -> None:
    class Closed(io.BytesIO):
        def fileno(self) -> int:
            return 1_000_000

    files: dict[str, Any] = {"unreal": Unreal(SMALL), "closed number": Closed(SMALL), "none": None}
    with (
        nonblocking() as (ours, _),
        pytest.raises(asyncio.SendfileNotAvailableError, match=r"not a regular file"),
    ):
        await loop.sock_sendfile(ours, files[which], fallback=False)


@pytest.mark.only("cloverleaf")  # asyncio sends nothing, or all of it and then fails, by release
async def test_a_pipe_is_read(loop: Loop) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"piped")
    with nonblocking() as (ours, theirs), os.fdopen(reading, "rb", buffering=0) as pipe:
        with pytest.raises(asyncio.SendfileNotAvailableError, match=r"os\.sendfile call failed"):
            await loop.sock_sendfile(ours, pipe, 0, 3, fallback=False)
        with os.fdopen(writing, "wb"):
            sending = loop.create_task(loop.sock_sendfile(ours, pipe, 0, 100))
            assert await receive(loop, theirs, 5) == b"piped"
        with pytest.raises(OSError, match=r"Illegal seek"):
            await sending


@pytest.mark.parametrize(
    ("offset", "count", "error", "message"),
    [
        (0, 0, ValueError, "count must be a positive integer (got 0)"),
        (0, -1, ValueError, "count must be a positive integer (got -1)"),
        (0, 1.5, TypeError, "count must be a positive integer (got 1.5)"),
        (0, "3", TypeError, "count must be a positive integer (got '3')"),
        (-1, 1, ValueError, "offset must be a non-negative integer (got -1)"),
        (1.5, None, TypeError, "offset must be a non-negative integer (got 1.5)"),
        (None, None, TypeError, "offset must be a non-negative integer (got None)"),
    ],
)
async def test_impossible_numbers_are_refused(
    loop: Loop, tmp_path: Path, offset: Any, count: Any, error: Any, message: str
) -> None:
    with nonblocking() as (ours, _), file_of(tmp_path, SMALL) as file:
        with pytest.raises(error) as raised:
            await loop.sock_sendfile(ours, file, offset, count)
        assert str(raised.value) == message


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1, 1 << 64, 1 << 70])
async def test_an_offset_beyond_the_largest_is_no_reason_to_read_the_file(
    loop: Loop, tmp_path: Path, offset: int, fallback: bool
) -> None:
    with nonblocking() as (ours, theirs), file_of(tmp_path, SMALL) as file:
        with pytest.raises(OverflowError, match="Python int too large to convert to C"):
            await loop.sock_sendfile(ours, file, offset, fallback=fallback)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


async def test_a_text_file_is_refused(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("text")
    with (
        nonblocking() as (ours, _),
        path.open() as file,
        pytest.raises(ValueError, match=r"^file should be opened in binary mode$"),
    ):
        await loop.sock_sendfile(ours, file)  # type: ignore[arg-type]


async def test_a_datagram_socket_is_refused(loop: Loop, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with (
            file_of(tmp_path, SMALL) as file,
            pytest.raises(ValueError, match=r"^only SOCK_STREAM type sockets are supported$"),
        ):
            await loop.sock_sendfile(sock, file)


async def test_a_blocking_socket_is_refused_in_debug_mode(loop: Loop, tmp_path: Path) -> None:
    loop.set_debug(True)
    with (
        socket.socket() as sock,
        file_of(tmp_path, SMALL) as file,
        pytest.raises(ValueError, match=r"^the socket must be non-blocking$"),
    ):
        await loop.sock_sendfile(sock, file)


async def test_a_socket_that_encrypts_is_refused(loop: Loop, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with socket.socket() as plain, context.wrap_socket(plain) as sock:
        sock.setblocking(False)
        with (
            file_of(tmp_path, SMALL) as file,
            pytest.raises(TypeError, match=r"^Socket cannot be of type SSLSocket$"),
        ):
            await loop.sock_sendfile(sock, file)


async def test_a_transports_descriptor_is_refused(loop: Loop, tmp_path: Path) -> None:
    async with linked(loop, Recorder) as (protocol, _):
        number = protocol.transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=number) as sock, file_of(tmp_path, BIG) as file:
            try:
                with pytest.raises(RuntimeError, match="is used by transport"):
                    await loop.sock_sendfile(sock, file)
            finally:
                sock.detach()


@every_pair
async def test_a_peer_that_goes_is_an_error_and_the_position_tells_how_far_it_came(
    loop: Loop, tmp_path: Path, pair: Any
) -> None:
    with nonblocking(pair) as (ours, theirs), file_of(tmp_path, BIG) as file:
        sending = loop.create_task(loop.sock_sendfile(ours, file, 100))
        await turns(5)
        theirs.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await sending
        assert 100 < file.tell() < len(BIG)


async def test_a_cancelled_sendfile_leaves_the_position_and_the_socket(
    loop: Loop, tmp_path: Path
) -> None:
    with nonblocking() as (ours, theirs), file_of(tmp_path, BIG) as file:
        file.seek(3)
        sending = loop.create_task(loop.sock_sendfile(ours, file))
        await turns(5)
        assert not sending.done()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert file.tell() == 3
        assert loop.remove_writer(ours) is False
        ours.shutdown(socket.SHUT_WR)
        received = await receive(loop, theirs, len(BIG))
        assert 0 < len(received) < len(BIG)
        assert received == BIG[: len(received)]


@pytest.mark.only("cloverleaf")  # newer releases of asyncio ignore it
@pytest.mark.parametrize("over", ["socket", "transport"])
async def test_an_offset_in_what_cannot_be_sought_in_is_refused(loop: Loop, over: str) -> None:
    class Stream:
        def __init__(self) -> None:
            self.readinto = io.BytesIO(b"from the start").readinto

    async with linked(loop, Recorder) as (protocol, _):
        with nonblocking() as (ours, _):
            send: Any = loop.sock_sendfile if over == "socket" else loop.sendfile
            end = ours if over == "socket" else protocol.transport
            with pytest.raises(AttributeError, match=r"has no attribute 'seek'"):
                await send(end, Stream(), 5)
            assert await send(end, Stream()) == len(b"from the start")


async def test_a_file_that_shrinks_ends_early(loop: Loop, tmp_path: Path) -> None:
    with nonblocking() as (ours, theirs), file_of(tmp_path, BIG) as file:
        sending = loop.create_task(loop.sock_sendfile(ours, file))
        await turns(5)
        os.truncate(file.name, 1 << 20)
        received = await receive(loop, theirs, 1 << 20)
        assert await sending == 1 << 20
        assert received == BIG[: 1 << 20]
