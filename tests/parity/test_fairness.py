"""Nobody waits for ever: quiet connections beside loud ones, threads beside a loop with no rest."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from .harness.types import Loop

LOUD = 64

DEADLINE = 20.0


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
