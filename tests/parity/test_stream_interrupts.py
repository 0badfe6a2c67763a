"""``KeyboardInterrupt`` and ``SystemExit`` out of a protocol end the run, and harm nothing else."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from .harness.complaints import Complaints
from .harness.protocols import Recorder
from .harness.turns import turn
from .harness.types import Loop


@pytest.mark.parametrize("passing", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_protocol_ends_the_run(
    loop: Loop, passing: type[BaseException], logged: Complaints
) -> None:
    class Interrupting(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"x":
                raise passing

    async def scenario(ours: socket.socket) -> Recorder:
        protocol = Interrupting(loop)
        await loop.create_connection(lambda: protocol, sock=ours)
        return protocol

    ours, theirs = socket.socketpair()
    with theirs:
        protocol = loop.run_until_complete(scenario(ours))
        theirs.send(b"x")
        with pytest.raises(passing):
            loop.run_forever()
        theirs.send(b"y")
        loop.run_until_complete(protocol.received(2))
        protocol.transport.close()
        assert loop.run_until_complete(protocol.lost) is None
    assert logged.take() == []


@pytest.mark.parametrize("method", ["connection_made", "eof_received", "connection_lost"])
@pytest.mark.parametrize("passing", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_anywhere_in_a_protocol_leaves_the_loop_usable(
    loop: Loop, passing: type[BaseException], method: str
) -> None:
    def interrupt(self: Recorder, *args: object) -> object:
        if method not in self.calls:
            self.calls.append(method)
            raise passing
        return getattr(Recorder, method)(self, *args)

    async def connect(ours: socket.socket) -> None:
        protocol = type("Interrupting", (Recorder,), {method: interrupt})(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        held.append(transport)
        await loop.create_future()

    held: list[asyncio.Transport] = []
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.shutdown(socket.SHUT_WR)
        task = loop.create_task(connect(ours))
        with pytest.raises(passing):
            loop.run_forever()
        assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        for transport in held:
            transport.abort()
        turn(loop)
        turn(loop)


@pytest.mark.parametrize("passing", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_factory_of_an_accepted_connection_ends_the_run(
    loop: Loop, passing: type[BaseException], logged: Complaints
) -> None:
    def factory() -> asyncio.Protocol:
        raise passing

    async def serve() -> asyncio.Server:
        return await loop.create_server(factory, "127.0.0.1", 0)

    server = loop.run_until_complete(serve())
    with socket.create_connection(server.sockets[0].getsockname()):
        with pytest.raises(passing):
            loop.run_forever()
        server.close()
        assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"
    gc.collect()
    logged.take()  # asyncio accepts in a task, whose exception nobody retrieves
