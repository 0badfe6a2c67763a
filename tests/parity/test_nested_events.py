"""A loop that runs within itself, amid events: contexts, transports, TLS, datagrams, debug mode."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import os
import re
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloverleaf
from cloverleaf import testing

from .harness.certificates import HOST, client_context, server_context
from .harness.complaints import Complaints
from .harness.nests import NEEDS_GIL, Talker, answer, nest_with_backend
from .harness.turns import until
from .harness.types import Loop

pytestmark = NEEDS_GIL

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


@pytest.fixture(params=["epoll", "io_uring"], name="nest")
def _nest(request: pytest.FixtureRequest, guard: None) -> Iterator[cloverleaf.EventLoop]:
    yield from nest_with_backend(request.param)


def test_tasks_of_the_outer_ones_context_run_within_it(nest: Loop) -> None:
    context = contextvars.copy_context()

    async def inner() -> None:
        assert number.get() == 1
        number.set(2)
        await asyncio.sleep(0)
        assert number.get() == 2

    def in_another(task: asyncio.Task[None]) -> None:
        assert number.get() == 5
        nest.run_until_complete(task)
        assert number.get() == 5

    async def outer() -> None:
        number.set(1)
        task = asyncio.Task(inner(), loop=nest, context=context)
        other = contextvars.copy_context()
        other.run(number.set, 5)
        other.run(in_another, task)
        assert number.get() == 2
        nest.run_until_complete(answer())
        number.set(3)

    nest.run_until_complete(asyncio.Task(outer(), loop=nest, context=context))
    assert context[number] == 3
    assert number.get() == 0
    assert context.run(number.get) == 3  # it can be entered again


def test_an_inner_task_copies_the_context_of_who_made_it(nest: Loop) -> None:
    seen: list[int] = []

    async def inner() -> None:
        seen.append(number.get())
        number.set(9)

    def outer() -> None:
        number.set(4)
        nest.run_until_complete(inner())
        seen.append(number.get())

    for _ in range(3):
        nest.call_soon(outer)
    nest.run_until_complete(answer())
    assert seen == [4, 4] * 3
    assert number.get() == 0


class Lender(asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self, first: Callable[[Any, bytes], None]) -> None:
        self.talker = Talker(first)
        self.buffer = bytearray(1024)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.talker.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.talker.data_received(bytes(self.buffer[:nbytes]))


@pytest.mark.parametrize("protocol", [Talker, Lender])
def test_a_protocol_is_told_of_more_in_the_run_within_its_call(
    nest: Loop, protocol: type[Talker | Lender]
) -> None:
    near, far = socket.socketpair()
    done: asyncio.Future[bytes] = nest.create_future()

    def first(self: Talker, data: bytes) -> None:
        far.send(b"more")
        done.set_result(data + nest.run_until_complete(self.received(4)))

    async def main() -> bytes:
        transport, _ = await nest.create_connection(lambda: protocol(first), sock=near)
        far.send(b"first")
        try:
            return await done
        finally:
            transport.close()
            await asyncio.sleep(0)

    assert nest.run_until_complete(main()) == b"firstmore"
    far.close()


def test_what_was_written_before_an_inner_run_has_been_sent(nest: Loop) -> None:
    near, far = socket.socketpair()
    far.setblocking(False)
    done: asyncio.Future[list[bytes]] = nest.create_future()

    async def look() -> bytes:
        return far.recv(100)

    def first(self: Talker, _data: bytes) -> None:
        for piece in (b"1", b"2", b"3"):
            self.transport.write(piece)
        seen = [nest.run_until_complete(look())]
        for piece in (b"4", b"5", b"6"):
            self.transport.write(piece)
        done.set_result(seen)

    async def main() -> bytes:
        transport, _ = await nest.create_connection(lambda: Talker(first), sock=near)
        far.send(b"first")
        seen = await done
        transport.close()
        await asyncio.sleep(0)
        return b"".join([*seen, b" ", far.recv(100)])

    assert nest.run_until_complete(main()) == b"123 456"
    far.close()


def test_many_connections_answer_each_other_within_one_call(nest: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(12)]
    talkers: list[Talker] = []
    order: list[int] = []

    def begin(index: int) -> Callable[[Any, bytes], None]:
        def first(self: Talker, data: bytes) -> None:
            order.append(index)
            self.transport.write(data)
            if index % 4 == 1:
                pairs[index][1].send(b"!")
                assert nest.run_until_complete(self.received(1)) == b"!"
            self.transport.write(b".")

        return first

    async def main() -> None:
        for index, (near, _) in enumerate(pairs):
            talker = Talker(begin(index))
            talkers.append(talker)
            await nest.create_connection(itertools.repeat(talker).__next__, sock=near)
        for index, (_, far) in enumerate(pairs):
            far.send(b"%d" % index)
        await until(lambda: len(order) == len(pairs))
        await answer()
        for talker in talkers:
            talker.transport.close()
        await answer()

    nest.run_until_complete(main())
    assert sorted(order) == list(range(12))
    for index, (_, far) in enumerate(pairs):
        assert far.recv(100) == b"%d." % index
        far.close()


def test_datagrams_that_were_sent_before_an_inner_run_have_gone(nest: Loop) -> None:
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.bind(("127.0.0.1", 0))
    far.setblocking(False)
    done: asyncio.Future[list[bytes]] = nest.create_future()

    async def look(count: int) -> list[bytes]:
        return [far.recv(100) for _ in range(count)]

    class First(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            if data != b"first":
                return
            for piece in (b"1", b"2", b"3"):
                self.transport.sendto(piece, addr)
            seen = nest.run_until_complete(look(3))
            for piece in (b"4", b"5"):
                self.transport.sendto(piece, addr)
            done.set_result(seen)

    async def main() -> list[bytes]:
        transport, _ = await nest.create_datagram_endpoint(First, local_addr=("127.0.0.1", 0))
        for piece in (b"first", b"second", b"third"):
            far.sendto(piece, transport.get_extra_info("sockname"))
        seen = await done + await look(2)
        transport.close()
        await asyncio.sleep(0)
        return seen

    assert nest.run_until_complete(main()) == [b"1", b"2", b"3", b"4", b"5"]
    far.close()


def test_a_tls_protocol_may_wait_within_its_call_for_an_answer(nest: Loop) -> None:
    done: asyncio.Future[bytes] = nest.create_future()

    def first(self: Talker, data: bytes) -> None:
        self.transport.write(data + b" before")
        seen = nest.run_until_complete(asyncio.wait_for(self.received(5 + 7), 60))
        self.transport.write(b" then")
        done.set_result(seen)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
        host, port = server.sockets[0].getsockname()
        talker = Talker(first)
        transport, _ = await nest.create_connection(
            lambda: talker, host, port, ssl=client_context(), server_hostname=HOST
        )
        seen = await done
        whole = await talker.received(5 + 7 + 5)
        transport.close()
        server.close()
        await server.wait_closed()
        return seen + b"|" + whole

    result = nest.run_until_complete(main())
    assert result == b"hello before|hello before then"


def test_a_server_accepts_in_the_run_within_its_factory(nest: Loop) -> None:
    clients: list[Any] = []
    address = ("", 0)

    async def connect(address: tuple[str, int]) -> None:
        clients.append(await nest.create_connection(asyncio.Protocol, *address))

    made: list[int] = []

    def factory() -> asyncio.Protocol:
        made.append(len(made))
        if len(made) == 1:
            nest.run_until_complete(connect(address))
            nest.run_until_complete(answer(rounds=20))
        return asyncio.Protocol()

    async def main() -> None:
        nonlocal address
        server = await nest.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await connect(address)
        await until(lambda: len(made) == len(clients) == 2)
        for transport, _ in clients:
            transport.close()
        server.close()
        await server.wait_closed()

    nest.run_until_complete(main())
    assert made == [0, 1]


def test_the_time_of_inner_runs_is_not_a_callbacks_own(nest: Loop, logged: Complaints) -> None:
    nest.set_debug(True)
    nest.slow_callback_duration = 0.0

    async def outer() -> None:
        nest.run_until_complete(asyncio.sleep(0.05))

    def own_seconds() -> float:
        """Run it once; return how long the step of the task is said to have taken."""
        nest.run_until_complete(nest.create_task(outer(), name="the outer one"))
        said = [re.search(r"the outer one.* took (\d+\.\d+) s", text) for text in logged.take()]
        return max(float(match[1]) for match in said if match)

    # The machine may stand still at any moment.
    assert any(own_seconds() < 0.05 for _ in range(20))


def test_the_watchdog_names_the_inner_task(nest: cloverleaf.EventLoop) -> None:
    stalls: list[cloverleaf.Stall] = []
    told = threading.Event()

    def report(stall: cloverleaf.Stall) -> None:
        # The machine may stand still before the inner one has begun.
        if stall.stack[0].name == "inner":
            stalls.append(stall)
            told.set()

    async def inner() -> None:
        assert told.wait(60)

    async def outer() -> None:
        task = nest.create_task(inner(), name="the inner one")
        nest.run_until_complete(task)

    nest.set_watchdog(0.02, report)
    nest.run_until_complete(outer())
    nest.set_watchdog(None)
    assert stalls[0].task is not None
    assert stalls[0].task.get_name() == "the inner one"


def test_metrics_count_inner_runs_as_part_of_the_outer_one(nest: cloverleaf.EventLoop) -> None:
    def outer() -> None:
        before = nest.metrics()
        nest.run_until_complete(answer(rounds=10))
        after = nest.metrics()
        assert after.turns - before.turns >= 10
        assert after.jobs > before.jobs
        assert after.busy_seconds >= before.busy_seconds

    nest.call_soon(outer)
    nest.run_until_complete(answer())
    rest = nest.metrics()
    assert nest.metrics().busy_seconds == rest.busy_seconds  # it has stopped


def test_a_clock_that_jumps_does_so_in_inner_runs() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        cloverleaf.allow_nested(loop)
        cloverleaf.run_nested(asyncio.sleep(1e6))
        return loop.time()

    assert testing.run(main()) == 1e6


def test_an_inner_run_that_waits_for_the_outer_one_is_a_deadlock() -> None:
    async def main() -> None:
        cloverleaf.allow_nested()
        me = asyncio.current_task()
        assert me is not None
        with pytest.raises(testing.DeadlockError):
            cloverleaf.run_nested(asyncio.shield(me))

    testing.run(main())


def test_a_loop_that_has_run_within_itself_is_collected(guard: None) -> None:
    loop = cloverleaf.new_event_loop()
    cloverleaf.allow_nested(loop)

    async def outer() -> None:
        cloverleaf.run_nested(answer())

    loop.run_until_complete(outer())
    gone = weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert gone() is None


def test_a_child_that_is_forked_in_an_inner_run_lets_go_of_the_loop(nest: Loop) -> None:
    def fork() -> None:
        child = os.fork()
        if child == 0:
            try:
                nest.close()
                os._exit(7)
            finally:
                os._exit(8)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7

    async def inner() -> None:
        fork()

    async def outer() -> int:
        nest.run_until_complete(inner())
        return await answer()

    assert nest.run_until_complete(outer()) == 42


def test_an_inner_run_may_go_on_in_another_greenlet(nest: Loop) -> None:
    greenlet: Any = pytest.importorskip("greenlet")
    main = greenlet.getcurrent()
    seen: list[str] = []

    def second() -> None:
        nest.call_soon(main.switch)
        assert nest.run_until_complete(answer()) == 42
        seen.append("the inner run has ended")

    def first() -> None:
        other.switch()
        seen.append("the outer run goes on")
        nest.call_soon(other.switch)

    other = greenlet.greenlet(second)
    nest.call_soon(first)
    assert nest.run_until_complete(answer(rounds=20)) == 42
    assert seen == ["the outer run goes on", "the inner run has ended"]
    assert nest.run_until_complete(answer()) == 42
