"""Out of descriptors while accepting: the loop backs off, reports, and loses no pending client."""

from __future__ import annotations

import pytest

from .harness.program import Program

SERVER = """
import asyncio, os, resource, socket, sys

reports = []

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    made = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)
            transport.write(b"served")

    server = await loop.create_server(Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = []
    for _ in range(5):
        clients.append(socket.socket())
        clients[-1].settimeout(60)
    # Every descriptor that is left is taken, so that accepting must fail.
    taken = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (clients[-1].fileno() + 20, hard))
    while True:
        try:
            taken.append(os.dup(0))
        except OSError:
            break
    for client in clients:
        client.connect(address)
    while not reports:
        await asyncio.sleep(0.001)
    # Where it does not wait, each turn reports.
    for _ in range(3):  # a wait may end where the machine stands still
        before = len(reports)
        for _ in range(50):
            await asyncio.sleep(0)
        if len(reports) == before:
            break
    print("reports while it waits:", len(reports) - before)
    for fd in taken:
        os.close(fd)
    got = [await loop.run_in_executor(None, client.recv, 10) for client in clients]
    print("served:", got.count(b"served"))
    context = reports[0]
    print("error:", type(context["exception"]).__name__, context["exception"].errno)
    print("message:", context["message"])
    print("socket:", "socket" in context)
    for transport in made:
        transport.close()
    for client in clients:
        client.close()
    server.close()
    await server.wait_closed()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def test_out_of_descriptors_the_loop_backs_off_and_serves_every_client_later(
    program: Program,
) -> None:
    lines = dict(line.split(": ", 1) for line in program.output(SERVER).splitlines())
    assert lines == {
        "reports while it waits": "0",
        "served": "5",
        "error": "OSError 24",
        "message": "socket.accept() out of system resource",
        "socket": "True",
    }


def test_a_server_that_closes_while_it_backs_off_stays_closed(program: Program) -> None:
    # The second after which a loop tries again is part of asyncio's contract, so it must pass.
    source = SERVER
    for line, instead in (
        ("    # Where it does not wait, each turn reports.\n", "    server.close()\n"),
        (
            "    got = [await loop.run_in_executor(None, client.recv, 10) for client in clients]\n",
            "    await asyncio.sleep(1.2)\n    got = [b'served' for _ in made]\n",
        ),
    ):
        assert source.count(line) == 1
        source = source.replace(line, instead)
    assert "served: 0" in program.output(source)


EXHAUST = """
import os, resource
def exhaust():
    taken = []
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 2, before + 2))
    while True:
        try:
            taken.append(os.dup(0))
        except OSError:
            assert taken
            return taken
"""


def test_out_of_descriptors_a_new_loop_is_an_error_and_leaves_nothing(
    program: Program,
) -> None:
    out = program.output(
        EXHAUST
        + """
import gc
loop = new_event_loop()
taken = exhaust()
try:
    new_event_loop()
except OSError as error:
    print(type(error).__name__, error.errno)
os.close(taken.pop())
os.close(taken.pop())
gc.collect()
taken.append(os.dup(0))
print("free again")
loop.close()
""",
        "-W",
        "ignore",
    )
    assert out == "OSError 24\nfree again"


def test_out_of_descriptors_a_loop_that_is_there_runs(program: Program) -> None:
    out = program.output(
        EXHAUST
        + """
import asyncio, signal
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append("signal"))
loop = new_event_loop()
taken = exhaust()
loop.call_soon(signal.raise_signal, signal.SIGUSR1)
print(loop.run_until_complete(asyncio.sleep(0.001, "ran")), *came)
for fd in taken:
    os.close(fd)
print(loop.run_until_complete(asyncio.sleep(0.001, "runs on")))
loop.close()
"""
    )
    assert out == "ran signal\nruns on"


@pytest.mark.only("cloverleaf")  # asyncio has its pair of sockets from the start, or no loop
def test_out_of_descriptors_a_signal_handler_is_an_error_and_leaves_nothing(
    program: Program,
) -> None:
    out = program.output(
        EXHAUST
        + """
import signal
loop = new_event_loop()
taken = exhaust()
try:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
except OSError as error:
    print(type(error).__name__, error.errno, signal.getsignal(signal.SIGUSR1).name)
for fd in taken:
    os.close(fd)
print(loop.remove_signal_handler(signal.SIGUSR1))
loop.add_signal_handler(signal.SIGUSR1, loop.stop)
signal.raise_signal(signal.SIGUSR1)
loop.run_forever()
loop.close()
"""
    )
    assert out.splitlines() == ["OSError 24 SIG_DFL", "False"]


def test_out_of_descriptors_sockets_are_used_for_the_first_time(program: Program) -> None:
    out = program.output(
        EXHAUST
        + """
import asyncio, socket

async def main():
    loop = asyncio.get_running_loop()
    # A loop may look for its own files now, but not later.
    _ = loop.sock_recv, loop.sock_recv_into, loop.sock_sendall
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    taken = exhaust()
    received = loop.create_task(loop.sock_recv(here, 9))
    await asyncio.sleep(0)
    await loop.sock_sendall(there, b"first")
    print(await received)
    await loop.sock_sendall(there, b"second")
    room = bytearray(9)
    print(await loop.sock_recv_into(here, room), bytes(room[:6]))
    for fd in taken:
        os.close(fd)
    await loop.sock_sendall(there, b"third")
    print(await loop.sock_recv(here, 9))
    here.close()
    there.close()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert out.splitlines() == ["b'first'", "6 b'second'", "b'third'"]
