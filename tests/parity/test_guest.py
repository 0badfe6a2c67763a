"""A loop that runs turn by turn in somebody else's: what a turn does, and when it ends.

asyncio has nothing of the kind that is public. The order of callbacks is compared with its own in
`test_turns_run_what_asyncios_turns_run`.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import socket
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import cloverleaf
import cloverleaf.testing

from .harness.hosts import guest_loop, host, own_loop
from .harness.types import Loop

__all__ = ["guest_loop", "own_loop"]


def test_a_turn_runs_what_is_ready_and_leaves_what_that_schedules(
    own_loop: cloverleaf.EventLoop,
) -> None:
    loop = own_loop
    ran = []

    def first() -> None:
        ran.append(1)
        loop.call_soon(ran.append, 3)

    loop.call_soon(first)
    loop.call_soon(ran.append, 2)
    assert loop.run_once() is True
    assert ran == [1, 2]
    assert loop.run_once() is True
    assert ran == [1, 2, 3]
    assert loop.run_once() is False


def test_turns_run_what_asyncios_turns_run() -> None:
    def orders(loop: Loop, once: Callable[[], object]) -> list[list[str]]:
        seen: list[str] = []

        async def task(name: str, steps: int) -> None:
            for step in range(steps):
                seen.append(f"{name}{step}")
                await asyncio.sleep(0)

        loop.call_soon(seen.append, "first")
        tasks = [loop.create_task(task(name, 3)) for name in "ab"]
        loop.call_later(0, seen.append, "timer")
        turns = []
        while not all(task.done() for task in tasks):
            once()
            turns.append(list(seen))
            seen.clear()
        loop.close()
        return turns

    theirs = asyncio.new_event_loop()

    def asyncios_turn() -> None:
        theirs.stop()
        theirs.run_forever()

    ours = cloverleaf.EventLoop()
    assert orders(ours, ours.run_once) == orders(theirs, asyncios_turn)


def test_within_a_turn_the_loop_runs_and_afterwards_it_does_not(
    own_loop: cloverleaf.EventLoop,
) -> None:
    loop = own_loop
    hooks = sys.get_asyncgen_hooks()
    within: list[Any] = []

    def look() -> None:
        within.append(asyncio.get_running_loop())
        within.append(loop.is_running())
        within.append(sys.get_asyncgen_hooks() == hooks)

    def fail() -> None:
        look()
        raise KeyboardInterrupt

    loop.call_soon(look)
    loop.run_once()
    loop.call_soon(fail)
    loop.call_soon(look)
    with pytest.raises(KeyboardInterrupt):
        loop.run_once()
    assert within == [loop, True, False] * 2
    assert asyncio._get_running_loop() is None
    assert not loop.is_running()
    assert sys.get_asyncgen_hooks() == hooks
    # What the exception kept from running has its turn.
    assert loop.next_deadline() is not None
    assert loop.run_once()
    assert within == [loop, True, False] * 3


def test_exceptions_go_to_the_handler_and_ends_of_programs_come_out(
    own_loop: cloverleaf.EventLoop,
) -> None:
    loop = own_loop
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    error = ValueError("of a callback")

    def fail(error: BaseException) -> None:
        raise error

    loop.call_soon(fail, error)
    assert loop.run_once()
    assert told == [error]
    loop.call_soon(fail, SystemExit(3))
    with pytest.raises(SystemExit):
        loop.run_once()


def test_who_may_not_run_it_is_told(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    refused: list[str] = []

    def try_it() -> None:
        with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
            loop.run_once()
        refused.append(threading.current_thread().name)

    def try_another() -> None:
        other = cloverleaf.EventLoop()
        with pytest.raises(RuntimeError, match="while another loop is running"):
            other.run_once()
        other.close()

    loop.call_soon(try_it)
    loop.call_soon(try_another)

    def from_elsewhere() -> None:
        thread = threading.Thread(target=try_it, name="elsewhere")
        thread.start()
        thread.join()

    loop.call_soon(from_elsewhere)
    assert loop.run_once()
    assert refused == ["MainThread", "elsewhere"]


def test_a_closed_loop_refuses(guard: None) -> None:
    loop = cloverleaf.EventLoop()
    loop.close()
    calls: list[Callable[[], object]] = [loop.run_once, loop.fileno, loop.next_deadline]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            call()


def test_a_loop_for_tests_refuses(guard: None) -> None:
    loop = cloverleaf.testing.EventLoop()
    try:
        for call in (loop.run_once, loop.fileno):
            with pytest.raises(RuntimeError, match="loop for tests runs by itself"):
                call()
        assert asyncio._get_running_loop() is None
        loop.run_until_complete(asyncio.sleep(1000))
    finally:
        loop.close()


@pytest.mark.parametrize("timeout", [-1, -1e-9, math.nan, -math.inf])
def test_a_timeout_that_is_none_is_refused(own_loop: cloverleaf.EventLoop, timeout: float) -> None:
    loop = own_loop
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        loop.run_once(timeout)
    assert not ran


@pytest.mark.parametrize("timeout", ["1", True, b"", [1]])
def test_a_timeout_that_is_no_number_is_refused(
    own_loop: cloverleaf.EventLoop, timeout: Any
) -> None:
    loop = own_loop
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
        loop.run_once(timeout)


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 600])
def test_it_waits_for_the_first_of_what_comes(
    guest_loop: cloverleaf.EventLoop, timeout: float | None
) -> None:
    loop = guest_loop
    ours, theirs = socket.socketpair()
    came: list[object] = []

    def until(count: int) -> None:
        while len(came) < count:
            loop.run_once(timeout)

    with ours, theirs:
        ours.setblocking(False)
        loop.add_reader(ours, lambda: came.append(ours.recv(10)))
        theirs.send(b"x")
        until(1)
        due = loop.time() + 0.02
        loop.call_at(due, lambda: came.append(loop.time() >= due))
        until(2)
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(came.append, "thread"))
        thread.start()
        until(3)
        thread.join()
        loop.remove_reader(ours)
    assert came == [b"x", True, "thread"]


def test_it_waits_for_no_longer_than_it_may(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    loop.call_later(600, lambda: None)
    began = time.monotonic()
    while time.monotonic() - began < 0.02:
        # It may come back earlier with nothing, but for a loop at rest, once is enough.
        assert loop.run_once(0.02) is False
    assert loop.metrics().asleep_seconds > 0


def test_timers_are_never_early(guest_loop: cloverleaf.EventLoop) -> None:
    loop = guest_loop
    early: list[float] = []
    left = 200

    def fired(due: float) -> None:
        nonlocal left
        left -= 1
        if loop.time() < due:
            early.append(due)

    start = loop.time()
    for index in range(left):
        due = start + index * 0.000_371
        loop.call_at(due, fired, due)
    host(loop, lambda: left == 0)
    assert not early


def test_the_next_deadline(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop

    def is_when(timer: asyncio.TimerHandle) -> bool:
        # A timer keeps the number that it was made with, and is due at the next whole nanosecond.
        return loop.next_deadline() == pytest.approx(timer.when(), rel=0, abs=3e-9)

    assert loop.next_deadline() is None
    late = loop.call_later(600, lambda: None)
    timer = loop.call_later(500, lambda: None)
    assert is_when(timer)
    timer.cancel()
    assert is_when(late)
    loop.call_soon(lambda: None)
    deadline = loop.next_deadline()
    assert deadline is not None
    assert deadline <= loop.time()
    loop.run_once()
    assert is_when(late)
    late.cancel()
    assert loop.next_deadline() is None


def test_streams_serve_from_a_host(guest_loop: cloverleaf.EventLoop) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()
        await writer.wait_closed()

    async def talk(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = []
        for number in range(50):
            writer.write(b"line %d\n" % number)
            lines.append(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return lines

    async def both() -> list[list[bytes]]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        said = await asyncio.gather(*[talk(port) for _ in range(20)])
        server.close()
        await server.wait_closed()
        return said

    loop = guest_loop
    task = loop.create_task(both())
    # On 3.11 the server is closed before the tasks of its connections have ended.
    host(loop, lambda: not asyncio.all_tasks(loop))
    assert task.result() == [[b"LINE %d\n" % number for number in range(50)]] * 20


def test_what_was_written_is_sent_when_the_turn_ends(guest_loop: cloverleaf.EventLoop) -> None:
    loop = guest_loop
    ours, theirs = socket.socketpair()

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport

        def data_received(self, data: bytes) -> None:
            for byte in data:
                self.transport.write(bytes([byte]))

    async def connect() -> asyncio.BaseTransport:
        return (await loop.create_connection(Echo, sock=ours))[0]

    with theirs:
        task = loop.create_task(connect())
        host(loop, task.done)
        theirs.setblocking(False)
        theirs.send(b"abc")
        assert loop.run_once(60)
        assert theirs.recv(10) == b"abc"
        task.result().close()
        while loop.run_once():
            pass


def test_asynchronous_generators_are_finalized(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    ended: list[bool] = []

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def look_at_one() -> None:
        generator = generate()
        await anext(generator)

    task = loop.create_task(look_at_one())
    host(loop, task.done)
    gc.collect()
    host(loop, lambda: bool(ended))


def test_contexts_are_kept_apart(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    loop.call_soon(variable.set, 1)
    loop.run_once()
    assert variable.get() == 0


def test_between_two_turns_nothing_is_busy_or_blocked(guard: None) -> None:
    told: list[Any] = []
    loop = cloverleaf.EventLoop()
    try:
        loop.set_watchdog(0.02, told.append)
        # Any machine may stand still for so long within a turn, but not each time.
        for _ in range(50):
            told.clear()
            loop.call_soon(int)
            loop.run_once()
            time.sleep(0.1)  # as a host that does other things
            if not told:
                break
        assert not told
        before = loop.metrics()
        names = {thread.name for thread in threading.enumerate()}
        assert "cloverleaf-watchdog" in names
        time.sleep(0.01)
        after = loop.metrics()
        assert after.busy_seconds == before.busy_seconds
        assert after.asleep_seconds == before.asleep_seconds
        # Within a turn it is.
        while not any("blocked" in str(stall) for stall in told):
            loop.call_soon(time.sleep, 0.3)
            loop.run_once()
        # One that runs by itself takes the watchdog with it when it ends.
        loop.run_until_complete(asyncio.sleep(0))
        assert "cloverleaf-watchdog" not in {thread.name for thread in threading.enumerate()}
        loop.run_once()
    finally:
        loop.close()
    assert "cloverleaf-watchdog" not in {thread.name for thread in threading.enumerate()}


def test_a_timer_of_a_turn_is_known_to_the_collector_at_once(
    own_loop: cloverleaf.EventLoop,
) -> None:
    """A run looks for its timers at its end, among all; each turn would be dear then."""
    made: list[bool] = []

    def work() -> None:
        made.append(gc.is_tracked(own_loop.call_later(3600, work)))

    own_loop.call_soon(work)
    assert own_loop.run_once() is True
    assert made == [True]


def test_a_loop_in_a_cycle_with_a_turns_timer_is_collected() -> None:
    class Box:
        content: object = None

        def work(self) -> None:
            """Do nothing."""

    def leave() -> weakref.ref[Box]:
        loop, box = cloverleaf.new_event_loop(), Box()
        box.content = loop
        loop.call_soon(lambda: loop.call_later(3600, box.work))
        loop.run_once()
        return weakref.ref(box)

    left = leave()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert left() is None
