"""A program that has put something else in the place of `socket.socket`, or of what is beside it.

Tests do: pytest-socket's class refuses whatever is not a Unix socket, and a mock may be a function.
What is replaced is called as asyncio calls it, and nothing of it stays when it is gone.
"""

import subprocess
import sys

import pytest

from .harness.program import Program


def output(source: str) -> str:
    """Return what a program prints that imports Cloverleaf when it likes."""
    command = [sys.executable, "-c", source]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# A Unix socket is all that this class allows, as pytest-socket's; or a function in its place.
REPLACED = """
import asyncio, os, socket, sys, tempfile

library = socket.socket

class Refused(RuntimeError):
    pass

class Guarded(library):
    def __new__(cls, family=-1, type=-1, proto=-1, fileno=None):
        if family != socket.AF_UNIX:
            raise Refused
        return super().__new__(cls, family, type, proto, fileno)

def function(family=-1, type=-1, proto=-1, fileno=None):
    return library(family, type, proto, fileno)

def serves(make):
    path = tempfile.mktemp()
    listener = make(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    listener.setblocking(False)
    return listener, path

def client():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock

async def echo(reader, writer):
    writer.write(await reader.read(9))
    await writer.drain()
    writer.close()

async def by_sockets(loop):
    listener, path = serves(library)
    with listener, client() as sock:
        await loop.sock_connect(sock, path)
        accepted, _ = await loop.sock_accept(listener)
        with accepted:
            await loop.sock_sendall(sock, b"x")
            print(type(accepted).__name__, await loop.sock_recv(accepted, 9))
    os.unlink(path)

async def by_streams(open_connection, server):
    reader, writer = await open_connection
    writer.write(b"y")
    print(await reader.read())
    writer.get_extra_info("socket").getsockname()
    writer.close()
    await writer.wait_closed()
    server.close()

async def by_tcp():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    await by_streams(asyncio.open_connection(*server.sockets[0].getsockname()), server)

async def by_unix():
    path = tempfile.mktemp()
    server = await asyncio.start_unix_server(echo, path)
    await by_streams(asyncio.open_unix_connection(path), server)
"""


@pytest.mark.parametrize("replaced", ["Guarded", "function"])
def test_a_replaced_class_serves_unix_sockets(program: Program, replaced: str) -> None:
    out = program.output(
        REPLACED
        + f"""
async def main():
    loop = asyncio.get_running_loop()
    await by_sockets(loop)
    await by_unix()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.get_loop()
    socket.socket = {replaced}
    runner.run(main())
"""
    )
    made = "Guarded" if replaced == "Guarded" else "socket"
    assert out.splitlines() == [f"{made} b'x'", "b'y'"]


def test_a_function_in_its_place_serves_tcp(program: Program) -> None:
    out = program.output(
        REPLACED
        + """
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.get_loop()
    socket.socket = function
    runner.run(by_tcp())
"""
    )
    assert out == "b'y'"


REFUSES = """
async def refused(awaitable):
    try:
        await awaitable
    except Refused:
        return True
    return False

async def main():
    loop = asyncio.get_running_loop()
    with listener:
        address = listener.getsockname()
        print(await refused(loop.create_connection(asyncio.Protocol, *address)))
    print(await refused(loop.create_server(asyncio.Protocol, "127.0.0.1", 0)))
    address = ("127.0.0.1", 0)
    print(await refused(loop.create_datagram_endpoint(asyncio.DatagramProtocol, address)))

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def test_a_class_that_refuses_is_asked(program: Program) -> None:
    out = program.output(
        REPLACED
        + """
listener = socket.create_server(("127.0.0.1", 0))
socket.socket = Guarded
"""
        + REFUSES
    )
    assert out.split() == ["True"] * 3


@pytest.mark.only("cloverleaf")  # it is about its import
@pytest.mark.usefixtures("kind")
def test_a_class_that_refuses_from_before_the_import_is_asked() -> None:
    out = output(
        REPLACED
        + """
listener = socket.create_server(("127.0.0.1", 0))
socket.socket = Guarded
from cloverleaf import new_event_loop
"""
        + REFUSES
    )
    assert out.split() == ["True"] * 3


@pytest.mark.parametrize("replaced", ["Guarded", "function"])
def test_nothing_stays_of_a_class_that_is_gone(program: Program, replaced: str) -> None:
    out = program.output(
        REPLACED
        + f"""
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    socket.socket = {replaced}
    runner.run(by_sockets(runner.get_loop()))
    runner.run(by_unix())
    socket.socket = library
    runner.run(by_sockets(runner.get_loop()))
    runner.run(by_unix())
    runner.run(by_tcp())
"""
    )
    assert out.splitlines()[2:] == ["socket b'x'", "b'y'", "b'y'"]


def test_a_function_in_the_place_of_popen_is_called(program: Program) -> None:
    out = program.output(
        """
import asyncio, subprocess

library = subprocess.Popen
called = []

def popen(*args, **keywords):
    called.append(args)
    return library(*args, **keywords)

async def main():
    subprocess.Popen = popen
    child = await asyncio.create_subprocess_exec("true")
    print(await child.wait(), len(called))

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert out == "0 1"


@pytest.mark.only("cloverleaf")  # it is about its import
@pytest.mark.usefixtures("kind")
def test_getaddrinfo_replaced_before_the_import_is_called() -> None:
    out = output(
        """
import asyncio, socket

library = socket.getaddrinfo
called = []

def getaddrinfo(*args, **keywords):
    called.append(args)
    return library(*args, **keywords)

socket.getaddrinfo = getaddrinfo
from cloverleaf import new_event_loop

async def main():
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    print(len(called))

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert out == "1\n"
