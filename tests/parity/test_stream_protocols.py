"""What a transport owes its protocol: contexts, exchange, and an answer to its faults."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import socket
import weakref

import pytest

from .harness.links import both_ends, everything, linked, narrow_pair
from .harness.protocols import Buffered, Recorder
from .harness.turns import turns, until
from .harness.types import Context, Loop

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")


class BrokenError(Exception):
    """Raised by a protocol that fails."""


def broken_at(method: str) -> type[Recorder]:
    """Return a protocol of which one method raises."""

    def fail(self: Recorder, *_args: object) -> None:
        self.calls.append(method)
        raise BrokenError(method)

    return type("BrokenProtocol", (Recorder,), {method: fail})


async def test_exceptions_of_data_received_reach_the_handler_and_lose_the_connection(
    loop: Loop, contexts: list[Context]
) -> None:
    async with linked(loop, broken_at("data_received")) as (ours, peer):
        peer.sendall(b"x")
        assert isinstance(await ours.lost, BrokenError)
        (context,) = contexts
        assert set(context) == {"message", "exception", "transport", "protocol"}
        assert context["message"] == "Fatal error: protocol.data_received() call failed."
        assert context["transport"] is ours.transport
        assert context["protocol"] is ours
        assert peer.recv(1) == b""


async def test_exceptions_of_eof_received_reach_the_handler_and_lose_the_connection(
    loop: Loop, contexts: list[Context]
) -> None:
    async with linked(loop, broken_at("eof_received")) as (ours, peer):
        peer.shutdown(socket.SHUT_WR)
        assert isinstance(await ours.lost, BrokenError)
        assert contexts[0]["message"] == "Fatal error: protocol.eof_received() call failed."


async def test_exceptions_of_connection_lost_reach_the_handler_and_close_the_socket(
    loop: Loop, contexts: list[Context]
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        protocol = broken_at("connection_lost")(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        # The socket is closed by the time that the handler hears of it.
        closed: list[int] = []
        collect = loop.get_exception_handler()
        assert collect is not None

        def look(loop: asyncio.AbstractEventLoop, context: Context) -> None:
            closed.append(transport.get_extra_info("socket").fileno())
            collect(loop, context)

        loop.set_exception_handler(look)
        transport.close()
        await until(lambda: contexts)
        assert_of_a_handle(contexts, "_call_connection_lost")
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert theirs.recv(1) == b""
        assert closed == [-1]


async def test_what_connection_lost_raises_behind_the_last_bytes_reaches_the_handler(
    loop: Loop, contexts: list[Context]
) -> None:
    ours, theirs = narrow_pair()
    with theirs:
        transport, _ = await loop.create_connection(
            lambda: broken_at("connection_lost")(loop), sock=ours
        )
        transport.write(bytes(100_000))
        transport.close()
        assert len(await loop.run_in_executor(None, everything, theirs)) == 100_000
        await until(lambda: contexts)
        # asyncio has cancelled that handle by then, and names no method any more.
        assert_of_a_handle(contexts, "_write_", "None")


def assert_of_a_handle(contexts: list[Context], method: str, alternative: str = "") -> None:
    """Check that one exception was reported, as that of a handle for such a method."""
    names = rf"\w+\.{method}\w*" + (f"|{alternative}" if alternative else "")
    (context,) = contexts
    assert set(context) == {"message", "exception", "handle"}
    assert re.match(rf"Exception in callback ({names})\(", context["message"])
    assert isinstance(context["exception"], BrokenError)
    assert isinstance(context["handle"], asyncio.Handle)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("pause_writing", "protocol.pause_writing() failed"),
        ("resume_writing", "protocol.resume_writing() failed"),
    ],
)
async def test_exceptions_of_flow_control_reach_the_handler_and_keep_the_connection(
    loop: Loop, contexts: list[Context], method: str, message: str
) -> None:
    async with linked(loop, broken_at(method)) as (ours, peer):
        while ours.transport.get_write_buffer_size() == 0:
            ours.transport.write(bytes(1 << 20))
        while not contexts:
            peer.recv(1 << 20)
            await turns(2)
        (context,) = contexts
        assert context["message"] == message
        assert set(context) == {"message", "exception", "transport", "protocol"}
        assert not ours.transport.is_closing()


async def test_exceptions_of_connection_made_reach_the_handler(
    loop: Loop, contexts: list[Context]
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        protocol = broken_at("connection_made")(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        assert isinstance(contexts[0]["exception"], BrokenError)
        transport.abort()
        await until(protocol.lost.done)


async def test_a_protocol_factory_that_raises_for_a_connection_raises_to_the_caller(
    loop: Loop,
) -> None:
    def factory() -> asyncio.Protocol:
        raise BrokenError

    ours, theirs = socket.socketpair()
    with theirs, ours:
        with pytest.raises(BrokenError):
            await loop.create_connection(factory, sock=ours)
        ours.close()


async def refused_by_its_protocol_factory(loop: Loop, contexts: list[Context]) -> None:
    """Check that a connection whose protocol cannot be made is closed, and the error told."""

    def factory() -> asyncio.Protocol:
        raise BrokenError

    server = await loop.create_server(factory, "127.0.0.1", 0)
    async with server:
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(60)
            await until(lambda: contexts)
            assert isinstance(contexts[0]["exception"], BrokenError)
            text = "Error on transport creation for incoming connection"
            assert contexts[0]["message"] == text
            contexts.clear()
            gc.collect()
            assert await loop.run_in_executor(None, client.recv, 1) == b""


async def test_an_accepted_connection_whose_factory_raises_is_closed(
    loop: Loop, contexts: list[Context]
) -> None:
    loop.set_debug(True)
    await refused_by_its_protocol_factory(loop, contexts)


@pytest.mark.only("cloverleaf")  # asyncio is silent outside debug mode
async def test_exceptions_of_the_factory_of_an_accepted_connection_reach_the_handler(
    loop: Loop, contexts: list[Context]
) -> None:
    await refused_by_its_protocol_factory(loop, contexts)


async def test_the_protocols_calls_run_in_the_context_of_the_connections_making(
    loop: Loop,
) -> None:
    seen: list[tuple[str, str]] = []

    class Looking(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(("connection_made", variable.get()))
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            seen.append(("data_received", variable.get()))
            super().data_received(data)

        def eof_received(self) -> bool | None:
            seen.append(("eof_received", variable.get()))
            return super().eof_received()

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(("connection_lost", variable.get()))
            super().connection_lost(exc)

    token = variable.set("inside")
    ours, theirs = socket.socketpair()
    protocol = Looking(loop)
    await loop.create_connection(lambda: protocol, sock=ours)
    variable.reset(token)
    with theirs:
        theirs.sendall(b"x")
        theirs.shutdown(socket.SHUT_WR)
        assert await protocol.lost is None
    assert seen == [
        (name, "inside")
        for name in ("connection_made", "data_received", "eof_received", "connection_lost")
    ]


async def test_set_protocol_sends_later_data_to_the_new_one(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        assert ours.transport.get_protocol() is ours
        peer.sendall(b"first")
        assert await ours.received(5) == b"first"
        second = Recorder(loop)
        ours.transport.set_protocol(second)
        assert ours.transport.get_protocol() is second
        second.made.set_result(ours.transport)
        peer.sendall(b"second")
        assert await second.received(6) == b"second"
        ours.transport.set_protocol(ours)
        assert second.calls == ["data_received"]


async def test_set_protocol_to_a_buffered_one_and_back(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        buffered = Buffered(loop, 16)
        ours.transport.set_protocol(buffered)
        peer.sendall(bytes(range(100)))
        assert await buffered.received(100) == bytes(range(100))
        assert set(buffered.calls) == {"get_buffer", "buffer_updated"}
        ours.transport.set_protocol(ours)
        peer.sendall(b"plain again")
        assert await ours.received(11) == b"plain again"


async def test_set_protocol_inside_data_received(loop: Loop) -> None:
    second = Buffered(loop)

    class Switching(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_protocol(second)

    async with linked(loop, Switching) as (ours, peer):
        peer.sendall(b"a")
        assert await ours.received(1) == b"a"
        peer.sendall(b"b")
        assert await second.received(1) == b"b"
        ours.transport.set_protocol(ours)


async def test_a_protocol_may_close_from_every_call(loop: Loop) -> None:
    for method in ("connection_made", "data_received", "eof_received"):

        class Closing(Recorder):
            closes_in = method

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                self._maybe_close("connection_made")

            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self._maybe_close("data_received")

            def eof_received(self) -> bool | None:
                super().eof_received()
                self._maybe_close("eof_received")
                return True

            def _maybe_close(self, name: str) -> None:
                if name == self.closes_in:
                    self.transport.close()

        async with linked(loop, Closing) as (ours, peer):
            if method != "connection_made":
                peer.sendall(b"x")
                peer.shutdown(socket.SHUT_WR)
            assert await ours.lost is None
            assert ours.calls[-2:] == [method, "connection_lost"]


async def test_a_method_may_be_replaced_on_a_connected_protocol(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        peer.sendall(b"first")
        assert await ours.received(5) == b"first"
        heard: list[bytes] = []
        ours.data_received = heard.append  # type: ignore[method-assign, assignment]
        peer.sendall(b"second")
        await until(lambda: heard)
        assert heard == [b"second"]


async def test_a_protocol_needs_no_base_class(loop: Loop, contexts: list[Context]) -> None:
    class Plain:
        lost = False
        data = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.data += data

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost = True

    ours, peer = socket.socketpair()
    protocol = Plain()
    await loop.create_connection(lambda: protocol, sock=ours)  # type: ignore[type-var]
    peer.sendall(b"x")
    await until(lambda: protocol.data)
    peer.close()
    await until(lambda: protocol.lost)
    # It has no eof_received, and only that is a fault.
    assert [type(context["exception"]) for context in contexts] == [AttributeError]


async def test_write_may_be_replaced_on_an_instance(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        written: list[bytes] = []
        original = ours.transport.write
        ours.transport.write = written.append  # type: ignore[method-assign, assignment]
        ours.transport.write(b"kept")
        original(b"sent")
        assert written == [b"kept"]
        assert peer.recv(10) == b"sent"
        ours.transport.own = 1  # type: ignore[attr-defined]


async def test_transports_can_be_weakly_referenced_and_hashed(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        one, other = ends.client.transport, ends.server.transport
        assert weakref.ref(one)() is one
        assert len({one, other, one}) == 2
        assert one == one
        assert one != other


async def test_exceptions_of_a_protocol_leave_other_connections_alone(
    loop: Loop, contexts: list[Context]
) -> None:
    async with (
        linked(loop, Recorder) as (good, good_peer),
        linked(loop, broken_at("data_received")) as (bad, bad_peer),
    ):
        bad_peer.sendall(b"x")
        good_peer.sendall(b"y")
        assert isinstance(await bad.lost, BrokenError)
        assert await good.received(1) == b"y"
        assert not good.transport.is_closing()
        assert len(contexts) == 1
