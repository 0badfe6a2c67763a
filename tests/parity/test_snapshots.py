"""``loop.snapshot()`` tells what the loop has before it, and ``dump_on_signal`` whenever asked."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Generator
from io import FileIO
from typing import Any

import pytest

import cloverleaf

from .harness.links import both_ends, linked
from .harness.protocols import Recorder
from .harness.tls import tls_ends
from .harness.turns import turns, until
from .harness.types import Loop, NewLoop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has nothing like it


def snapshot(loop: Loop, **options: Any) -> Any:
    """Take one of a loop whose type does not tell that it can."""
    return loop.snapshot(**options)  # type: ignore[attr-defined]


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until they are."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def names(stack: Any) -> list[str]:
    """Return the functions of a stack."""
    return [frame.name for frame in stack]


async def test_tasks_are_shown_with_their_stacks_and_whom_they_wait_for(loop: Loop) -> None:
    event = asyncio.Event()

    async def inner() -> None:
        await event.wait()

    class Awaitable:
        def __await__(self) -> Generator[Any, None, None]:
            return (yield from inner().__await__())

    async def numbers() -> AsyncIterator[int]:
        await Awaitable()
        yield 1

    async def deep() -> int:
        return await anext(numbers(), 0)

    async def loops() -> None:
        async for _ in numbers():
            pass

    async def outer(awaited: asyncio.Task[None]) -> None:
        await awaited

    async def gathers(*awaited: asyncio.Task[Any]) -> None:
        await asyncio.gather(*awaited)

    one = loop.create_task(loops(), name="loops")
    two = loop.create_task(deep(), name="deep")
    three = loop.create_task(outer(one), name="outer")
    four = loop.create_task(gathers(one, two), name="gathers")
    await turns(3)
    five = loop.create_task(inner(), name="begun")
    five.cancel()
    shown = snapshot(loop)
    tasks = {task.name: task for task in shown.tasks}
    assert shown.is_complete
    assert shown.counts["tasks"] == len(tasks) == 6

    current = shown.tasks[0]
    assert current.state == "running"
    assert names(current.stack)[-2:] == [sys._getframe().f_code.co_name, "snapshot"]
    assert current.stack[-1].lineno == shown.stack[-1].lineno

    within = ["__await__", "inner", "wait"]
    assert names(tasks["loops"].stack) == ["loops", "numbers", *within]
    assert names(tasks["deep"].stack) == ["deep", "numbers", *within]
    assert tasks["loops"].state == tasks["deep"].state == "waiting"
    assert tasks["loops"].waits_for == "Future"
    assert tasks["outer"].waits_for == "loops"
    assert tasks["gathers"].waits_for == "_GatheringFuture"
    assert sorted(tasks["loops"].awaited_by) == ["gathers", "outer"]
    assert tasks["deep"].awaited_by == ("gathers",)
    assert tasks["begun"].state == "ready"
    assert (tasks["begun"].waits_for, tasks["begun"].cancelling) == (None, 1)
    assert tasks["loops"].coroutine.endswith("loops()")

    text = str(shown)
    assert "waiting for loops" in text
    assert "await Awaitable()" in text
    assert "being cancelled" in text
    await end(four, three, two, one, five)


async def test_a_native_read_is_named(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        waiting = loop.create_task(reader.readline(), name="bare")
        await turns(2)
        [task] = [task for task in snapshot(loop).tasks if task.name == "bare"]
        assert "readline" in task.coroutine
        assert task.state == "waiting"
        await end(waiting)
        writer.close()
        await writer.wait_closed()


async def test_transports_are_shown_as_they_are(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        ours, theirs = ends.client.transport, ends.server.transport
        ours.pause_reading()
        ours.set_write_buffer_limits(high=1)
        while not ours.get_write_buffer_size():
            ours.write(bytes(1 << 20))
        shown = snapshot(loop)
        assert shown.counts["transports"] == 2
        by_local = {each.local: each for each in shown.transports}
        mine = by_local[ours.get_extra_info("sockname")]
        other = by_local[theirs.get_extra_info("sockname")]
        assert dataclasses.asdict(mine) == {
            "kind": "StreamTransport",
            "descriptor": ours.get_extra_info("socket").fileno(),
            "local": ours.get_extra_info("sockname"),
            "peer": ours.get_extra_info("peername"),
            "protocol": "Recorder",
            "tls": None,
            "is_closing": False,
            "is_reading": False,
            "is_writing_paused": True,
            "write_buffer_size": ours.get_write_buffer_size(),
        }
        assert (other.peer, other.is_reading, other.write_buffer_size) == (mine.local, True, 0)
        ours.close()
        text = str(snapshot(loop))
        assert "Recorder, closing, not reading" in text
        assert "its protocol is paused" in text


async def test_tls_is_seen_through(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        ends.server.transport.pause_reading()
        shown = snapshot(loop).transports
        assert [each.protocol for each in shown] == ["Recorder"] * 2
        assert {each.tls for each in shown} == {"TLSv1.3"}
        assert sorted(each.is_reading for each in shown) == [False, True]


async def test_other_transports_are_shown_too(loop: Loop) -> None:
    endpoint, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    reading, writing = os.pipe()
    reader, _ = await loop.connect_read_pipe(asyncio.Protocol, FileIO(reading, "rb"))
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, FileIO(writing, "wb"))
    shown = snapshot(loop)
    assert sorted(each.kind for each in shown.transports) == [
        "DatagramTransport",
        "ReadPipeTransport",
        "WritePipeTransport",
    ]
    assert {each.descriptor for each in shown.transports} >= {reading, writing}
    assert "DatagramProtocol" in str(shown)
    for each in (endpoint, reader, writer):
        each.close()
    await turns(3)
    assert snapshot(loop).transports == ()


async def test_servers_are_shown_by_their_sockets(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder(loop))
        return made[-1]

    server = await loop.create_server(factory, ["127.0.0.1", "127.0.0.2"], 0)
    addresses = {sock.fileno(): sock.getsockname() for sock in server.sockets}
    with socket.create_connection(addresses[min(addresses)]):
        await until(lambda: made)
        await made[0].made
        shown = snapshot(loop)
        assert {each.descriptor: each.address for each in shown.listeners} == addresses
        assert [each.connections for each in shown.listeners] == [1, 1]
        assert "1 connections" in str(shown)
    await made[0].lost
    server.close()
    assert snapshot(loop).listeners == ()


def test_timers_come_soonest_first_and_no_more_than_asked_for(loop: Loop) -> None:
    handles = [loop.call_at(loop.time() + 1000 + n % 7, print, n) for n in range(1000)]
    for handle in handles[::3]:
        handle.cancel()
    soonest = loop.call_later(100, functools.partial(handles.clear))
    shown = snapshot(loop, limit=3)
    left = sorted(handle.when() for n, handle in enumerate(handles) if n % 3)
    # The loop counts nanoseconds, of which there is not one for every float.
    expected = pytest.approx([soonest.when(), *left[:2]], rel=0, abs=3e-9)
    assert [timer.when for timer in shown.timers] == expected
    assert shown.counts["timers"] == len(left) + 1
    assert [timer.callback for timer in shown.timers] == ["list.clear", "print", "print"]
    assert f"Timers: {len(left) + 1}, the first 3 of them" in str(shown)
    assert snapshot(loop, limit=0).timers == ()
    assert len(snapshot(loop, limit=10**6).timers) == len(left) + 1


async def test_a_sleep_names_who_sleeps(loop: Loop) -> None:
    sleeping = loop.create_task(asyncio.sleep(1000), name="sleeper")
    await turns(2)
    [timer] = snapshot(loop).timers
    assert timer.callback.startswith("_set_result_unless_cancelled (")
    assert timer.callback.endswith(" for Future of sleeper")
    await end(sleeping)


async def test_ready_callbacks_are_named_and_still_run(loop: Loop) -> None:
    class Answering:
        def __init__(self) -> None:
            self.answers: list[Any] = []

        def answer(self, *args: object) -> None:
            self.answers.append(args)

        def __repr__(self) -> str:
            raise AssertionError("no code of the program's is run")

    answering = Answering()
    for n in range(200):  # so many that most have no handle any more
        loop.call_soon(answering.answer, n)
    loop.call_soon(functools.partial(answering.answer, answering), answering)
    cancelled = loop.call_soon(answering.answer)
    cancelled.cancel()
    begun = loop.create_task(asyncio.sleep(0), name="begun")
    shown = snapshot(loop, limit=1000)
    assert shown.counts["ready"] == 203
    assert len(shown.ready) == 202
    assert all("Answering.answer (" in each for each in shown.ready[:201])
    assert shown.ready[-1] == "the next step of begun"
    assert len(snapshot(loop).ready) == 100
    await begun
    assert answering.answers == [*((n,) for n in range(200)), (answering, answering)]


async def test_watched_descriptors_are_shown_with_who_waits(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        loop.add_reader(theirs, print)
        loop.add_writer(theirs, int)
        receiving = loop.create_task(loop.sock_recv(ours, 1), name="receiver")
        await turns(2)
        shown = {each.descriptor: each for each in snapshot(loop).watched}
        assert (shown[theirs.fileno()].reader, shown[theirs.fileno()].writer) == ("print", "int")
        assert shown[ours.fileno()].reader == "Future of receiver"
        assert shown[ours.fileno()].writer is None
        assert "when it can be read: print, when it can be written: int" in str(snapshot(loop))
        await end(receiving)
        loop.remove_reader(theirs)
        loop.remove_writer(theirs)
        assert theirs.fileno() not in [each.descriptor for each in snapshot(loop).watched]


async def test_children_signals_and_the_executor_are_shown(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR2, print)
    child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    go_on = threading.Event()
    calling = loop.run_in_executor(None, go_on.wait)
    shown = snapshot(loop)
    assert shown.children == (child.pid,)
    assert shown.signals == (signal.SIGUSR2,)
    assert shown.executor_threads == 1
    go_on.set()
    await calling
    await child.communicate(b"")
    loop.remove_signal_handler(signal.SIGUSR2)
    assert snapshot(loop).children == ()


def ask_in_thread(loop: Loop) -> Any:
    """Take a snapshot in another thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(snapshot(loop)))
    thread.start()
    thread.join()
    return found[0]


async def test_another_thread_is_told_of_tasks_and_of_what_blocks(loop: Loop) -> None:
    waiting = loop.create_task(asyncio.Event().wait(), name="waiting")
    await turns(1)
    shown = ask_in_thread(loop)
    assert not shown.is_complete
    assert shown.thread == threading.current_thread().name
    assert [task.name for task in shown.tasks][1:] == ["waiting"]
    # Without the GIL nobody may look at what another thread's tasks are at.
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert names(shown.tasks[1].stack) == (["wait"] if has_gil else [])
    assert "ask_in_thread" in names(shown.stack)
    assert names(shown.tasks[0].stack)[0] == sys._getframe().f_code.co_name
    assert shown.timers == shown.transports == ()
    assert "Only the loop's own thread can tell" in str(shown)
    await end(waiting)


def test_a_loop_that_rests_is_told_of_in_full(new_loop: NewLoop) -> None:
    loop = new_loop()
    loop.call_later(1000, print)
    for shown in (snapshot(loop), ask_in_thread(loop)):
        assert shown.is_complete
        assert shown.thread is None
        assert names(shown.stack) == []
        assert [timer.callback for timer in shown.timers] == ["print"]
        assert "not running" in str(shown)
    loop.close()
    shown = snapshot(loop)
    assert shown.is_complete
    assert shown.timers == ()


async def test_what_cannot_be_shown_runs_no_code_of_the_programs(loop: Loop) -> None:
    class Silent:
        def __repr__(self) -> str:
            raise AssertionError("no code of the program's is run")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"nor to look up {name}")

        def __call__(self, *args: object) -> None:
            pass

    class Quiet(Recorder):
        def __repr__(self) -> str:
            raise AssertionError("no code of the program's is run")

    loop.call_soon(Silent(), Silent())
    timer = loop.call_later(1000, Silent(), Silent())
    async with linked(loop, Quiet):
        text = str(snapshot(loop))
        assert "Quiet" in text
        assert "Silent" in text
    timer.cancel()


async def test_a_snapshot_keeps_nothing_alive(loop: Loop) -> None:
    class Callback:
        def __call__(self) -> None:
            pass

    async def wait() -> None:
        await asyncio.Event().wait()

    callback = Callback()
    task = loop.create_task(wait())
    timer = loop.call_later(1000, callback)
    await turns(1)
    shown = snapshot(loop)
    gone: list[weakref.ref[Any]] = [weakref.ref(callback), weakref.ref(task)]
    timer.cancel()
    await end(task)
    del callback, task, timer
    await turns(2)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert "Callback" in str(shown)


@pytest.mark.parametrize("wrong", [-1, 2**64])
def test_a_limit_is_no_less_than_zero(loop: Loop, wrong: int) -> None:
    with pytest.raises(ValueError, match="limit must be a number from zero on"):
        snapshot(loop, limit=wrong)
    with pytest.raises(ValueError, match="limit must be a number from zero on"):
        cloverleaf.dump_on_signal(signal.SIGUSR1, limit=wrong)


def test_a_limit_is_a_number(loop: Loop) -> None:
    for wrong in (None, "1", True, 1.0):
        with pytest.raises(TypeError, match="limit must be an int"):
            snapshot(loop, limit=wrong)
    with pytest.raises(TypeError, match="limit must be an int"):
        cloverleaf.dump_on_signal(signal.SIGUSR1, limit=None)  # type: ignore[arg-type]
