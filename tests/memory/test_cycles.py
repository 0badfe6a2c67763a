"""Cycles that pass through objects of the loop are found by the collector."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
import weakref
from collections.abc import Callable

import pytest

from parity.harness.turns import turn
from parity.harness.types import Loop


class Box:
    """Holds something, and may be called."""

    content: object = None

    def __call__(self, *_args: object) -> None:
        """Do nothing."""


class Failing(Box):
    """Raises an exception whose traceback holds it."""

    def __call__(self, *_args: object) -> None:
        """Fail."""
        raise LookupError(self)


def boxes_left(references: list[weakref.ref[Box]]) -> int:
    """Collect, and count what is still alive."""
    gc.collect()
    return sum(reference() is not None for reference in references)


def test_two_hundred_cycles_through_handles_are_collected(loop: Loop) -> None:
    references = []
    for n in range(200):
        box = Box()
        schedule: Callable[..., object] = (
            loop.call_soon,
            loop.call_soon_threadsafe,
            lambda callback: loop.call_later(0, callback),
            lambda callback: loop.call_at(0, callback),
        )[n % 4]
        box.content = schedule(box)
        references.append(weakref.ref(box))
    del box
    turn(loop)
    turn(loop)
    assert boxes_left(references) == 0


def make_handles(loop: Loop, end: str, references: list[weakref.ref[Box]]) -> None:
    """Make cycles of a box, the loop and a handle, and let the handles end in that way."""
    for n in range(100):
        box: Box = Failing() if end == "failed" else Box()
        schedule: Callable[..., asyncio.Handle] = (
            loop.call_soon,
            loop.call_soon_threadsafe,
            lambda callback: loop.call_later(0, callback),
        )[n % 3]
        handle = schedule(box)
        box.content = (loop, handle)
        if end == "cancelled":
            handle.cancel()
        references.append(weakref.ref(box))
    if end == "left":
        loop.stop()


@pytest.mark.parametrize("end", ["run", "cancelled", "left", "failed"])
def test_cycles_through_handles_made_while_the_loop_runs_are_collected(
    kind_factory: Callable[[], Loop], end: str
) -> None:
    """However a handle leaves the queue of a running loop, whoever kept it may be garbage then."""
    references: list[weakref.ref[Box]] = []
    loop = kind_factory()
    loop.set_exception_handler(lambda *_: None)
    loop.call_soon(make_handles, loop, end, references)
    for _ in range(1 if end == "left" else 3):
        turn(loop)
    loop.close()
    del loop
    assert len(references) == 100
    assert boxes_left(references) == 0


def leave_handles(loop: Loop, box: Box) -> None:
    """Make a cycle of a box, the loop and handles, and stop the loop before these run."""
    soon = (loop.call_soon(box), loop.call_soon_threadsafe(box))
    box.content = (loop, soon, loop.call_later(3600, box))
    loop.stop()


def test_a_loop_that_was_stopped_is_collected_with_the_handles_that_it_left(
    kind_factory: Callable[[], Loop],
) -> None:
    box = Box()
    references = [weakref.ref(box)]
    loop = kind_factory()
    loop.call_soon(leave_handles, loop, box)
    loop.run_forever()
    made = [loop]
    del box, loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        collect(made)
    assert boxes_left(references) == 0


def test_a_handle_that_only_a_weak_reference_knows_can_be_cancelled_by_its_callback(
    loop: Loop,
) -> None:
    box = Box()
    known: list[weakref.ref[asyncio.Handle]] = []
    seen: list[object] = []

    def look(*arguments: object) -> None:
        handle = known[0]()
        assert handle is not None
        handle.cancel()
        seen.append(arguments)
        box.content = handle

    async def make() -> None:
        known.append(weakref.ref(loop.call_soon(look, "a", ["b"])))
        await asyncio.sleep(0)

    loop.run_until_complete(make())
    assert seen == [("a", ["b"])]
    assert gc.is_tracked(box.content)


def test_cycles_through_handles_that_never_ran_are_collected_with_the_loop(
    kind_factory: Callable[[], Loop],
) -> None:
    references = []
    loop = kind_factory()
    for _ in range(200):
        box = Box()
        box.content = (loop, loop.call_soon(box), loop.call_later(3600, box))
        references.append(weakref.ref(box))
    loop.close()
    del box, loop
    assert boxes_left(references) == 0


def test_a_loop_in_a_cycle_with_what_it_holds_is_collected(
    kind_factory: Callable[[], Loop],
) -> None:
    """Nobody closed it, so only the collector can end it."""
    ours, theirs = socket.socketpair()
    loop = kind_factory()
    box = Box()
    box.content = loop
    loop.call_soon(box)
    loop.call_later(3600, box)
    loop.call_soon_threadsafe(box)
    loop.add_reader(ours, box)
    loop.set_exception_handler(box)
    references = [weakref.ref(box)]
    made = [loop]
    del box, loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        collect(made)
    assert boxes_left(references) == 0
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "left",
    [
        "end",
        # asyncio accepts by a task, which complains of its end.
        pytest.param("client", marks=pytest.mark.only("cloverleaf")),
    ],
)
def test_a_loop_in_a_cycle_with_a_step_that_it_never_takes_is_collected(
    kind_factory: Callable[[], Loop], left: str
) -> None:
    """It is stopped before a transport tells of its end, or before a client has a transport."""
    references: list[weakref.ref[Box]] = []

    class Protocol(asyncio.Protocol):
        def __init__(self, box: Box) -> None:
            self.box = box

    def leave() -> list[socket.socket]:
        loop, box = kind_factory(), Box()
        box.content = loop
        references.append(weakref.ref(box))
        if left == "end":
            ours, theirs = socket.socketpair()
            transport, _ = loop.run_until_complete(
                loop.create_connection(lambda: Protocol(box), sock=ours)
            )
            transport.close()
            return [theirs]
        server = loop.run_until_complete(loop.create_server(lambda: Protocol(box), "127.0.0.1", 0))
        client = socket.create_connection(server.sockets[0].getsockname())
        turn(loop)
        return [client]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        theirs = leave()
        gc.collect()
    assert [reference() for reference in references] == [None]
    for sock in theirs:
        sock.close()


def collect(made: list[Loop]) -> None:
    made.clear()
    gc.collect()


def test_cycles_through_watchers_are_collected(loop: Loop) -> None:
    references = []
    for _ in range(50):
        ours, theirs = socket.socketpair()
        box = Box()
        box.content = (ours, box)
        loop.add_reader(ours, box)
        loop.add_writer(ours, box)
        turn(loop)
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        references.append(weakref.ref(box))
        ours.close()
        theirs.close()
    del box, ours
    assert boxes_left(references) == 0


def test_cycles_through_transports_are_collected(loop: Loop) -> None:
    references: list[weakref.ref[asyncio.Protocol]] = []

    class Holding(asyncio.Protocol):
        transport: asyncio.BaseTransport | None = None

        def __init__(self) -> None:
            self.itself = self
            references.append(weakref.ref(self))

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            transport.protocol = self  # type: ignore[attr-defined]

    async def connect_and_close() -> None:
        for _ in range(50):
            ours, theirs = socket.socketpair()
            transport, _ = await loop.create_connection(Holding, sock=ours)
            transport.close()
            theirs.close()
        await asyncio.sleep(0)

    loop.run_until_complete(connect_and_close())
    turn(loop)
    gc.collect()
    assert len(references) == 50
    assert [reference() for reference in references] == [None] * 50


def test_cycles_through_the_exception_context_are_collected(loop: Loop) -> None:
    references: list[weakref.ref[Box]] = []
    contexts: list[object] = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    for _ in range(50):
        box = Failing()
        box.content = loop.call_soon(box)
        references.append(weakref.ref(box))
        turn(loop)
    assert len(contexts) == 50
    contexts.clear()
    del box
    assert boxes_left(references) == 0


def test_handles_are_tracked_by_the_collector(loop: Loop) -> None:
    box = Box()
    for handle in (loop.call_soon(box), loop.call_later(60, box), loop.call_soon_threadsafe(box)):
        assert gc.is_tracked(handle)
        assert box in gc.get_referents(handle)
        handle.cancel()
        assert box not in gc.get_referents(handle)
