"""Datagrams between endpoints, and what an endpoint tells about itself."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import re
import socket
import sys
import weakref
from typing import Any

import pytest

from .harness.datagrams import LOCALHOST, Mailbox, endpoint, plain_udp
from .harness.turns import turns
from .harness.types import Context, Loop


async def test_two_endpoints_talk(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as server:
        address = server.transport.get_extra_info("sockname")
        async with endpoint(loop, remote_addr=address) as client:
            client.transport.sendto(b"question")
            assert await server.received(1) == [b"question"]
            asker = client.transport.get_extra_info("sockname")
            assert server.mail[0][1] == asker
            server.transport.sendto(b"answer", asker)
            await client.received(1)
            assert client.mail == [(b"answer", address)]


async def test_connection_made_comes_before_the_endpoint_is_returned(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        assert box.calls == ["connection_made"]


async def test_ipv6_addresses_have_four_parts(loop: Loop) -> None:
    with plain_udp("::1") as peer:
        async with endpoint(loop, ("::1", 0)) as box:
            host, port, flowinfo, scope = box.transport.get_extra_info("sockname")
            assert (host, flowinfo, scope) == ("::1", 0, 0)
            peer.sendto(b"in", (host, port))
            await box.received(1)
            assert box.mail == [(b"in", peer.getsockname())]
            for address in (peer.getsockname(), peer.getsockname()[:2], box.mail[0][1]):
                box.transport.sendto(b"out", address)
                assert peer.recvfrom(10) == (b"out", (host, port, 0, 0))


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", ""])
async def test_a_hosts_name_can_be_sent_to(loop: Loop, address: str) -> None:
    with plain_udp() as peer:
        port = peer.getsockname()[1]
        async with endpoint(loop, LOCALHOST) as box:
            box.transport.sendto(b"named", (address, port))
            assert peer.recv(10) == b"named"


async def test_datagrams_keep_their_order_and_borders(loop: Loop) -> None:
    sizes = [1, 1400, 9000, 2, 30000, 3] * 4
    expected = [bytes([number]) * size for number, size in enumerate(sizes)]
    async with endpoint(loop, LOCALHOST) as box:
        with plain_udp() as peer:
            for data in expected:
                peer.sendto(data, box.transport.get_extra_info("sockname"))
            assert await box.received(len(expected)) == expected


async def test_the_largest_datagram_comes_whole(loop: Loop) -> None:
    largest = bytes(range(256)) * 255 + b"x" * 227
    async with endpoint(loop, LOCALHOST) as box:
        address = box.transport.get_extra_info("sockname")
        for _ in range(12):  # some of them in a batch
            box.transport.sendto(largest, address)
            box.transport.sendto(b"small", address)
            await box.received(2)
            assert box.data == [largest, b"small"]
            box.mail.clear()


async def test_a_long_burst_comes_whole_and_in_order(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        sock = box.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        address = box.transport.get_extra_info("sockname")
        with plain_udp() as one, plain_udp() as other:
            for burst in range(5):
                expected = [(b"%d" % n, (one, other)[n % 2].getsockname()) for n in range(100)]
                for number in range(100):
                    (one, other)[number % 2].sendto(b"%d" % number, address)
                await box.received(100)
                assert box.mail == expected, f"burst {burst}"
                box.mail.clear()


async def test_an_endless_sender_does_not_starve_the_others(loop: Loop) -> None:
    class Endless(Mailbox):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)
            self.transport.sendto(data, addr)

    async with endpoint(loop, LOCALHOST, mailbox=Endless) as box, endpoint(loop, LOCALHOST) as calm:
        address = box.transport.get_extra_info("sockname")
        box.transport.sendto(b"again", address)
        await box.received(1000)
        with plain_udp() as peer:
            peer.sendto(b"let me in", calm.transport.get_extra_info("sockname"))
        before = len(box.mail)
        await calm.received(1)
        await turns(2)
        assert len(box.mail) - before < 1000


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="sent from Python 3.13 on")
async def test_an_empty_datagram_is_not_sent(loop: Loop) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST) as box:
            box.transport.sendto(b"", peer.getsockname())
            box.transport.sendto(b"next", peer.getsockname())
            assert peer.recv(10) == b"next"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="not sent before Python 3.13")
async def test_an_empty_datagram_is_sent(loop: Loop) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST) as box:
            box.transport.sendto(b"", peer.getsockname())
            assert peer.recvfrom(10) == (b"", box.transport.get_extra_info("sockname"))


async def test_empty_datagrams_are_received(loop: Loop) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST) as box:
            for data in (b"", b"full", b""):
                peer.sendto(data, box.transport.get_extra_info("sockname"))
            assert await box.received(3) == [b"", b"full", b""]


@pytest.mark.parametrize("kind_of_bytes", [bytes, bytearray, memoryview])
async def test_every_kind_of_bytes_is_sent(loop: Loop, kind_of_bytes: Any) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST) as box:
            box.transport.sendto(kind_of_bytes(b"data"), addr=peer.getsockname())
            assert peer.recv(10) == b"data"


async def test_a_connected_socket_of_the_program_sends_to_its_peer(loop: Loop) -> None:
    with plain_udp() as peer:
        sock = plain_udp()
        sock.connect(peer.getsockname())
        async with endpoint(loop, sock=sock) as box:
            assert box.transport.get_extra_info("peername") == peer.getsockname()
            box.transport.sendto(b"one")
            box.transport.sendto(b"two", ("192.0.2.1", 9))
            assert [peer.recv(10), peer.recv(10)] == [b"one", b"two"]


async def test_a_refused_datagram_is_told_and_the_endpoint_goes_on(loop: Loop) -> None:
    with plain_udp() as peer:
        # It takes from nobody but itself, and nobody else can have its port.
        peer.connect(peer.getsockname())
        async with endpoint(loop, remote_addr=peer.getsockname()) as box:
            box.transport.sendto(b"anybody?")
            assert isinstance(await box.failed(), ConnectionRefusedError)
            peer.connect(box.transport.get_extra_info("sockname"))
            box.transport.sendto(b"again")
            assert peer.recv(10) == b"again"
            assert not box.transport.is_closing()


async def test_what_is_too_long_is_told_at_once(loop: Loop) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST) as box:
            box.transport.sendto(bytes(65508), peer.getsockname())
            assert [type(error) for error in box.errors] == [OSError]
            assert box.errors[0].errno == errno.EMSGSIZE  # type: ignore[attr-defined]


async def test_an_unknown_host_is_told_at_once(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        box.transport.sendto(b"lost", ("::1", 9))
        assert [type(error) for error in box.errors] == [socket.gaierror]
        assert not box.transport.is_closing()


@pytest.mark.parametrize("address", [None, "a path", ("127.0.0.1",), ("127.0.0.1", "9"), 7])
async def test_a_wrong_address_ends_the_endpoint(
    loop: Loop, contexts: list[Context], address: Any
) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        box.transport.sendto(b"lost", address)
        error = await asyncio.shield(box.lost)
        assert isinstance(error, TypeError)
        [context] = contexts
        assert context["message"] == "Fatal write error on datagram transport"
        assert context["exception"] is error
        assert context["transport"] is box.transport
        assert context["protocol"] is box


async def test_what_error_received_raises_reaches_the_sender(loop: Loop) -> None:
    class Strict(Mailbox):
        def error_received(self, exc: Exception) -> None:
            raise RuntimeError("not with me")

    async with endpoint(loop, LOCALHOST, mailbox=Strict) as box:
        with pytest.raises(RuntimeError, match="not with me"):
            box.transport.sendto(bytes(65508), ("127.0.0.1", 9))
        assert not box.transport.is_closing()


async def test_what_datagram_received_raises_is_reported(
    loop: Loop, contexts: list[Context]
) -> None:
    class Strict(Mailbox):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if int(data) % 2:
                raise RuntimeError(f"not {data!r}")

    async with endpoint(loop, LOCALHOST, mailbox=Strict) as box:
        with plain_udp() as peer:
            for number in range(40):
                peer.sendto(b"%d" % number, box.transport.get_extra_info("sockname"))
        assert await box.received(40) == [b"%d" % number for number in range(40)]
        await turns(2)
        assert len(contexts) == 20
        assert isinstance(contexts[0]["exception"], RuntimeError)
        assert set(contexts[0]) == {"message", "exception", "handle"}
        assert re.match(r"Exception in callback \w+\._read_ready\(", contexts[0]["message"])
        assert not box.transport.is_closing()


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_loses_no_datagram(loop: Loop, ending: type[BaseException]) -> None:
    class Interrupted(Mailbox):
        interrupt_at = 30

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.mail) == self.interrupt_at:
                raise ending

    box = Interrupted(loop)
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: box, local_addr=LOCALHOST)
    )
    with plain_udp() as peer:
        for number in range(60):
            peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    with pytest.raises(ending):
        loop.run_forever()
    assert len(box.mail) == 30
    received = loop.run_until_complete(box.received(60))
    assert received == [b"%d" % number for number in range(60)]
    transport.close()
    loop.run_until_complete(box.lost)


async def test_datagrams_are_received_in_the_makers_context(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    class Curious(Mailbox):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            seen.append(variable.get("unset"))
            variable.set("protocol")
            super().datagram_received(data, addr)

    variable.set("maker")
    async with endpoint(loop, LOCALHOST, mailbox=Curious) as box:
        variable.set("later")
        with plain_udp() as peer:
            for count in (1, 2):
                peer.sendto(b"in", box.transport.get_extra_info("sockname"))
                await box.received(count)
    assert seen == ["maker", "protocol"]
    assert variable.get() == "later"


async def test_the_protocol_can_be_exchanged(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        other = Mailbox(loop)
        assert box.transport.get_protocol() is box
        box.transport.set_protocol(other)
        assert box.transport.get_protocol() is other
        with plain_udp() as peer:
            peer.sendto(b"in", box.transport.get_extra_info("sockname"))
        assert await other.received(1) == [b"in"]
        box.transport.set_protocol(box)
    assert box.data == []


async def test_extra_info(loop: Loop) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, remote_addr=peer.getsockname()) as box:
            transport = box.transport
            sock = transport.get_extra_info("socket")
            assert type(sock).__name__ == "TransportSocket"
            assert sock.type == socket.SOCK_DGRAM
            assert transport.get_extra_info("sockname") == sock.getsockname()
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("nothing") is None
            assert transport.get_extra_info("nothing", "default") == "default"
    assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
    assert sock.fileno() == -1


async def test_an_endpoint_is_a_datagram_transport(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        transport: Any = box.transport
        assert isinstance(transport, asyncio.Transport)
        if sys.version_info >= (3, 12):
            assert isinstance(transport, asyncio.DatagramTransport)
        assert weakref.ref(transport)() is transport
        vars(transport)["label"] = "mine"
        assert getattr(transport, "label", None) == "mine"
        for method in (transport.write_eof, transport.can_write_eof):
            with pytest.raises(NotImplementedError):
                method()
        with pytest.raises(NotImplementedError):
            transport.write(b"data")


async def test_the_repr_tells_the_state(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        transport = box.transport
        await turns(2)
        fd = transport.get_extra_info("socket").fileno()
        name = type(transport).__name__
        idle = f"<{name} fd={fd} read=polling write=<idle, bufsize=0>>"
        assert repr(transport) == idle
        transport.pause_reading()
        assert repr(transport) == idle.replace("read=polling", "read=idle")
        transport.close()
        assert repr(transport).startswith(f"<{name} closing fd={fd} read=idle")
    assert repr(transport) == f"<{name} closed fd={fd}>"


async def test_reuse_port_lets_two_endpoints_share_one(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST, reuse_port=True) as one:
        address = one.transport.get_extra_info("sockname")
        async with endpoint(loop, address, reuse_port=True) as two:
            assert two.transport.get_extra_info("sockname") == address


async def test_debug_mode_tells_of_new_endpoints(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    with caplog.at_level("DEBUG", "asyncio"):
        async with endpoint(loop, LOCALHOST) as box:
            address = box.transport.get_extra_info("sockname")
        async with endpoint(loop, remote_addr=address):
            pass
    texts = [r.getMessage() for r in caplog.records if "Datagram" in r.getMessage()]
    assert len(texts) == 2
    assert texts[0].startswith("Datagram endpoint local_addr=('127.0.0.1', 0) remote_addr=None")
    assert texts[1].startswith(f"Datagram endpoint remote_addr={address!r} created: (")


def test_an_audit_hook_hears_of_sendto(program: Any) -> None:
    program.output(
        """
        import asyncio, sys
        heard = []
        sys.addaudithook(lambda name, args: name == "socket.sendto" and heard.append(args[1]))
        async def main():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            address = transport.get_extra_info("sockname")
            transport.sendto(b"x", address)
            transport.close()
            assert heard == [address], heard
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        """
    )


async def test_an_endpoint_that_nobody_closed_warns(loop: Loop) -> None:
    box = Mailbox(loop)
    held: list[Any] = list(await loop.create_datagram_endpoint(lambda: box, local_addr=LOCALHOST))
    held[0].pause_reading()
    await turns(2)
    sock = held[0].get_extra_info("socket")
    box.made = loop.create_future()
    with pytest.warns(ResourceWarning, match="unclosed transport <.*Transport.* fd="):
        held.clear()
    assert sock.fileno() == -1
    assert "connection_lost" not in box.calls
