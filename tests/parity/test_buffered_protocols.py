"""``BufferedProtocol``: the transport receives straight into a buffer that the protocol lends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
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


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("sent", [b"the last", b""])
async def test_a_buffer_lent_by_who_ends_the_connection_is_filled(
    loop: Loop, end: str, sent: bytes
) -> None:
    class Ending(Buffered):
        def get_buffer(self, sizehint: int) -> bytearray:
            getattr(self.made.result(), end)()
            return super().get_buffer(sizehint)

    async with linked(loop, Ending) as (ours, peer):
        if sent:
            peer.sendall(sent)
        else:
            peer.shutdown(socket.SHUT_WR)
        assert await ours.lost is None
        heard = "buffer_updated" if sent else "eof_received"
        assert ours.calls == ["connection_made", "get_buffer", heard, "connection_lost"]
        assert ours.data == sent


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


async def heard(loop: Loop, protocol: Callable[[], Any]) -> str:
    """Return how a protocol that can receive either way is told of a byte."""
    ours, peer = socket.socketpair()
    with peer:
        transport, made = await loop.create_connection(protocol, sock=ours)
        peer.sendall(b"x")
        way: str = await made.way
        transport.abort()
        await made.lost
    return way


def either(loop: Loop, base: type = asyncio.Protocol) -> Any:
    """Return a class of protocols that can receive either way."""

    def begin(self: Any) -> None:
        self.way, self.lost = loop.create_future(), loop.create_future()
        self.buffer = bytearray(8)

    def attributes() -> dict[str, Any]:
        return {
            "__init__": begin,
            "data_received": lambda self, _: self.way.set_result("data"),
            "get_buffer": lambda self, _: self.buffer,
            "buffer_updated": lambda self, _: self.way.set_result("buffer"),
            "connection_lost": lambda self, _: self.lost.set_result(None),
        }

    return type("Either", (base,), attributes())


def by_property(cls: Any) -> None:
    """Have its objects say of another class that it is theirs."""
    said = {"__slots__": (), "__class__": property(lambda _: asyncio.BufferedProtocol)}
    cls.__bases__ = (type("Saying", (asyncio.Protocol,), said),)


def by_lookup(cls: Any) -> None:
    """The same by a method for all attributes."""

    def get(self: Any, name: str) -> Any:
        if name == "__class__":
            return asyncio.BufferedProtocol
        return object.__getattribute__(self, name)

    cls.__getattribute__ = get


def by_bases(cls: Any) -> None:
    """Derive it from another class."""
    cls.__bases__ = (asyncio.BufferedProtocol,)


@pytest.mark.parametrize("is_derived", [False, True])
@pytest.mark.parametrize("change", [by_property, by_lookup, by_bases])
async def test_a_class_that_becomes_buffered_is_known_as_that(
    loop: Loop, change: Callable[[Any], None], is_derived: bool
) -> None:
    cls = either(loop)
    made = type("Derived", (cls,), {}) if is_derived else cls
    for _ in range(3):
        assert await heard(loop, made) == "data"
    change(cls)
    for _ in range(3):
        assert await heard(loop, made) == "buffer"


async def test_an_object_that_changes_its_class_is_known_by_the_new_one(loop: Loop) -> None:
    plain = either(loop)
    buffered = type("Buffered", (plain, asyncio.BufferedProtocol), {})

    def changed() -> Any:
        protocol = plain()
        protocol.__class__ = buffered
        return protocol

    for _ in range(3):
        assert await heard(loop, plain) == "data"
        assert await heard(loop, buffered) == "buffer"
        assert await heard(loop, changed) == "buffer"


async def test_many_classes_are_told_apart(loop: Loop) -> None:
    bases = [asyncio.Protocol, asyncio.BufferedProtocol] * 10
    classes = [either(loop, base) for base in bases]
    for _ in range(3):
        ways = [await heard(loop, cls) for cls in classes]
        assert ways == ["data", "buffer"] * 10
