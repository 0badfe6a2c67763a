"""A write of more than there is memory for raises `MemoryError`, and nothing of it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from .harness.program import Program

PROGRAM = """
import asyncio, os, resource, socket

SIZE = 192 << 20

async def stream():
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    return transport, theirs

async def pipe():
    reader, writer = os.pipe()
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(
        asyncio.Protocol, open(writer, "wb", 0)
    )
    return transport, open(reader, "rb", 0)

async def main():
    transport, theirs = await OPEN()
    data = bytearray(SIZE)
    with open("/proc/self/statm") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    # There is some room, but none for a copy.
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + SIZE // 2, limits[1]))
    try:
        CALL
    except MemoryError:
        print("no memory")
    resource.setrlimit(resource.RLIMIT_AS, limits)
    transport.write(b"goes on")
    print((theirs.recv if isinstance(theirs, socket.socket) else theirs.read)(100))
    transport.abort()
    theirs.close()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.only("cloverleaf")  # asyncio's newer streams copy nothing, and its pipes send a part
@pytest.mark.parametrize(
    ("opened", "call"),
    [
        ("stream", "transport.write(data)"),
        ("stream", "transport.write(memoryview(data))"),
        ("stream", "transport.writelines([data])"),
        ("stream", "transport.writelines([b'a', data])"),
        ("stream", "transport.writelines([memoryview(data)[:500_000]] * 400)"),
        ("pipe", "transport.write(data)"),
    ],
)
def test_a_write_without_room_for_a_copy(program: Program, opened: str, call: str) -> None:
    out = program.output(PROGRAM.replace("OPEN", opened).replace("CALL", call))
    assert out == "no memory\nb'goes on'"


LIMITED = """
import asyncio, contextlib, resource, socket, sys

SIZE = 192 << 20

@contextlib.contextmanager
def limited(room=SIZE // 2):
    with open("/proc/self/statm") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    # There is some room, but none for a copy.
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + room, limits[1]))
    try:
        yield
    except MemoryError:
        print("no memory")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
"""

TLS = """
sys.path.insert(0, TESTS)
from parity.harness.protocols import Recorder
from parity.harness.tls import tls_linked

async def main():
    async with tls_linked(asyncio.get_running_loop(), Recorder) as (ours, peer):
        transport, before = ours.transport, 0
        if FULL:
            while transport.get_write_buffer_size() < 500_000:
                transport.write(bytes(100_000))
                before += 100_000
        data, count = bytearray(SIZE), 0
        with limited():
            CALL
        transport.write(b"goes on")
        assert await peer.receive(before) == bytes(before)
        if count:
            assert await peer.receive(count) == bytes(count)
        print(await peer.receive(7))

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        "transport.write(data)",
        "transport.write(memoryview(data))",
        "transport.writelines([data])",
        "transport.writelines([b'a', data])",
        "for _ in range(500): transport.write(memoryview(data)[:500_000]); count += 500_000",
    ],
)
def test_a_tls_write_without_room_for_a_copy(program: Program, call: str, *, is_full: bool) -> None:
    tests = str(Path(__file__).parents[1])
    source = TLS.replace("TESTS", repr(tests)).replace("FULL", repr(is_full)).replace("CALL", call)
    assert program.output(LIMITED + source) == "no memory\nb'goes on'"


MANY = """
async def main():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    data, count = bytearray(500_000), 1_000_000
    # Some of it waits from here on.
    transport.write(bytes(count))
    with limited():
        for _ in range(500):
            transport.WRITE
            count += len(data)
    transport.write(b"goes on")
    transport.close()
    got = 0
    while piece := await loop.sock_recv(theirs, 1 << 20):
        got, last = got + len(piece), piece
    print(got - count, last[-7:])
    theirs.close()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("write", ["write(data)", "writelines([data])"])
def test_many_writes_that_there_is_no_room_for_together(program: Program, write: str) -> None:
    out = program.output(LIMITED + MANY.replace("WRITE", write))
    assert out == "no memory\n7 b'goes on'"


DATAGRAMS = """
async def main():
    loop = asyncio.get_running_loop()
    theirs = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setblocking(False)
    theirs.bind(PATH)
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=PATH, family=socket.AF_UNIX
    )
    before = 0
    while transport.get_write_buffer_size() == 0:
        transport.sendto(b"before")
        before += 1
    data, count = bytearray(SIZE), 0
    with limited():
        CALL
    transport.sendto(b"goes on")
    for _ in range(before):
        assert await loop.sock_recv(theirs, 100) == b"before"
    print(await loop.sock_recv(theirs, 100))
    transport.abort()
    theirs.close()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("call", ["transport.sendto(data)", "transport.sendto(memoryview(data))"])
def test_a_datagram_without_room_for_a_copy(program: Program, call: str, tmp_path: Path) -> None:
    source = DATAGRAMS.replace("PATH", repr(str(tmp_path / "socket"))).replace("CALL", call)
    out = program.output(LIMITED + source)
    assert out == "no memory\nb'goes on'"


HELD = """
import asyncio, socket

SIZE = 3 << 20

class Answers(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        large = bytearray(b"l" * SIZE)
        for small in (b"first", b"second"):
            self.transport.write(small)
        CALL
        large[:] = bytes(SIZE)
        self.transport.write(b"last")
        self.transport.close()

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answers, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"question")
    answer = await reader.read()
    expected = b"firstsecond" + b"l" * SIZE + b"last"
    print(answer == expected, len(answer) - len(expected))
    writer.close()
    server.close()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize(
    "call",
    [
        "self.transport.write(bytes(large))",
        "self.transport.writelines([bytes(large)])",
        pytest.param(
            "self.transport.write(large)",
            marks=pytest.mark.only("cloverleaf"),  # asyncio sends what the buffer has become
        ),
        "self.transport.writelines([large[:7], large[7:], b''])",
    ],
)
def test_a_large_write_goes_behind_what_is_held(program: Program, call: str) -> None:
    assert program.output(HELD.replace("CALL", call)) == "True 0"
