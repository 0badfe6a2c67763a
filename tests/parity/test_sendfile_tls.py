"""``loop.sendfile`` over TLS: the file is read and encrypted; otherwise nothing is different."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from .harness.files import BIG, SMALL, file_of
from .harness.tls import tls_ends
from .harness.turns import until
from .harness.types import Loop


async def test_a_file_goes_between_what_is_written(loop: Loop, tmp_path: Path) -> None:
    content = BIG[: 4 << 20]
    async with tls_ends(loop) as ends:
        transport = ends.client.transport
        transport.write(b"before")
        with file_of(tmp_path, content) as file:
            assert await loop.sendfile(transport, file) == len(content)
            assert file.tell() == len(content)
        transport.write(b"after")
        assert transport.get_protocol() is ends.client
        expected = b"before" + content + b"after"
        assert await ends.server.received(len(expected)) == expected


async def test_offset_and_count(loop: Loop, tmp_path: Path) -> None:
    async with tls_ends(loop) as ends:
        with file_of(tmp_path, SMALL) as file:
            assert await loop.sendfile(ends.client.transport, file, 10, 20) == 20
            assert file.tell() == 30
        assert await ends.server.received(20) == SMALL[10:30]


async def test_without_fallback_it_is_an_error(loop: Loop, tmp_path: Path) -> None:
    async with tls_ends(loop) as ends:
        with file_of(tmp_path, SMALL) as file, pytest.raises(RuntimeError) as raised:
            await loop.sendfile(ends.client.transport, file, fallback=False)
        assert str(raised.value).startswith(
            "fallback is disabled and native sendfile is not supported for transport "
        )
        assert ends.client.transport.is_reading()


async def test_a_file_waits_as_the_protocol_would(loop: Loop, tmp_path: Path) -> None:
    async with tls_ends(loop) as ends:
        transport = ends.client.transport
        for end in (transport, ends.server.transport):
            # Much would go before anything waits, in pieces that a thread reads beside a busy loop.
            little(end.get_extra_info("socket"))
        ends.server.transport.pause_reading()
        with file_of(tmp_path, BIG) as file:
            sending = loop.create_task(loop.sendfile(transport, file))
            _, high = transport.get_write_buffer_limits()
            await until(lambda: transport.get_write_buffer_size() >= high)
            for _ in range(20):
                await asyncio.sleep(0)
            assert transport.get_write_buffer_size() < 2 * high
            assert "pause_writing" not in ends.client.calls
            ends.server.transport.resume_reading()
            assert await ends.server.received(len(BIG)) == BIG
            assert await sending == len(BIG)


@pytest.mark.only("cloverleaf")  # on asyncio the file's sender waits for ever
async def test_a_protocol_that_was_paused_resumes_behind_the_file(
    loop: Loop, tmp_path: Path
) -> None:
    async with tls_ends(loop) as ends:
        for end in (ends.client.transport, ends.server.transport):
            little(end.get_extra_info("socket"))
        ends.server.transport.pause_reading()
        ends.client.transport.write(BIG)
        await until(lambda: "pause_writing" in ends.client.calls)
        with file_of(tmp_path, SMALL) as file:
            sending = loop.create_task(loop.sendfile(ends.client.transport, file))
            for _ in range(20):
                await asyncio.sleep(0)
            ends.server.transport.resume_reading()
            assert await sending == len(SMALL)
        await until(lambda: "resume_writing" in ends.client.calls)
        assert await ends.server.received(len(BIG + SMALL)) == BIG + SMALL
        assert ends.client.calls.count("resume_writing") == 1
        assert ends.client.calls.count("pause_writing") == 1


def little(sock: socket.socket) -> None:
    """Make the kernel hold little of what is on its way."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 1 << 16)
