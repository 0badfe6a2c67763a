"""``loop.sendfile``: a file over a transport, behind what was written and before what follows."""

from __future__ import annotations

import asyncio
import socket
from asyncio.constants import _SendfileMode
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .harness.complaints import Complaints
from .harness.files import BIG, SMALL, Unreal, either_file, file_of
from .harness.kinds import Kind
from .harness.links import both_ends, linked, tcp_pair
from .harness.protocols import Buffered, Recorder
from .harness.turns import turns, until
from .harness.types import Loop

every_pair = pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair], ids=["tcp", "unix"])


async def read(loop: Loop, peer: socket.socket, count: int) -> bytes:
    """Read so many bytes, or to the end, without blocking the loop."""
    peer.setblocking(False)
    received = bytearray()
    while len(received) < count:
        piece = await loop.sock_recv(peer, count - len(received))
        if not piece:
            break
        received += piece
    return bytes(received)


@every_pair
@pytest.mark.parametrize("content", [SMALL, BIG], ids=["small", "big"])
async def test_a_file_goes_between_what_is_written(
    loop: Loop, tmp_path: Path, pair: Any, content: bytes
) -> None:
    async with linked(loop, Recorder, pair) as (protocol, peer):
        with file_of(tmp_path, content) as file:
            protocol.transport.write(b"before")
            sending = loop.create_task(loop.sendfile(protocol.transport, file, fallback=False))
            expected = b"before" + content
            assert await read(loop, peer, len(expected)) == expected
            assert await sending == len(content)
            assert file.tell() == len(content)
        protocol.transport.write(b"after")
        assert await read(loop, peer, 5) == b"after"


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
async def test_a_file_waits_for_all_that_was_written(
    loop: Loop, tmp_path: Path, native: bool
) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        with either_file(tmp_path, SMALL, native=native) as file:
            protocol.transport.write(BIG)
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            await turns(5)
            assert not sending.done()
            assert await read(loop, peer, len(BIG) + len(SMALL)) == BIG + SMALL
            assert await sending == len(SMALL)


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, SMALL),
        (10, None, SMALL[10:]),
        (10, 20, SMALL[10:30]),
        (995, 100, SMALL[995:]),
        (1000, None, b""),
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
    async with linked(loop, Recorder) as (protocol, peer):
        with either_file(tmp_path, SMALL, native=native) as file:
            sent = await loop.sendfile(protocol.transport, file, offset, count)
            assert sent == len(expected)
            if expected:
                assert file.tell() == offset + len(expected)
        protocol.transport.close()
        assert await read(loop, peer, 5000) == expected


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
async def test_a_big_file_is_sent_as_the_peer_reads(
    loop: Loop, tmp_path: Path, native: bool
) -> None:
    content = BIG[: 4 << 20]
    async with both_ends(loop) as ends:
        with either_file(tmp_path, content, native=native) as file:
            ends.server.transport.pause_reading()
            sending = loop.create_task(loop.sendfile(ends.client.transport, file))
            await turns(20)
            ends.server.transport.resume_reading()
            assert await ends.server.received(len(content)) == content
            assert await sending == len(content)


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
async def test_reading_pauses_meanwhile_and_goes_on(
    loop: Loop, tmp_path: Path, native: bool
) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        with either_file(tmp_path, BIG, native=native) as file:
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            await turns(5)
            assert not protocol.transport.is_reading()
            peer.sendall(b"kept")
            await turns(5)
            assert protocol.data == b""
            assert await read(loop, peer, len(BIG)) == BIG
            await sending
            assert protocol.transport.is_reading()
            assert await protocol.received(4) == b"kept"


async def test_reading_that_was_paused_stays_paused(loop: Loop, tmp_path: Path) -> None:
    async with linked(loop, Recorder) as (protocol, _):
        protocol.transport.pause_reading()
        with file_of(tmp_path, SMALL) as file:
            await loop.sendfile(protocol.transport, file)
        assert not protocol.transport.is_reading()


async def test_a_buffered_protocol_gets_its_place_back(loop: Loop) -> None:
    async with linked(loop, Buffered) as (protocol, peer):
        transport = protocol.made.result()
        assert await loop.sendfile(transport, Unreal(SMALL)) == len(SMALL)
        assert transport.get_protocol() is protocol
        assert await read(loop, peer, len(SMALL)) == SMALL
        await loop.sock_sendall(peer, b"back")
        assert await protocol.received(4) == b"back"


async def test_nothing_is_written_meanwhile(loop: Loop, tmp_path: Path) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        transport = protocol.transport
        with file_of(tmp_path, BIG) as file:
            sending = loop.create_task(loop.sendfile(transport, file))
            await turns(5)
            with pytest.raises(RuntimeError) as raised:
                transport.write(b"x")
            assert str(raised.value) == "unable to write; sendfile is in progress"
            with pytest.raises(RuntimeError) as raised:
                transport.writelines([b"x"])
            # Python 3.11's writelines() is a write().
            assert str(raised.value) in (
                "unable to writelines; sendfile is in progress",
                "unable to write; sendfile is in progress",
            )
            assert await read(loop, peer, len(BIG)) == BIG
            await sending


async def test_only_one_file_at_a_time(loop: Loop, kind: Kind, tmp_path: Path) -> None:
    # asyncio's KeyError is an accident
    refusals = (RuntimeError, KeyError) if kind.name == "asyncio" else RuntimeError
    async with linked(loop, Recorder) as (protocol, peer):
        with file_of(tmp_path, BIG) as file:
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            await turns(5)
            with pytest.raises(refusals):
                await loop.sendfile(protocol.transport, file)
            assert await read(loop, peer, len(BIG)) == BIG
            assert await sending == len(BIG)


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
async def test_a_cancelled_sendfile_gives_the_transport_back(
    loop: Loop, tmp_path: Path, native: bool
) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        with either_file(tmp_path, BIG, native=native) as file:
            sending = loop.create_task(loop.sendfile(protocol.transport, file, fallback=not native))
            await turns(5)
            if not native:
                await until(lambda: protocol.transport.get_write_buffer_size() > 0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            if native:
                assert file.tell() == 0
            else:
                assert file.tell() > 0
        assert protocol.transport.is_reading()
        assert protocol.transport.get_protocol() is protocol
        protocol.transport.write(b"after")
        protocol.transport.close()
        received = await read(loop, peer, len(BIG))
        assert received == BIG[: len(received) - 5] + b"after"


async def test_a_peer_that_goes_is_an_error(loop: Loop, tmp_path: Path) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        with file_of(tmp_path, BIG) as file:
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            await turns(5)
            peer.close()
            with pytest.raises(ConnectionError):
                await sending
            assert 0 < file.tell() < len(BIG)


async def test_a_peer_that_goes_before_its_turn_is_an_error(
    loop: Loop, kind: Kind, tmp_path: Path, logged: Complaints
) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        protocol.transport.write(BIG)
        with file_of(tmp_path, SMALL) as file:
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            await turns(5)
            peer.close()
            with pytest.raises(ConnectionError):
                await sending
            assert file.tell() == 0
        await asyncio.wait([protocol.lost])
        if kind.name == "asyncio":
            await until(lambda: logged.records)
            assert "InvalidStateError" in logged.take()[0]  # it tells the sender twice


async def test_a_peer_that_goes_while_a_file_is_read_is_an_error(loop: Loop) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        sending = loop.create_task(loop.sendfile(protocol.transport, Unreal(BIG)))
        await until(lambda: protocol.transport.get_write_buffer_size() > 0)
        peer.close()
        with pytest.raises(ConnectionError):
            await sending
        await asyncio.wait([protocol.lost])
        assert protocol.calls.count("connection_lost") == 1


async def test_a_peer_that_goes_while_a_file_waits_for_room_is_an_error(loop: Loop) -> None:
    class AtOnce(ThreadPoolExecutor):
        def submit(self, call: Any, /, *args: Any, **named: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(call(*args, **named))
            return done

    # No thread's haste decides how many turns the next piece takes.
    loop.set_default_executor(AtOnce())
    async with linked(loop, Recorder) as (protocol, peer):
        protocol.transport.set_write_buffer_limits(high=1)
        file = Unreal(BIG)
        sending = loop.create_task(loop.sendfile(protocol.transport, file))
        await until(lambda: protocol.transport.get_write_buffer_size() > 0)
        await turns(50)
        peer.close()
        with pytest.raises(ConnectionError):
            await sending
        await asyncio.wait([protocol.lost])
        assert protocol.calls.count("connection_lost") == 1
        assert "pause_writing" not in protocol.calls


async def test_what_has_no_flow_control_is_refused(loop: Loop) -> None:
    class Foreign(asyncio.Transport):
        _sendfile_compatible = _SendfileMode.FALLBACK

        def is_closing(self) -> bool:
            return False

    with pytest.raises(TypeError, match="should be _FlowControlMixin instance"):
        await loop.sendfile(Foreign(), Unreal(SMALL))


@pytest.mark.only("cloverleaf")  # asyncio's protocol hears of the end of a pause it never knew of
async def test_a_protocol_hears_of_a_pause_that_a_cancelled_file_leaves(loop: Loop) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        protocol.transport.set_write_buffer_limits(high=1)
        sending = loop.create_task(loop.sendfile(protocol.transport, Unreal(BIG)))
        await until(lambda: protocol.transport.get_write_buffer_size() > 0)
        await turns(5)
        assert "pause_writing" not in protocol.calls
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert protocol.calls.count("pause_writing") == 1
        while "resume_writing" not in protocol.calls:
            await read(loop, peer, 1)
        assert protocol.calls.count("resume_writing") == 1


@pytest.mark.only("cloverleaf")  # Python 3.11's asyncio hands the number on
async def test_a_count_may_be_larger_than_any_file(loop: Loop, tmp_path: Path) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        with file_of(tmp_path, SMALL) as file:
            assert await loop.sendfile(protocol.transport, file, 0, 1 << 70) == len(SMALL)
        assert await read(loop, peer, len(SMALL)) == SMALL


@pytest.mark.only("cloverleaf")  # on asyncio the file's sender waits for ever
@pytest.mark.parametrize("end", ["abort", "close"])
async def test_a_transport_that_ends_meanwhile_is_an_error(
    loop: Loop, tmp_path: Path, end: str
) -> None:
    async with linked(loop, Recorder) as (protocol, _):
        with file_of(tmp_path, BIG) as file:
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            await turns(5)
            getattr(protocol.transport, end)()
            with pytest.raises(ConnectionError, match=r"^Connection is closed by peer$"):
                await sending
            assert 0 < file.tell() < len(BIG)


@pytest.mark.only("cloverleaf")  # on asyncio the transport can never be written to again
async def test_cancelled_before_its_turn_a_sendfile_leaves_the_transport_whole(
    loop: Loop, tmp_path: Path
) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        protocol.transport.write(BIG)
        with file_of(tmp_path, SMALL) as file:
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            await turns(5)
            sending.cancel()
            await asyncio.wait([sending])
        assert protocol.transport.is_reading()
        protocol.transport.write(b"after")
        assert await read(loop, peer, len(BIG) + 5) == BIG + b"after"


async def test_a_closing_transport_is_refused(loop: Loop, tmp_path: Path) -> None:
    async with linked(loop, Recorder) as (protocol, _):
        protocol.transport.close()
        with (
            file_of(tmp_path, SMALL) as file,
            pytest.raises(RuntimeError, match=r"^Transport is closing$"),
        ):
            await loop.sendfile(protocol.transport, file)


@pytest.mark.parametrize("extra", [{}, {"fallback": False}])
async def test_a_transport_without_sendfile_is_refused(
    loop: Loop, tmp_path: Path, extra: Any
) -> None:
    class Other(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

        def __repr__(self) -> str:
            return "<Other>"

    with file_of(tmp_path, SMALL) as file:
        with pytest.raises(RuntimeError) as raised:
            await loop.sendfile(Other(), file, **extra)
        assert str(raised.value) == "sendfile is not supported for transport <Other>"


async def test_without_fallback_a_file_must_be_real(loop: Loop) -> None:
    async with linked(loop, Recorder) as (protocol, _):
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
            await loop.sendfile(protocol.transport, Unreal(SMALL), fallback=False)
        assert protocol.transport.is_reading()


@pytest.mark.parametrize(
    ("offset", "count", "error"),
    [(0, 0, ValueError), (0, "3", TypeError), (-1, None, ValueError), (1.5, None, TypeError)],
)
async def test_impossible_numbers_are_refused(
    loop: Loop, tmp_path: Path, offset: Any, count: Any, error: Any
) -> None:
    async with linked(loop, Recorder) as (protocol, _):
        with (
            file_of(tmp_path, SMALL) as file,
            pytest.raises(error, match=r"must be a (positive|non-negative) integer"),
        ):
            await loop.sendfile(protocol.transport, file, offset, count)
        assert protocol.transport.is_reading()


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1, 1 << 64, 1 << 70])
async def test_an_offset_beyond_the_largest_is_no_reason_to_read_the_file(
    loop: Loop, tmp_path: Path, offset: int, fallback: bool
) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        with file_of(tmp_path, SMALL) as file, pytest.raises(OverflowError):
            await loop.sendfile(protocol.transport, file, offset, fallback=fallback)
        assert protocol.transport.is_reading()
        protocol.transport.write(b"goes on")
        assert await read(loop, peer, 7) == b"goes on"


async def test_a_text_file_is_refused(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("text")
    async with linked(loop, Recorder) as (protocol, _):
        with (
            path.open() as file,
            pytest.raises(ValueError, match=r"^file should be opened in binary mode$"),
        ):
            await loop.sendfile(protocol.transport, file)  # type: ignore[arg-type]


async def test_a_protocol_that_was_paused_resumes_behind_the_file(loop: Loop) -> None:
    async with linked(loop, Recorder) as (protocol, peer):
        protocol.transport.write(BIG)
        assert protocol.calls.count("pause_writing") == 1
        sending = loop.create_task(loop.sendfile(protocol.transport, Unreal(SMALL)))
        await turns(3)
        assert await read(loop, peer, len(BIG) + len(SMALL)) == BIG + SMALL
        assert await sending == len(SMALL)
        await until(lambda: "resume_writing" in protocol.calls)
        assert protocol.calls.count("resume_writing") == 1


async def test_a_stream_server_can_send_a_file(loop: Loop, tmp_path: Path) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with file_of(tmp_path, BIG) as file:
            writer.write(b"head")
            await loop.sendfile(writer.transport, file)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        assert await reader.read() == b"head" + BIG
        writer.close()
        await writer.wait_closed()
