"""``BufferedProtocol``: the transport receives straight into a buffer that the protocol lends."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from .harness.links import linked, tcp_pair
from .harness.protocols import Buffered
from .harness.types import Context, Loop


class BrokenError(Exception):
    """Raised by a protocol that fails."""


async def test_a_buffered_protocol_receives_into_its_buffer(loop: Loop) -> None:
    data = bytes(range(256)) * 2000
    async with linked(loop, Buffered, tcp_pair) as (ours, peer):
        sending = loop.run_in_executor(None, peer.sendall, data)
        assert await ours.received(len(data)) == data
        await sending
        assert set(ours.hints) == {-1}
        peer.shutdown(socket.SHUT_WR)
        assert await ours.lost is None
        assert ours.calls[0] == "connection_made"
        assert ours.calls[-2:] == ["eof_received", "connection_lost"]
        made = [call for call in ours.calls if call in {"get_buffer", "buffer_updated"}]
        assert made[0::2] == ["get_buffer"] * (len(made[0::2]))
        assert set(made[1::2]) == {"buffer_updated"}


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_small_buffer_is_filled_again_and_again(loop: Loop, size: int) -> None:
    async with linked(loop, lambda loop: Buffered(loop, size)) as (ours, peer):
        data = bytes(range(250)) * (1 if size < 10 else 100)
        peer.sendall(data)
        assert await ours.received(len(data)) == data


async def test_a_buffered_protocol_may_lend_a_memoryview(loop: Loop) -> None:
    class Viewing(Buffered):
        def get_buffer(self, sizehint: int) -> Any:
            super().get_buffer(sizehint)
            return memoryview(self.buffer)

    async with linked(loop, Viewing) as (ours, peer):
        peer.sendall(b"view")
        assert await ours.received(4) == b"view"


async def test_an_empty_buffer_loses_the_connection(loop: Loop, contexts: list[Context]) -> None:
    async with linked(loop, lambda loop: Buffered(loop, 0)) as (ours, peer):
        peer.sendall(b"x")
        error = await ours.lost
        assert isinstance(error, RuntimeError)
        assert str(error) == "get_buffer() returned an empty buffer"
        assert contexts[0]["message"] == "Fatal error: protocol.get_buffer() call failed."
        assert contexts[0]["exception"] is error


@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
async def test_exceptions_of_a_buffered_protocol_lose_the_connection(
    loop: Loop, contexts: list[Context], method: str
) -> None:
    def fail(_self: Buffered, _number: int) -> Any:
        raise BrokenError

    broken = type("BrokenBuffered", (Buffered,), {method: fail})
    async with linked(loop, broken) as (ours, peer):
        peer.sendall(b"x")
        assert isinstance(await ours.lost, BrokenError)
        assert contexts[0]["message"] == f"Fatal error: protocol.{method}() call failed."


@pytest.mark.parametrize("buffer", [b"read only", "text", 42, None])
async def test_a_buffer_that_cannot_be_written_loses_the_connection(
    loop: Loop, contexts: list[Context], buffer: Any
) -> None:
    class Wrong(Buffered):
        def get_buffer(self, _sizehint: int) -> Any:
            return buffer

    async with linked(loop, Wrong) as (ours, peer):
        peer.sendall(b"x")
        assert isinstance(await ours.lost, (TypeError, BufferError))
        assert len(contexts) == 1
