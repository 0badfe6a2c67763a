"""Where memory runs out amid something, that is done later, or has not begun: nothing in between.

The methods are called that the loop's Python code calls, since CPython's own may lose its way when
there is no memory: a frame that cannot be made loses the exception, and a task the call that would
have woken it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import cloverleaf
import cloverleaf._transports  # whose classes the native half makes

from .harness.datagrams import Mailbox
from .harness.denial import NOT_IN_DEV_MODE, RUN_DENIED
from .harness.program import Program
from .harness.protocols import Recorder
from .harness.types import Loop

_testcapi = pytest.importorskip("_testcapi")

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no such methods

MOST_ALLOCATIONS = 60

KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
PROTOCOLS: dict[socket.SocketKind, Callable[[Loop], Any]] = {
    socket.SOCK_STREAM: Recorder,
    socket.SOCK_DGRAM: Mailbox,
}


@contextmanager
def no_spare_tuples() -> Iterator[None]:
    """Leave none of the tuples, dictionaries and lists that the interpreter keeps for later."""
    kept: list[Any] = [((number,), (number, 1), {}, []) for number in range(3000)]
    yield
    del kept


def attempts(call: Callable[[], Any]) -> Iterator[Any]:
    """Make a call with one allocation denied, a later one each time; None stands for no memory.

    The last result is that of the call to which nothing was denied.
    """
    for allocations in range(MOST_ALLOCATIONS):
        result = None
        _testcapi.set_nomemory(allocations, allocations + 1)
        try:
            result = call()
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        yield result
        if result is not None:
            return
    raise AssertionError("the call never succeeds")


def nonblocking_pair(socket_type: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that do not block."""
    pair = socket.socketpair(socket.AF_UNIX, socket_type)
    for each in pair:
        each.setblocking(False)
    return pair


def belongs_to_nobody(loop: Loop, sock: socket.socket) -> bool:
    """Tell whether the loop would let a program watch the socket."""
    loop.add_reader(sock, print)  # raises if a transport has it
    return loop.remove_reader(sock)


def make_endpoint(
    loop: Loop, sock: socket.socket, protocol: Any, waiter: asyncio.Future[None]
) -> asyncio.BaseTransport:
    """Make a transport on a socket, as `create_connection` and its kin do when all is ready."""
    native: Any = loop
    if sock.type == socket.SOCK_STREAM:
        made = native._make_stream_transport(sock, protocol, waiter, None, None)
    else:
        made = native._make_datagram_transport(sock, protocol, None, waiter)
    return cast("asyncio.BaseTransport", made)


@NOT_IN_DEV_MODE
@pytest.mark.parametrize("socket_type", KINDS)
async def test_a_transport_that_cannot_start_leaves_nothing_in_the_loop(
    loop: Loop, socket_type: socket.SocketKind
) -> None:
    ours, theirs = nonblocking_pair(socket_type)
    protocol = PROTOCOLS[socket_type](loop)
    waiter = loop.create_future()
    with no_spare_tuples(), theirs:
        for transport in attempts(lambda: make_endpoint(loop, ours, protocol, waiter)):
            if transport is None:
                assert belongs_to_nobody(loop, ours)
        await waiter
        transport.close()
        await protocol.lost
    assert protocol.calls == ["connection_made", "connection_lost"]


async def test_a_server_that_cannot_start_leaves_nothing_in_the_loop(loop: Loop) -> None:
    native: Any = loop
    clients = cloverleaf._cloverleaf.Clients(print)
    with socket.create_server(("127.0.0.1", 0)) as listener, no_spare_tuples():
        listener.setblocking(False)

        def serve() -> bool:
            native._start_serving(repr, listener, clients, 10)
            return True

        for serves in attempts(serve):
            if serves is None:
                assert belongs_to_nobody(loop, listener)
        native._stop_serving(listener.fileno(), clients)


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("socket_type", KINDS)
async def test_whoever_closes_without_memory_is_told_of_the_end(
    loop: Loop, socket_type: socket.SocketKind, way: str
) -> None:
    for allocations in range(12):
        ours, theirs = nonblocking_pair(socket_type)
        protocol = PROTOCOLS[socket_type](loop)
        waiter = loop.create_future()
        end = getattr(make_endpoint(loop, ours, protocol, waiter), way)
        await waiter
        _testcapi.set_nomemory(allocations)
        try:
            end()
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        await protocol.lost
        assert ours.fileno() == -1
        theirs.close()


@NOT_IN_DEV_MODE
async def test_sock_recv_without_memory(loop: Loop) -> None:
    ours, theirs = nonblocking_pair(socket.SOCK_STREAM)
    with ours, theirs:
        theirs.send(b"hello")
        await loop.sock_recv(ours, 5)  # imports what it needs
        for size in (100, 1 << 18, 1 << 20):

            def receive(size: int = size) -> bytes:
                theirs.send(b"hello")
                try:
                    loop.sock_recv(ours, size).send(None)
                except StopIteration as stop:
                    return bytes(stop.value)
                raise AssertionError("it has come")

            # Nothing but MemoryError stands for want of it.
            for received in attempts(receive):
                assert received is None or received.endswith(b"hello")


async def test_files_without_memory(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello" * 1000)
    name = os.fsencode(path)
    native = cloverleaf._cloverleaf.FileBase(os.open(path, os.O_RDWR))
    buffer = bytearray(1000)
    calls: dict[str, Callable[[], object]] = {
        "_known": native._known,
        "_length": native._length,
        "_try_readinto": lambda: native._try_readinto(buffer, 0),
        "_try_read": lambda: native._try_read(1000, 0),
        "_try_write": lambda: native._try_write(bytes(1000), 0, 0),
        "reading": lambda: native._reading(1000, 0).run(),
        "writing": lambda: native._writing(bytes(1000), 0, 0).run(),
        "stat": lambda: cloverleaf._cloverleaf.stat_at_once(name, True),
        "content": lambda: cloverleaf._cloverleaf.content_at_once(name),
    }
    if native._at_hand(1000, 0) < 1000:
        # This file system, as tmpfs, gives nothing without a wait.
        for which in ("_try_readinto", "_try_read", "content"):
            del calls[which]
    with no_spare_tuples():
        for which, call in calls.items():
            # Nothing but MemoryError stands for want of it.
            *_, result = attempts(call)
            assert result is not None, which
    native._close()


WORK = """
import os, tempfile, _testcapi
from cloverleaf._cloverleaf import FileBase, Loop as native

loop = new_event_loop()

class Waiter:
    told = None

    def done(self):
        return False

    def set_result(self, result):
        _testcapi.remove_mem_hooks()
        self.told = result
        loop.stop()

    set_exception = set_result

def run():
    # A short function: where there is no memory, CPython does not find the way out of a long one.
    _testcapi.set_nomemory(0)
    try:
        native._run(loop)
    finally:
        _testcapi.remove_mem_hooks()

with tempfile.TemporaryFile() as file:
    file.write(bytes(1000))
    file.flush()
    native_file = FileBase(os.dup(file.fileno()))
    # With memory first, which makes the names of what is called.
    for request in native_file._syncing(False), native_file._truncating(-1):
        loop._perform_for(request, Waiter())
        loop.run_forever()
    for request in (
        native_file._writing(bytes(1000), 0, 0),
        native_file._copying(native_file, 0, 1000, 1000),
    ):
        waiter = Waiter()
        loop._perform_for(request, waiter)
        run()
        # A number may have been kept for it, as from Python 3.14 on.
        assert waiter.told is not None
    native_file._close()
print("alive")
os._exit(0)
"""


def test_the_end_of_a_threads_work_is_told_of_without_memory(program: Program) -> None:
    assert program.output(WORK, "-W", "ignore") == "alive"


READ = """
import asyncio, os, sys

loop = new_event_loop()
loop.set_exception_handler(lambda loop, context: None)
content = b"".join(b"%07d\\n" % number for number in range(200_000))

class Reading(asyncio.Protocol):
    received = b""
    lost = None

    def connection_made(self, transport):
        transport.pause_reading()

    def data_received(self, data):
        self.received += data

    def connection_lost(self, error):
        _testcapi.remove_mem_hooks()
        self.lost = [error]
        loop.stop()

transport, protocol = loop.run_until_complete(loop.connect_read_pipe(Reading, sys.stdin))
transport.resume_reading()
run(0)
if protocol.lost is None:
    loop.run_forever()
assert content.startswith(protocol.received)
assert isinstance(protocol.lost[0], MemoryError), protocol.lost
print("alive", flush=True)
os._exit(0)
"""


def test_nothing_is_missing_of_a_file_that_was_read_without_memory(
    program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"".join(b"%07d\n" % number for number in range(200_000)))
    source = f"import os\nos.dup2(os.open({str(path)!r}, os.O_RDONLY), 0)\n{RUN_DENIED}{READ}"
    assert program.output(source, "-W", "ignore") == "alive"


ENDS = """
import os, signal, subprocess, sys

loop = new_event_loop()
loop.set_exception_handler(lambda loop, context: None)

codes = []

def told(code):
    _testcapi.remove_mem_hooks()
    codes.append(code)
    loop.stop()

for allocations in range(8):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    loop._watch_child(child.pid, told)
    run(allocations, allocations + 1)
    if not codes:
        loop.run_forever()  # no memory for the loop itself
    assert codes == [-signal.SIGKILL], (allocations, codes)
    codes.clear()
    child.returncode = -signal.SIGKILL
    child.stdin.close()
print("alive")
os._exit(0)
"""


def test_the_end_of_a_child_is_told_of_without_memory(program: Program) -> None:
    assert program.output(RUN_DENIED + ENDS, "-W", "ignore") == "alive"
