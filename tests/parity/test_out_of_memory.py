"""Where the interpreter has no memory left, a call raises `MemoryError`, and the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import cloverleaf

from .harness.denial import NOT_IN_DEV_MODE, RUN_DENIED, WITHOUT_DEBUG
from .harness.links import accepted
from .harness.program import Program
from .harness.protocols import Recorder
from .harness.types import Loop

_testcapi = pytest.importorskip("_testcapi")

MOST_ALLOCATIONS = 40


def fails_only_for_want_of_memory(call: Callable[[], object]) -> None:
    """Make a call with memory for one allocation more each time."""
    for allocations in range(MOST_ALLOCATIONS):
        failed = False
        # From here on no memory can be had, so nothing may be made but by the call.
        _testcapi.set_nomemory(allocations)
        try:
            call()
        except MemoryError:
            failed = True
        finally:
            _testcapi.remove_mem_hooks()
        if not failed:
            return
    raise AssertionError("the call never succeeds")


@NOT_IN_DEV_MODE
@pytest.mark.only("cloverleaf")  # asyncio's code in Python may be left anywhere
async def test_calls_without_memory(loop: Loop) -> None:
    fails_only_for_want_of_memory(lambda: loop.call_soon(repr, 1))
    fails_only_for_want_of_memory(lambda: loop.call_later(1000, repr, 1).cancel())
    fails_only_for_want_of_memory(lambda: loop.call_soon_threadsafe(repr, 1))
    fails_only_for_want_of_memory(loop.create_future)
    await asyncio.sleep(0)


@pytest.mark.only("cloverleaf")  # as above
async def test_a_transport_without_memory(loop: Loop) -> None:
    async with accepted(loop, Recorder) as (protocol, peer):
        transport = protocol.transport
        for name in ("socket", "sockname", "peername"):
            fails_only_for_want_of_memory(lambda name=name: transport.get_extra_info(name))  # type: ignore[misc]
        fails_only_for_want_of_memory(transport.pause_reading)
        fails_only_for_want_of_memory(transport.resume_reading)
        transport.write(b"alive")
        assert peer.recv(5) == b"alive"


@pytest.mark.only("cloverleaf")  # asyncio has no files
async def test_the_result_of_a_read_without_memory(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    async with await cloverleaf.open(path, "rb", buffering=0) as file:
        # None is left of the tuples that the interpreter keeps for results.
        kept = [(number,) for number in range(5000)]
        for allocations in range(MOST_ALLOCATIONS):
            step = file.pread(5, 0).__await__().__next__
            result = None
            _testcapi.set_nomemory(allocations)
            try:
                step()
            except MemoryError:
                pass
            except StopIteration as stop:
                result = stop.value
            finally:
                _testcapi.remove_mem_hooks()
            if result is not None:
                break
        assert result == b"hello"
        assert await file.pread(5, 0) == b"hello"
        del kept


WITHOUT_MEMORY = """
import asyncio, os, socket

class Stream(asyncio.Protocol):
    got = lost = 0
    def data_received(self, data):
        self.got += 1
    def connection_lost(self, error):
        self.lost += 1

class Datagrams(asyncio.DatagramProtocol):
    got = lost = 0
    def datagram_received(self, data, address):
        self.got += 1
    def connection_lost(self, error):
        self.lost += 1

loop = new_event_loop()
loop.set_exception_handler(lambda loop, context: None)
asyncio.set_event_loop(loop)

async def stream():
    ours, theirs = socket.socketpair()
    _, protocol = await loop.create_connection(Stream, sock=ours)
    return protocol, theirs

async def datagrams():
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    theirs = socket.socket(type=socket.SOCK_DGRAM)
    theirs.connect(transport.get_extra_info("sockname"))
    return protocol, theirs

for make in (stream, datagrams):
    for count in (1, 3):
        for allocations in range(30):
            protocols, peers = zip(*[
                loop.run_until_complete(make()) for _ in range(count)
            ])
            for peer in peers:
                peer.send(b"hello")
            loop.call_soon(loop.stop)
            run(allocations)
            # What has not been received is still there; what has been lost is told of.
            for _ in range(3):
                loop.call_soon(loop.stop)
                loop.run_forever()
            for protocol in protocols:
                assert protocol.got + protocol.lost == 1, (make, allocations, vars(protocol))
            for peer in peers:
                peer.close()
print("alive")
os._exit(0)
"""


@pytest.mark.only("cloverleaf")  # asyncio's loop, all Python, forgets events and stays stopped
def test_receiving_without_memory_ends_no_process(program: Program) -> None:
    # Rust tells of what it takes for panics, and need not say where they were.
    ended = program(RUN_DENIED + WITHOUT_MEMORY, "-W", "ignore", env={"RUST_BACKTRACE": "0"})
    assert ended.out.strip().endswith("alive"), ended.err


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize(
    "call",
    [
        "loop.add_reader(ours, repr, 1)",
        "loop.add_writer(ours, repr, 1)",
        "loop.remove_reader(ours)",
    ],
)
def test_methods_without_memory_end_no_process(program: Program, call: str) -> None:
    out = program.output(
        f"""
import os, socket, _testcapi
loop = new_event_loop()
ours, theirs = socket.socketpair()
def attempt(allocations):
    _testcapi.set_nomemory(allocations)
    try:
        {call}
    except MemoryError:
        return False
    finally:
        _testcapi.remove_mem_hooks()
    return True
while not any([attempt(allocations) for allocations in range(30)]):
    pass
print("alive", flush=True)
os._exit(0)
""",
        "-W",
        "ignore",
        env=WITHOUT_DEBUG,
    )
    assert out == "alive"
