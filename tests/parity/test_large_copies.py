"""A write of more than there is memory for raises `MemoryError`, and nothing of it is sent."""

from __future__ import annotations

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
