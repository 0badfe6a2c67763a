"""The descriptor of a loop that runs turn by turn in somebody else's: who is woken, and by what.

asyncio has nothing of the kind.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
import cloverleaf.testing

from .harness.hosts import guest_loop, host, own_loop, readable
from .harness.program import Program

__all__ = ["guest_loop", "own_loop"]


def test_the_descriptor_is_readable_when_sockets_are(guest_loop: cloverleaf.EventLoop) -> None:
    loop = guest_loop
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        came: list[bytes] = []
        loop.add_reader(ours, lambda: came.append(ours.recv(10)))
        assert not readable(loop)
        theirs.send(b"x")
        assert readable(loop)
        assert loop.run_once()
        assert came == [b"x"]
        assert not readable(loop)
        loop.remove_reader(ours)


@pytest.mark.parametrize("way", ["call_soon_threadsafe", "call_soon", "call_later"])
@pytest.mark.parametrize("has_run", [False, True])
def test_the_descriptor_tells_of_what_another_thread_schedules(
    own_loop: cloverleaf.EventLoop, way: str, has_run: bool
) -> None:
    loop = own_loop
    assert not readable(loop)
    if has_run:
        loop.run_once()
        assert not readable(loop)
    ran: list[int] = []
    for number in range(3):
        args: tuple[Any, ...] = (ran.append, number)
        if way == "call_later":
            args = (0, *args)
        thread = threading.Thread(target=getattr(loop, way), args=args)
        thread.start()
        thread.join()
        assert readable(loop)
        while len(ran) == number:
            loop.run_once()
        assert not readable(loop)
    assert ran == [0, 1, 2]


def test_what_is_scheduled_before_it_is_asked_for_shows(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    loop.call_soon(lambda: None)
    assert readable(loop)
    loop.run_once()
    assert not readable(loop)


def test_what_the_host_itself_schedules_shows(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    assert not readable(loop)
    loop.call_later(600, int).cancel()
    assert readable(loop)  # its timer might have been the first
    loop.run_once()
    assert not readable(loop)
    task = loop.create_task(asyncio.sleep(0))
    assert readable(loop)
    loop.run_once()
    # What a turn leaves is told of by the deadline.
    assert not readable(loop)
    assert loop.next_deadline() is not None
    while not task.done():
        loop.run_once()


def test_a_host_hears_of_a_loop_that_also_runs_by_itself(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    assert not readable(loop)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert not readable(loop)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(int,))
    thread.start()
    thread.join()
    assert readable(loop)


def test_a_job_that_comes_within_a_turn_wakes_the_host_after_it(
    own_loop: cloverleaf.EventLoop,
) -> None:
    loop = own_loop
    ran: list[int] = []

    def have_it_called() -> None:
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(ran.append, 1))
        thread.start()
        thread.join()

    assert not readable(loop)
    loop.call_soon(have_it_called)
    loop.run_once()
    assert not ran
    assert readable(loop)
    loop.run_once()
    assert ran == [1]


def test_executors_files_and_children_wake_the_host(
    guest_loop: cloverleaf.EventLoop, tmp_path: Path
) -> None:
    path = tmp_path / "file"

    async def all_of_it() -> tuple[object, ...]:
        loop = asyncio.get_running_loop()
        computed = await loop.run_in_executor(None, sum, (1, 2))
        async with cloverleaf.open(path, "wb") as file:
            await file.write(b"x" * 100_000)
        async with cloverleaf.open(path, "rb") as file:
            read = len(await file.read())
        async with cloverleaf.open(path, "r+b") as file:
            # By the ring, if there is one: nothing but the end of the turn hands it over.
            await file.write(b"y")
            await file.fsync()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(3)", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        names = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        return computed, read, output, child.returncode, bool(names)

    loop = guest_loop
    task = loop.create_task(all_of_it())
    host(loop, task.done)
    assert task.result() == (3, 100_000, b"3\n", 0, True)
    host_task = loop.create_task(loop.shutdown_default_executor())
    host(loop, host_task.done)


def test_a_signal_with_a_handler_wakes_the_host(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    came: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, came.append, "signal")
    assert not readable(loop)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert readable(loop)
    host(loop, lambda: bool(came))
    assert came == ["signal"]
    assert not readable(loop)


def test_a_plain_signal_leaves_nothing_readable_behind(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    came: list[int] = []
    former = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    try:
        assert not readable(loop)
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        while not came:
            loop.run_once(60)  # it may sleep, so the signal is written to the loop
        while loop.run_once():
            pass
        assert not readable(loop)
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_a_turn_that_does_not_sleep_lets_the_hosts_wakeup_descriptor_be(
    own_loop: cloverleaf.EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = own_loop
    calls: list[object] = []
    # What came between two calls would be lost to the host.
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda *args, **_: calls.append(args))
    loop.call_soon(int)
    assert loop.run_once()
    assert not calls


class Pausing(asyncio.Protocol):
    """Notes what it is told; whoever is told first pauses all others."""

    def __init__(self, made: list[Any], told: list[bytes]) -> None:
        self.made = made
        self.told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.transport = transport
        self.made.append(transport)

    def data_received(self, data: bytes) -> None:
        """Note it; with "io_uring", what has come for the others has been received by now."""
        self.told.append(data)
        if len(self.told) == 1:
            for other in self.made:
                if other is not self.transport:
                    other.pause_reading()


def rest(loop: cloverleaf.EventLoop) -> None:
    """Run the loop until nothing has happened for a while."""
    while loop.run_once(0.05):
        pass


def test_connections_that_are_resumed_by_the_host_wake_it(
    guest_loop: cloverleaf.EventLoop,
) -> None:
    loop = guest_loop
    made: list[Any] = []
    told: list[bytes] = []
    task = loop.create_task(loop.create_server(lambda: Pausing(made, told), "127.0.0.1", 0))
    host(loop, task.done)
    server = task.result()
    port = server.sockets[0].getsockname()[1]
    peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    try:
        host(loop, lambda: len(made) == len(peers))
        for peer in peers:
            peer.send(b"x")
        rest(loop)
        assert told
        assert not readable(loop)
        for transport in made:
            transport.resume_reading()
        assert readable(loop)
        host(loop, lambda: len(told) == len(peers))
    finally:
        server.close()
        for owned in (*peers, *made):
            owned.close()
        rest(loop)


def test_a_host_that_sleeps_misses_none_of_many_jobs(guest_loop: cloverleaf.EventLoop) -> None:
    loop = guest_loop
    count, threads = 25_000, 4
    ran = [0] * threads

    def job(who: int, number: int) -> None:
        # In order, and none twice.
        assert ran[who] == number
        ran[who] += 1

    def throw(who: int) -> None:
        for number in range(count):
            loop.call_soon_threadsafe(job, who, number)

    loop.fileno()
    throwers = [threading.Thread(target=throw, args=(who,)) for who in range(threads)]
    for thrower in throwers:
        thrower.start()
    # It sleeps without end, so one job that is missed hangs the test.
    host(loop, lambda: ran == [count] * threads)
    for thrower in throwers:
        thrower.join()
    while readable(loop):
        loop.run_once()
    assert loop.next_deadline() is None


def test_every_single_job_wakes_a_host_that_sleeps(own_loop: cloverleaf.EventLoop) -> None:
    loop = own_loop
    left = 2_000
    ran = threading.Semaphore(0)

    def throw() -> None:
        for _ in range(left):
            loop.call_soon_threadsafe(done)
            ran.acquire()

    def done() -> None:
        nonlocal left
        left -= 1
        ran.release()

    loop.fileno()
    thread = threading.Thread(target=throw)
    thread.start()
    # Looks at the descriptor alone, not at the deadline.
    poll = select.poll()
    poll.register(loop.fileno(), select.POLLIN)
    while left:
        poll.poll()
        loop.run_once()
    thread.join()


@pytest.mark.only("cloverleaf")
def test_a_forked_child_refuses_and_leaves_its_parents_loop_alone(program: Program) -> None:
    out = program.output(
        """
import os, select

def readable():
    return bool(poll.poll(0))

loop = new_event_loop()
poll = select.poll()
poll.register(loop.fileno(), select.POLLIN)
child = os.fork()
if not child:
    refused = 0
    for call in (loop.run_once, loop.fileno):
        try:
            call()
        except RuntimeError as error:
            refused += "forked" in str(error)
    loop.call_soon_threadsafe(int)
    os._exit(refused)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), readable())
loop.call_soon_threadsafe(int)
print(readable(), loop.run_once(), readable())
def leave():
    # The child leaves the turn, and all that is on the stack, by an exception.
    if not os.fork():
        raise SystemExit(0)
    os.wait()

loop.call_soon(leave)
loop.run_once()
print(readable(), loop.run_once())
loop.close()
"""
    )
    assert out == "2 False\nTrue True False\nFalse False"


def test_the_page_shows_a_host_that_works(guard: None, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "embedding.md"
    blocks = page.read_text().split("```python\n")[1:]
    (shown,) = [block.split("```")[0] for block in blocks if "select.poll()" in block]
    exec(compile(shown, str(page), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "one\ntwo\nthree\n"
