"""Nobody waits for ever: quiet connections beside loud ones, threads beside a loop with no rest."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import cast

import pytest

import cloverleaf

from .harness.types import Loop

LOUD = 64

DEADLINE = 90.0


class Listening(asyncio.Protocol):
    """Notes who hears what; the quiet one's words end the test."""

    def __init__(self, name: int, heard: list[int], over: asyncio.Future[None]) -> None:
        self.name, self.heard, self.over = name, heard, over

    def data_received(self, data: bytes) -> None:
        self.heard.append(self.name)
        if self.name == LOUD and not self.over.done():
            self.over.set_result(None)


async def test_a_quiet_connection_waits_for_each_loud_one_once(loop: Loop) -> None:
    heard: list[int] = []
    over = loop.create_future()
    pairs = [socket.socketpair() for _ in range(LOUD + 1)]
    transports = []
    for name, (ours, theirs) in enumerate(pairs):
        theirs.setblocking(False)
        protocol = Listening(name, heard, over)
        transport, _ = await loop.create_connection(lambda p=protocol: p, sock=ours)  # type: ignore[misc]
        transport.pause_reading()
        transports.append(transport)
    for _, theirs in pairs[:LOUD]:
        try:
            while theirs.send(b"loud" * 10_000):
                pass
        except BlockingIOError:
            pass
    pairs[LOUD][1].send(b"quiet")
    for transport in transports:
        transport.resume_reading()
    await over
    before = Counter(heard[: heard.index(LOUD)])
    # asyncio may find the quiet one's event only with the next look at the kernel.
    assert max(before.values(), default=0) <= 2
    for transport, (_, theirs) in zip(transports, pairs, strict=True):
        transport.abort()
        theirs.close()
    await asyncio.sleep(0)


@pytest.fixture
def no_switches() -> Iterator[None]:
    """Nobody is made to let go of Python: whoever does not do so keeps it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(10 * DEADLINE)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("no_switches")
async def test_a_loop_that_never_sleeps_lets_other_threads_run(loop: Loop) -> None:
    await loop.run_in_executor(None, int)  # its thread waits for more
    end = loop.time() + DEADLINE
    asked = loop.run_in_executor(None, int)
    while not asked.done():
        assert loop.time() < end, "the thread was never let in"
        await asyncio.sleep(0)
    assert await asked == 0


@pytest.mark.usefixtures("no_switches")
def test_nor_does_one_without_descriptors_in_another_thread(loop: Loop) -> None:
    over = threading.Event()
    heard: list[bool] = []

    def again() -> None:
        if over.is_set() or loop.time() > end:
            heard.append(over.is_set())
            loop.stop()
        else:
            loop.call_soon(again)

    end = loop.time() + DEADLINE
    loop.call_soon(again)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    # This thread needs Python to say so, and the other one has it.
    over.set()
    thread.join()
    assert heard == [True]


class Talking(asyncio.Protocol):
    """One end of a conversation: it answers each word at once."""

    def __init__(self, loop: Loop, is_over: Callable[[], bool]) -> None:
        self.loop, self.is_over = loop, is_over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.is_over():
            self.loop.stop()
        else:
            self.transport.write(data)


def converse(loop: Loop, is_over: Callable[[], bool]) -> None:
    """Have two ends on one loop talk, so that something has come each time the loop would sleep."""
    ends = socket.socketpair()

    async def connect() -> list[asyncio.Transport]:
        make = [loop.create_connection(lambda: Talking(loop, is_over), sock=end) for end in ends]
        return [transport for transport, _ in await asyncio.gather(*make)]

    transports = loop.run_until_complete(connect())
    transports[0].write(b"word")
    loop.run_forever()
    for transport in transports:
        transport.abort()


@pytest.mark.usefixtures("no_switches")
def test_nor_does_one_that_finds_something_whenever_it_would_sleep(loop: Loop) -> None:
    loop.run_until_complete(loop.run_in_executor(None, int))  # its thread waits for more
    end = loop.time() + DEADLINE
    asked: list[asyncio.Future[int]] = []

    def is_over() -> bool:
        if not asked:
            asked.append(loop.run_in_executor(None, int))
        return asked[0].done() or loop.time() > end

    converse(loop, is_over)
    assert asked[0].done(), "the thread was never let in"


class Answered(asyncio.Protocol):
    """A loud connection: it hears the next word as soon as it has heard one."""

    def __init__(
        self, peer: socket.socket, heard: list[int], quiet: socket.socket, at: int
    ) -> None:
        self.peer, self.heard, self.quiet, self.at = peer, heard, quiet, at

    def data_received(self, data: bytes) -> None:
        self.heard.append(LOUD + 1)
        if len(self.heard) == self.at:
            self.quiet.send(b"quiet")
        self.peer.send(b"loud")


@pytest.mark.parametrize("place", [1, LOUD // 2, LOUD])
async def test_a_quiet_connection_waits_for_the_rest_of_one_turn(loop: Loop, place: int) -> None:
    heard: list[int] = []
    over = loop.create_future()
    pairs = [socket.socketpair() for _ in range(LOUD + 1)]
    quiet = pairs[LOUD][1]
    # Where in a turn the quiet one speaks, after some in which the loud ones did.
    at = 4 * LOUD + place
    transports = []
    for ours, theirs in pairs[:LOUD]:
        protocol = Answered(theirs, heard, quiet, at)
        transport, _ = await loop.create_connection(lambda p=protocol: p, sock=ours)  # type: ignore[misc]
        transports.append(transport)
    transport, _ = await loop.create_connection(
        lambda: Listening(LOUD, heard, over), sock=pairs[LOUD][0]
    )
    transports.append(transport)
    for _, theirs in pairs[:LOUD]:
        theirs.send(b"loud")
    await over
    waited_for = heard.index(LOUD) - at
    # The kernel reports first what was ready before, so asyncio serves all of them once more.
    assert waited_for < (LOUD if isinstance(loop, cloverleaf.EventLoop) else 2 * LOUD)
    for transport, (_, theirs) in zip(transports, pairs, strict=True):
        transport.abort()
        theirs.close()
    await asyncio.sleep(0)
