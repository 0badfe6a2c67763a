"""How a TLS connection ends: announced or broken off, in time or not; ``connection_lost`` last."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest

from .harness.certificates import HOST, client_context, server_context
from .harness.complaints import Complaints
from .harness.program import Program
from .harness.protocols import Recorder
from .harness.tls import Peer, socket_pair, tls_ends, tls_linked
from .harness.turns import turns, until
from .harness.types import Context, Loop

BIG = bytes(2 << 20)


async def test_the_peers_goodbye_closes_the_transport(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        await peer.send(b"last words")
        await peer.say_goodbye()
        assert await ours.lost is None
        assert ours.calls == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]
        assert bytes(ours.data) == b"last words"
        assert await loop.sock_recv(peer.sock, 1) == b""


async def test_data_and_goodbye_in_one_piece(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        peer.tls.write(b"x" * 100_000)
        records = peer.outgoing.read() + peer.announce_end()
        await loop.sock_sendall(peer.sock, records)
        peer.sock.shutdown(socket.SHUT_WR)
        assert await ours.lost is None
        assert len(ours.data) == 100_000
        assert ours.calls[-2:] == ["eof_received", "connection_lost"]


async def test_a_connection_that_breaks_off(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        await peer.send(b"in the middle of")
        peer.sock.shutdown(socket.SHUT_WR)
        assert await ours.lost is None
        assert bytes(ours.data) == b"in the middle of"
        assert ours.calls[-2:] == ["eof_received", "connection_lost"]
        # We have nobody to say goodbye to.
        assert await peer.receive_end() is False


async def test_a_record_that_breaks_off(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        peer.tls.write(b"cut")
        await loop.sock_sendall(peer.sock, peer.outgoing.read()[:-3])
        peer.sock.shutdown(socket.SHUT_WR)
        assert await ours.lost is None
        assert ours.calls == ["connection_made", "eof_received", "connection_lost"]


async def test_a_reset_connection(loop: Loop, contexts: list[Context]) -> None:
    async with tls_ends(loop) as ends:
        sock = ends.client.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ends.client.transport.abort()
        assert isinstance(await ends.server.lost, ConnectionResetError)
        assert ends.server.calls == ["connection_made", "connection_lost"]
    assert contexts == []


async def test_close_says_goodbye_and_waits_for_the_peers(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.write(b"farewell")
        ours.transport.close()
        assert ours.transport.is_closing()
        assert await peer.receive(8) == b"farewell"
        assert await peer.receive_end() is True
        await turns(5)
        assert not ours.lost.done()
        await peer.say_goodbye()
        assert await ours.lost is None
        assert ours.calls == ["connection_made", "eof_received", "connection_lost"]


async def test_close_is_prompt_when_the_peer_just_goes(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.close()
        await turns(2)
        peer.sock.shutdown(socket.SHUT_WR)
        assert await ours.lost is None
        assert ours.calls == ["connection_made", "eof_received", "connection_lost"]


async def test_close_sends_everything_that_was_written(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        ends.client.transport.write(BIG)
        ends.client.transport.close()
        ends.client.transport.close()
        assert len(await ends.server.received(len(BIG))) == len(BIG)
        assert await ends.server.lost is None
        assert await ends.client.lost is None
        assert ends.client.calls.count("connection_lost") == 1


async def test_both_ends_close_at_once(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        ends.client.transport.close()
        ends.server.transport.close()
        assert await ends.client.lost is None
        assert await ends.server.lost is None


async def test_abort_is_not_polite(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.abort()
        assert ours.transport.is_closing()
        assert not ours.lost.done()
        assert await ours.lost is None
        ours.transport.abort()
        ours.transport.close()
        await turns(3)
        assert ours.calls == ["connection_made", "connection_lost"]
        assert await peer.receive_end() is False


async def test_what_was_written_before_an_abort_has_gone(loop: Loop) -> None:
    class Refuse(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"go away")
            self.transport.abort()

    async with tls_linked(loop, Refuse) as (ours, peer):
        await peer.send(b"hello")
        assert await peer.receive(7) == b"go away"
        assert await ours.lost is None


async def test_a_shutdown_may_take_too_long(loop: Loop) -> None:
    async with tls_linked(loop, Recorder, ssl_shutdown_timeout=0.01) as (ours, _):
        ours.transport.close()
        lost = await ours.lost
        assert isinstance(lost, TimeoutError)
        assert str(lost) == "SSL shutdown timed out"
        assert ours.calls == ["connection_made", "connection_lost"]


async def test_a_handshake_may_take_too_long(loop: Loop, contexts: list[Context]) -> None:
    ours, theirs = socket_pair()
    with theirs:
        protocol = Recorder(loop)
        with pytest.raises(ConnectionAbortedError) as caught:
            await loop.create_connection(
                lambda: protocol,
                sock=ours,
                ssl=client_context(),
                server_hostname=HOST,
                ssl_handshake_timeout=0.01,
            )
        assert str(caught.value) == (
            "SSL handshake is taking longer than 0.01 seconds: aborting the connection"
        )
        assert protocol.calls == []
    assert contexts == []


async def test_a_peer_that_goes_during_the_handshake(loop: Loop, contexts: list[Context]) -> None:
    ours, theirs = socket_pair()
    connecting = loop.create_task(
        loop.create_connection(
            asyncio.Protocol, sock=ours, ssl=client_context(), server_hostname=HOST
        )
    )
    assert await loop.sock_recv(theirs, 1 << 16)
    theirs.close()
    with pytest.raises(ConnectionResetError):
        await connecting
    assert contexts == []


async def test_a_cancelled_connection_attempt_is_closed(
    loop: Loop, contexts: list[Context]
) -> None:
    ours, theirs = socket_pair()
    with theirs:
        connecting = loop.create_task(
            loop.create_connection(
                asyncio.Protocol, sock=ours, ssl=client_context(), server_hostname=HOST
            )
        )
        assert await loop.sock_recv(theirs, 1 << 16)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert await loop.sock_recv(theirs, 1) == b""
    assert contexts == []


async def test_writes_after_the_end_are_dropped_with_a_warning(
    loop: Loop, logged: Complaints
) -> None:
    async with tls_linked(loop, Recorder) as (ours, _):
        ours.transport.close()
        for _ in range(5):
            ours.transport.write(b"too late")
        assert logged.take() == []
        ours.transport.write(b"too late")
        assert logged.take() == ["SSL connection is closed"]
        # Nobody looks at the pieces any more.
        nothing: Any = None
        ours.transport.writelines(nothing)
        assert logged.take() == ["SSL connection is closed"]


async def test_a_true_answer_to_eof_has_no_effect(loop: Loop, logged: Complaints) -> None:
    class KeepOpen(Recorder):
        def eof_received(self) -> bool | None:
            super().eof_received()
            return True

    async with tls_linked(loop, KeepOpen) as (ours, peer):
        await peer.say_goodbye()
        assert await ours.lost is None
    assert logged.take() == ["returning true from eof_received() has no effect when using ssl"]


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
async def test_an_exception_of_the_protocol_ends_the_connection(
    loop: Loop, contexts: list[Context], method: str
) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if method == "data_received":
                raise ZeroDivisionError

        def eof_received(self) -> bool | None:
            super().eof_received()
            raise ZeroDivisionError

    async with tls_linked(loop, Failing) as (ours, peer):
        if method == "data_received":
            await peer.send(b"x")
        else:
            await loop.sock_sendall(peer.sock, peer.announce_end())
        assert isinstance(await ours.lost, ZeroDivisionError)
        assert ours.calls == ["connection_made", method, "connection_lost"]
    [context] = contexts
    assert isinstance(context["exception"], ZeroDivisionError)
    assert (
        context["message"]
        == {
            "data_received": "Fatal error on SSL protocol",
            "eof_received": "Error calling eof_received()",
        }[method]
    )


@pytest.mark.parametrize("raised", [asyncio.CancelledError, GeneratorExit])
async def test_what_is_no_exception_is_the_inner_transports_to_report(
    loop: Loop, contexts: list[Context], raised: type[BaseException]
) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"before")
            raise raised("here")

    async with tls_linked(loop, Failing) as (ours, peer):
        transport = ours.transport
        await peer.send(b"x")
        assert isinstance(await ours.lost, raised)
        assert ours.calls == ["connection_made", "data_received", "connection_lost"]
        assert await peer.receive(6) == b"before"
    [context] = contexts
    assert isinstance(context["exception"], raised)
    assert context["message"] == "Fatal error: protocol.buffer_updated() call failed."
    assert context["transport"] is not transport


async def test_an_exception_in_connection_lost_is_reported(
    loop: Loop, contexts: list[Context]
) -> None:
    class Failing(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise ZeroDivisionError

    async with tls_linked(loop, Failing) as (ours, _):
        ours.transport.abort()
        await ours.lost
        await until(lambda: contexts)
    [context] = contexts
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["message"].startswith("Exception in callback ")


async def test_a_broken_record_ends_the_connection(loop: Loop, contexts: list[Context]) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        await loop.sock_sendall(peer.sock, b"this is no record at all")
        assert isinstance(await ours.lost, ssl.SSLError)
    assert contexts == []


@pytest.mark.only("cloverleaf")
async def test_what_came_before_a_broken_record_is_not_lost(loop: Loop) -> None:
    """On asyncio it is, if both come in one piece."""
    async with tls_linked(loop, Recorder) as (ours, peer):
        peer.tls.write(b"sound")
        await loop.sock_sendall(peer.sock, peer.outgoing.read() + b"this is no record at all")
        assert isinstance(await ours.lost, ssl.SSLError)
        assert bytes(ours.data) == b"sound"


@pytest.mark.only("cloverleaf")
async def test_whole_records_before_a_broken_one_are_not_lost(loop: Loop) -> None:
    """On asyncio they are, if all come in one piece."""
    async with tls_linked(loop, Recorder) as (ours, peer):
        await peer.send(b"first")
        assert await ours.received(5) == b"first"
        peer.tls.write(b"x" * 16384)
        peer.tls.write(b"sound")
        sound = peer.outgoing.read()
        peer.tls.write(b"broken")
        broken = bytearray(peer.outgoing.read())
        broken[-1] ^= 1
        peer.tls.write(b"never read")
        await loop.sock_sendall(peer.sock, sound + broken + peer.outgoing.read())
        assert isinstance(await ours.lost, ssl.SSLError)
        assert bytes(ours.data) == b"x" * 16384 + b"sound"


@pytest.mark.parametrize("beginning", [b"GET /", b"\x17\x03\x03\xff\xff", b"\x17\x03\x01\x40\x00"])
async def test_the_beginning_of_no_record_is_refused_before_its_end(
    loop: Loop, beginning: bytes
) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        await peer.send(b"first")
        assert await ours.received(5) == b"first"
        for start in range(0, len(beginning), 3):
            await loop.sock_sendall(peer.sock, beginning[start : start + 3])
            await turns(3)
        assert isinstance(await ours.lost, ssl.SSLError)


async def test_a_goodbye_among_records_is_the_end(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        await peer.send(b"first")
        assert await ours.received(5) == b"first"
        peer.tls.write(b"x" * 20_000)
        await loop.sock_sendall(peer.sock, peer.announce_end())
        assert await ours.lost is None
        assert bytes(ours.data) == b"x" * 20_000


async def test_data_after_our_goodbye_is_an_error(loop: Loop) -> None:
    async with tls_linked(loop, Recorder) as (ours, peer):
        ours.transport.close()
        await turns(2)
        await peer.send(b"but wait")
        lost = await ours.lost
        assert isinstance(lost, ssl.SSLError)
        assert "APPLICATION_DATA_AFTER_CLOSE_NOTIFY" in str(lost)
        assert "data_received" not in ours.calls


async def test_an_unclosed_tls_transport_is_warned_about(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with theirs:
        peer = Peer(loop, theirs, server_context())
        (transport, protocol), _ = await asyncio.gather(
            loop.create_connection(
                lambda: Recorder(loop), sock=ours, ssl=client_context(), server_hostname=HOST
            ),
            peer.handshake(),
        )
        seen = weakref.ref(transport)
        transport.pause_reading()
        await peer.send(bytes(400_000))
        # Too much waits, so the inner transport has been paused: nothing holds the connection now.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del protocol, transport
            await turns(3)
            gc.collect()
            await turns(3)
            gc.collect()
        messages = [str(each.message) for each in caught if each.category is ResourceWarning]
        # A warning keeps what it is about.
        caught.clear()
        gc.collect()
        assert seen() is None
    assert any(each.startswith("unclosed transport") for each in messages), messages


async def test_a_lost_connection_leaves_no_garbage(loop: Loop) -> None:
    context = client_context()
    async with tls_linked(loop, Recorder, context) as (ours, peer):
        await peer.send(b"x")
        await ours.received(1)
        ours.transport.close()
        await peer.say_goodbye()
        await ours.lost
        seen = weakref.ref(context)
    del context, ours, peer
    await turns(2)
    gc.collect()
    assert seen() is None


def test_a_program_may_end_with_open_connections(program: Program) -> None:
    ended = program(
        """
        import asyncio, sys
        sys.path.insert(0, {path!r})
        from parity.harness.certificates import HOST, client_context, server_context

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(
                asyncio.Protocol, "127.0.0.1", 0, ssl=server_context()
            )
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_context(), server_hostname=HOST
            )
            return server, reader, writer

        loop = new_event_loop()
        kept = loop.run_until_complete(main())
        print("done")
        """.replace("{path!r}", repr(str(Path(__file__).parents[1])))
    )
    assert (ended.status, ended.out, ended.err) == (0, "done\n", "")
