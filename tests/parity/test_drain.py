"""``drain``: a server ends in bounded time, and its connections as gently as that allows."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.certificates import client_context, server_context
from .harness.links import everything, wait_for_a_client
from .harness.protocols import Echo, Recorder
from .harness.tls import Peer
from .harness.turns import turns, until
from .harness.types import Loop, NewLoop, Run

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has nothing like it


PAGE = Path(__file__).parents[2] / "docs" / "stopping.md"


def test_the_example_says_what_the_page_says() -> None:
    [(example, said)] = re.findall(
        r"```python\n(.*?)```\n+```text\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    told = subprocess.run(
        [sys.executable, "-c", example], check=True, capture_output=True, text=True, timeout=60
    )
    assert told.stdout == said


class Serving:
    """A server, the protocols that it has made, and plain sockets that are connected to it."""

    def __init__(self, loop: Loop, protocol: Callable[[Loop], Recorder] = Recorder) -> None:
        self.loop = loop
        self.made: list[Recorder] = []
        self.clients: list[socket.socket] = []
        self._protocol = protocol

    def factory(self) -> Recorder:
        """Make a protocol, and keep it."""
        self.made.append(self._protocol(self.loop))
        return self.made[-1]

    async def start(self, **options: Any) -> asyncio.Server:
        """Serve on a port of the system's choice."""
        self.server = await self.loop.create_server(self.factory, "127.0.0.1", 0, **options)
        return self.server

    def call(self) -> socket.socket:
        """Connect, without letting the loop know."""
        client = socket.create_connection(self.server.sockets[0].getsockname())
        client.settimeout(60)
        self.clients.append(client)
        return client

    async def have(self, count: int) -> list[socket.socket]:
        """Connect so often, and wait until all are accepted."""
        for _ in range(count):
            self.call()
        await until(lambda: len(self.made) == count)
        for protocol in self.made:
            await protocol.made
        return self.clients

    def let_go(self) -> None:
        """Close the sockets."""
        for client in self.clients:
            client.close()


@pytest.fixture
def serving(loop: Loop) -> Any:
    """Serve with protocols that only note what comes."""
    serving = Serving(loop)
    yield serving
    serving.let_go()


async def test_a_server_without_connections_is_closed(loop: Loop, serving: Serving) -> None:
    server = await serving.start()
    address = server.sockets[0].getsockname()
    assert await cloverleaf.drain(server, 60) == cloverleaf.Drained(0, 0, 0)
    assert server.sockets == ()
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    await server.wait_closed()
    assert await cloverleaf.drain(server, None) == cloverleaf.Drained(0, 0, 0)


async def test_a_server_that_has_not_begun_is_closed(loop: Loop, serving: Serving) -> None:
    server = await serving.start(start_serving=False)
    assert await cloverleaf.drain(server, 60) == cloverleaf.Drained(0, 0, 0)
    assert server.sockets == ()


@pytest.mark.parametrize("seconds", [None, 60, 60.0])
async def test_connections_may_end_by_themselves(
    loop: Loop, serving: Serving, seconds: float | None
) -> None:
    server = await serving.start()
    first, second = await serving.have(2)
    draining = loop.create_task(cloverleaf.drain(server, seconds))
    await turns(5)
    assert server.sockets == ()
    first.sendall(b"still served")
    assert await serving.made[0].received(12) == b"still served"
    first.close()
    await serving.made[0].lost
    await turns(5)
    assert not draining.done()
    second.close()
    report = await draining
    assert report == cloverleaf.Drained(ended=2, closed=0, aborted=0)
    assert [protocol.lost.done() for protocol in serving.made] == [True, True]


async def test_those_that_are_left_are_closed_when_all_is_sent(
    loop: Loop, serving: Serving
) -> None:
    server = await serving.start()
    (client,) = await serving.have(1)
    written = bytes(range(256)) * (1 << 16)  # more than the kernel takes
    serving.made[0].transport.write(written)
    assert serving.made[0].transport.get_write_buffer_size() > 0
    reading = loop.run_in_executor(None, everything, client)
    report = await cloverleaf.drain(server, 0, grace=60)
    assert report == cloverleaf.Drained(ended=0, closed=1, aborted=0)
    assert serving.made[0].lost.result() is None
    assert await reading == written


@pytest.mark.parametrize("grace", [0, 0.001])
async def test_those_that_do_not_close_are_aborted(
    loop: Loop, serving: Serving, grace: float
) -> None:
    server = await serving.start()
    await serving.have(3)
    serving.clients[0].close()
    await serving.made[0].lost
    serving.made[1].transport.write(bytes(1 << 24))  # more than the kernel takes
    draining = loop.create_task(cloverleaf.drain(server, 0.001, grace=grace))
    report = await draining
    # It is a matter of time only whether the one that has nothing to send ends before.
    assert (report.ended, report.closed + report.aborted) == (0, 2)
    assert report.aborted >= 1
    assert all(protocol.lost.done() for protocol in serving.made)


async def test_who_has_called_before_is_still_served(loop: Loop) -> None:
    serving = Serving(loop, Echo)
    server = await serving.start()
    listener = server.sockets[0]
    client = serving.call()
    client.sendall(b"request")
    wait_for_a_client(listener)
    assert serving.made == []
    draining = loop.create_task(cloverleaf.drain(server, None))
    assert await loop.run_in_executor(None, client.recv, 7) == b"request"
    serving.let_go()
    assert await draining == cloverleaf.Drained(ended=1, closed=0, aborted=0)


async def test_all_who_wait_are_accepted_however_many(loop: Loop, serving: Serving) -> None:
    server = await serving.start()
    for _ in range(50):  # more than one turn accepts otherwise
        serving.call()
    draining = loop.create_task(cloverleaf.drain(server, 60))
    await until(lambda: len(serving.made) == 50)
    serving.let_go()
    assert await draining == cloverleaf.Drained(ended=50, closed=0, aborted=0)


async def test_who_is_accepted_last_is_no_part_of_the_draining_task(loop: Loop) -> None:
    current: list[object] = []

    class Asking(Echo):
        def __init__(self, loop: Loop) -> None:
            current.append(asyncio.current_task())
            super().__init__(loop)

    serving = Serving(loop, Asking)
    server = await serving.start()
    serving.call()
    wait_for_a_client(server.sockets[0])
    assert await cloverleaf.drain(server, 0, grace=60) == cloverleaf.Drained(0, 1, 0)
    serving.let_go()
    assert current == [None]


async def test_serve_forever_ends_with_the_drain_and_not_before(
    loop: Loop, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloverleaf._server.SERVERS_CLOSE_CLIENTS", True)  # as in newer releases
    server = await serving.start()
    forever = loop.create_task(server.serve_forever())
    (client,) = await serving.have(1)
    draining = loop.create_task(cloverleaf.drain(server, None))
    await turns(10)
    # A cancelled serve_forever would have closed the client by now.
    assert not forever.done()
    assert not serving.made[0].transport.is_closing()
    client.close()
    assert (await draining).ended == 1
    with pytest.raises(asyncio.CancelledError):
        await forever


async def test_a_cancelled_drain_can_be_made_again(loop: Loop, serving: Serving) -> None:
    server = await serving.start()
    forever = loop.create_task(server.serve_forever())
    (client,) = await serving.have(1)
    draining = loop.create_task(cloverleaf.drain(server, None))
    await turns(5)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    await turns(5)
    assert server.sockets == ()
    assert not forever.done()
    assert not serving.made[0].transport.is_closing()
    again = loop.create_task(cloverleaf.drain(server, None))
    await turns(5)
    client.close()
    assert await again == cloverleaf.Drained(ended=1, closed=0, aborted=0)
    with pytest.raises(asyncio.CancelledError):
        await forever


async def test_close_after_a_cancelled_drain_ends_serve_forever(
    loop: Loop, serving: Serving
) -> None:
    server = await serving.start()
    forever = loop.create_task(server.serve_forever())
    await serving.have(1)
    draining = loop.create_task(cloverleaf.drain(server, None))
    await turns(1)
    draining.cancel()  # before it has accepted who waits
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert server.sockets == ()
    server.close()
    serving.let_go()
    with pytest.raises(asyncio.CancelledError):
        await forever
    await serving.made[0].lost


async def test_two_who_drain_hear_both(loop: Loop, serving: Serving) -> None:
    server = await serving.start()
    await serving.have(2)
    patient = loop.create_task(cloverleaf.drain(server, None))
    await turns(3)
    assert await cloverleaf.drain(server, 0, grace=60) == cloverleaf.Drained(0, 2, 0)
    assert await patient == cloverleaf.Drained(2, 0, 0)


async def test_tls_says_goodbye(loop: Loop, serving: Serving) -> None:
    server = await serving.start(ssl=server_context())
    client = serving.call()
    client.setblocking(False)
    peer = Peer(loop, client, client_context())
    await peer.handshake()
    await serving.made[0].made
    draining = loop.create_task(cloverleaf.drain(server, 0, grace=60))
    assert await peer.receive_end()
    await peer.say_goodbye()
    client.close()
    assert await draining == cloverleaf.Drained(ended=0, closed=1, aborted=0)
    assert serving.made[0].lost.result() is None


async def test_who_never_shakes_hands_is_got_rid_of(loop: Loop, serving: Serving) -> None:
    server = await serving.start(ssl=server_context())
    serving.call()
    wait_for_a_client(server.sockets[0])
    report = await cloverleaf.drain(server, 0, grace=0)
    assert (report.ended, report.closed + report.aborted) == (0, 1)


async def test_unix_sockets_and_many_sockets_too(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(lambda: Echo(loop), path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        assert await cloverleaf.drain(server, 0, grace=60) == cloverleaf.Drained(0, 1, 0)
    with (
        pytest.raises(OSError, match=r"refused|No such file"),
        socket.socket(socket.AF_UNIX) as who,
    ):
        who.connect(path)

    hosts = ["127.0.0.1", "127.0.0.2"]
    server = await loop.create_server(lambda: Echo(loop), hosts, 0)
    addresses = [sock.getsockname() for sock in server.sockets]
    clients = [socket.create_connection(address) for address in addresses]
    for sock in server.sockets:
        wait_for_a_client(sock)
    assert await cloverleaf.drain(server, 0, grace=60) == cloverleaf.Drained(0, 2, 0)
    for address, client in zip(addresses, clients, strict=True):
        client.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


async def test_handlers_of_streams_are_let_finish(loop: Loop) -> None:
    stopping = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stopping.wait()
        writer.write(b"goodbye")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    draining = loop.create_task(cloverleaf.drain(server, None))
    await turns(5)
    stopping.set()
    assert await reader.read() == b"goodbye"
    writer.close()
    assert await draining == cloverleaf.Drained(ended=1, closed=0, aborted=0)


async def test_what_is_no_argument_is_refused(loop: Loop, serving: Serving) -> None:
    server = await serving.start()
    for nonsense in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="timeout must be a number of seconds from zero on"):
            await cloverleaf.drain(server, nonsense)
        with pytest.raises(ValueError, match="grace must be a number of seconds from zero on"):
            await cloverleaf.drain(server, 1, grace=nonsense)
    for wrong in (True, "1"):
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            await cloverleaf.drain(server, wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="grace must be a number of seconds"):
        await cloverleaf.drain(server, 1, grace=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"needs a server of Cloverleaf's, not object"):
        await cloverleaf.drain(object(), 1)  # type: ignore[arg-type]
    assert server.is_serving()
    server.close()


def test_a_server_of_another_loop_is_refused(new_loop: NewLoop, run: Run) -> None:
    other = new_loop()
    server = other.run_until_complete(other.create_server(asyncio.Protocol, "127.0.0.1", 0))

    async def attempt() -> None:
        with pytest.raises(RuntimeError, match="in the loop of its server"):
            await cloverleaf.drain(server, 1)

    run(attempt())
    server.close()
