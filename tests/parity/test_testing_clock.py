"""The clock of cloverleaf.testing: asyncio's order without a wait, and nothing is overtaken."""

from __future__ import annotations

import asyncio
import heapq
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
from cloverleaf import testing

from .harness.certificates import HOST, client_context, server_context

LONG = 1e6


class Model(asyncio.SelectorEventLoop):
    """asyncio's own loop, whose select takes the loop's time and no other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._ages = 0
        selector: Any = self._selector  # type: ignore[attr-defined]
        look = selector.select

        def select(timeout: float | None) -> Any:
            events = look(0)
            if not events:
                assert timeout is not None, "a deadlock"
                self.now += timeout
            return events

        selector.select = select

    def time(self) -> float:
        return self.now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Make a timer that comes after older ones of its deadline; asyncio says nothing of it."""
        self._ages += 1
        timer = Aged(when, callback, args, self, context)
        timer.age = self._ages
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer


class Aged(asyncio.TimerHandle):
    __slots__ = ("age",)
    age: int

    def __lt__(self, other: Any) -> bool:
        return (self.when(), self.age) < (other.when(), other.age)


def settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Program:
    """Tasks, timers and callbacks by chance, and what they tell of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.told: list[tuple[object, float]] = []

    def tell(self, what: object) -> None:
        self.told.append((what, asyncio.get_running_loop().time()))

    def delay(self) -> float:
        return self.chance.choice([0, 0, 0.125, 0.25, 0.25, 0.5, 1, 7, 3600])

    async def task(self, name: int) -> None:
        loop = asyncio.get_running_loop()
        for step in range(self.chance.randrange(1, 6)):
            self.tell((name, step))
            await self.act(loop, (name, step))
        self.tell((name, "end"))

    async def act(self, loop: asyncio.AbstractEventLoop, me: object) -> None:
        kind = self.chance.randrange(8)
        if kind == 0:
            await asyncio.sleep(self.delay())
        elif kind == 1:
            loop.call_later(self.delay(), self.tell, (me, "later"))
        elif kind == 2:
            loop.call_soon(self.tell, (me, "soon"))
        elif kind == 3:
            taken_back = loop.call_later(self.delay(), self.tell, (me, "never?"))
            loop.call_at(loop.time() + self.delay(), taken_back.cancel)
        elif kind == 4:
            future = loop.create_future()
            loop.call_later(self.delay(), settle, future)
            try:
                await asyncio.wait_for(future, self.delay())
            except TimeoutError:
                self.tell((me, "late"))
        elif kind == 5:
            try:
                async with asyncio.timeout(self.delay()):
                    await asyncio.sleep(self.delay())
            except TimeoutError:
                self.tell((me, "out of time"))
        elif kind == 6:
            sleeps = [asyncio.ensure_future(asyncio.sleep(self.delay())) for _ in range(3)]
            done, _ = await asyncio.wait(sleeps, timeout=self.delay())
            self.tell((me, len(done)))
            await asyncio.gather(*sleeps)
        else:
            near, far = socket.socketpair()
            near.setblocking(False)
            far.setblocking(False)
            loop.call_later(self.delay(), near.send, b"x")
            await loop.sock_recv(far, 1)
            near.close()
            far.close()

    async def main(self) -> None:
        await asyncio.gather(*(self.task(name) for name in range(self.chance.randrange(1, 6))))


@pytest.mark.parametrize("seed", range(300))
def test_timers_and_tasks_come_in_asyncios_order_at_asyncios_times(seed: int) -> None:
    ours, model = Program(seed), Program(seed)
    with asyncio.Runner(loop_factory=Model) as runner:
        runner.run(model.main())
    testing.run(ours.main())
    assert ours.told == model.told


def test_hours_take_no_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert loop.time() == 5.0
        for _ in range(1000):
            await asyncio.sleep(3600)
        return loop.time()

    began = time.monotonic()
    assert testing.run(main(), start=5.0) == 3_600_005.0
    assert time.monotonic() - began < 60


def test_a_timer_is_never_early_by_the_loops_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        chance = random.Random(1)
        for _ in range(2000):
            due = loop.time() + chance.random() * 10 ** chance.randrange(-9, 6)
            reached = loop.create_future()
            loop.call_at(due, reached.set_result, None)
            await reached
            assert loop.time() >= due

    testing.run(main())


def test_time_stands_still_while_callbacks_run() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        asyncio.get_running_loop().call_later(1e-9, loop.create_future)
        for _ in range(1000):
            await asyncio.sleep(0)
            assert loop.time() == 0.0

    testing.run(main())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(20):
        writer.write(bytes(size))
        assert await reader.readexactly(size) == bytes(size)
    writer.close()
    await writer.wait_closed()


async def over_tcp(size: int = 1000) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    await exchange(*await asyncio.open_connection(host, port), size)
    server.close()


async def over_tcp_much() -> None:
    await over_tcp(2_000_000)


async def over_tcp_by_name() -> None:
    server = await asyncio.start_server(echo, "localhost", 0, family=socket.AF_INET)
    port = server.sockets[0].getsockname()[1]
    await exchange(*await asyncio.open_connection("localhost", port), 10)
    server.close()


async def over_unix() -> None:
    name = f"\0cloverleaf-testing-{random.random()}"
    server = await asyncio.start_unix_server(echo, name)
    await exchange(*await asyncio.open_unix_connection(name), 500_000)
    server.close()


async def by_datagrams() -> None:
    loop = asyncio.get_running_loop()
    come = loop.create_future()

    class Far(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            come.set_result(data)

    far, _ = await loop.create_datagram_endpoint(Far, ("127.0.0.1", 0))
    near, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=far.get_extra_info("sockname")
    )
    near.sendto(b"data")
    assert await come == b"data"
    near.close()
    far.close()


async def by_a_child() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(input())", stdin=-1, stdout=-1
    )
    told, _ = await child.communicate(b"asked\n")
    assert told == b"asked\n"
    assert child.returncode == 0


async def by_the_default_executor() -> None:
    assert await asyncio.to_thread(lambda: sum(range(100_000))) == 4_999_950_000


async def by_another_executor() -> None:
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, sum, range(100_000)) == 4_999_950_000


async def by_files() -> None:
    async with cloverleaf.open(__file__, "rb") as file:
        content = await file.read()
        assert await file.pread(10, 0) == content[:10]
        await file.fsync()
    assert await cloverleaf.files.read_bytes(__file__) == content
    assert Path(__file__).name in await cloverleaf.files.listdir(Path(__file__).parent)


async def by_names() -> None:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    await loop.getnameinfo(found[0][4])  # type: ignore[arg-type]


WORK = [
    over_tcp,
    over_tcp_much,
    over_tcp_by_name,
    over_unix,
    by_datagrams,
    by_a_child,
    by_the_default_executor,
    by_another_executor,
    by_files,
    by_names,
]


async def before(work: Coroutine[Any, Any, None], deadline: float) -> None:
    """Do the work, which a deadline that only the clock brings must not overtake."""
    loop = asyncio.get_running_loop()
    overtaken = loop.create_future()
    timer = loop.call_later(deadline, overtaken.set_result, None)
    task = asyncio.ensure_future(work)
    await asyncio.wait([task, overtaken], return_when=asyncio.FIRST_COMPLETED)
    assert not overtaken.done()
    timer.cancel()
    await task
    assert loop.time() == 0.0


@pytest.mark.parametrize("backend", ["epoll", "auto"])
@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("work", WORK)
def test_no_deadline_overtakes(
    work: Callable[[], Coroutine[Any, Any, None]], seed: int | None, backend: Any
) -> None:
    testing.run(before(work(), LONG), seed=seed, backend=backend)


def test_tls_is_not_overtaken() -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
        host, port = server.sockets[0].getsockname()
        streams = await asyncio.open_connection(
            host, port, ssl=client_context(), server_hostname=HOST
        )
        await exchange(*streams, 300_000)
        server.close()

    testing.run(before(main(), LONG))


def make_room(listener: socket.socket) -> None:
    listener.accept()[0].close()


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("local_addr", [None, ("127.0.0.1", 0)])
def test_a_connection_that_is_being_made_is_not_overtaken(
    local_addr: tuple[str, int] | None, debug: bool
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, *address, local_addr=local_addr
        )
        transport.close()

    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        # The kernel tries again after a second what has found the backlog full.
        with socket.create_connection(address):
            thread = threading.Timer(0.2, make_room, [listener])
            thread.start()
            testing.run(before(main(), LONG), debug=debug)
            thread.join()


def test_a_deadline_comes_in_real_time_while_work_goes_on() -> None:
    go_on = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(go_on.wait), 0.25)
        assert loop.time() == 0.25
        go_on.set()

    began = time.monotonic()
    testing.run(main())
    assert time.monotonic() - began >= 0.25


def test_work_one_after_the_other_does_not_add_up_to_a_deadline() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(60):
            # Each has the same deadline, and in real time they take longer than it together.
            await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.002), LONG)
            assert loop.time() == 0.0

    testing.run(main())


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def never_after_work() -> None:
    for work in WORK:
        await work()
    await never()


async def never_after_a_thread_that_ends_without_a_word() -> None:
    threading.Thread(target=time.sleep, args=(0.2,)).start()
    await never()


async def never_in_a_child_task() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(math.inf))
        group.create_task(never(), name="the one that waits")


@pytest.mark.parametrize(
    "main",
    [
        never,
        never_after_work,
        never_after_a_thread_that_ends_without_a_word,
        never_in_a_child_task,
    ],
)
def test_a_deadlock_is_told(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(testing.DeadlockError, match=main.__name__):
        testing.run(main())


def test_a_deadlock_may_be_waited_for_as_asyncio_does() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, come.set)
        await asyncio.to_thread(signal.raise_signal, signal.SIGUSR1)
        await come.wait()

    come = asyncio.Event()
    testing.run(main(), on_deadlock="wait")


def wakes_by(wake: Callable[[asyncio.AbstractEventLoop, asyncio.Event], object]) -> None:
    async def main() -> None:
        come = asyncio.Event()
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=wake, args=(loop, come))
        loop.call_soon(thread.start)
        await come.wait()
        thread.join()

    testing.run(main())


def test_another_thread_is_not_taken_for_a_deadlock() -> None:
    wakes_by(lambda loop, come: loop.call_soon_threadsafe(come.set))


def test_a_call_that_was_given_up_is_not_taken_for_a_deadlock() -> None:
    async def main() -> None:
        come = asyncio.Event()
        loop = asyncio.get_running_loop()

        def call() -> None:
            go_on.wait()
            time.sleep(0.1)
            loop.call_soon_threadsafe(come.set)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(call), 0.01)
        go_on.set()
        await come.wait()

    go_on = threading.Event()
    testing.run(main())


def test_work_that_others_gave_the_default_executor_is_not_taken_for_a_deadlock() -> None:
    async def main() -> None:
        executor = ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(executor)
        works = [executor.submit(time.sleep, 0.1) for _ in range(2)]
        await asyncio.gather(*map(asyncio.wrap_future, works))

    testing.run(main())


def test_a_signal_is_not_taken_for_a_deadlock() -> None:
    async def main() -> None:
        come = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, come.set)
        with subprocess.Popen(["/bin/sh", "-c", f"kill -USR1 {os.getpid()}"]):  # noqa: ASYNC220
            await come.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    testing.run(main())
