"""What a user writes: a program that runs, one that type-checks, and one that must not."""

ECHO = '''
"""An echo server and its client on Cloverleaf."""

import asyncio

import cloverleaf


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main() -> str:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, cloverleaf.EventLoop)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"hello\\n")
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
    return answer.decode()


print(cloverleaf.__file__)
print(cloverleaf.__version__)
print(cloverleaf.run(main()), end="")
with asyncio.Runner(loop_factory=cloverleaf.new_event_loop) as runner:
    print(runner.run(main()), end="")
'''

# More than the echo, so that what is typed is really used.
TYPED = '''
"""A typed program."""

import asyncio
import contextvars
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import assert_type

import cloverleaf
from cloverleaf import EventLoop, files


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"welcome")


async def main(loop: EventLoop) -> int:
    server = await loop.create_server(Greeter, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(
        Greeter, *server.sockets[0].getsockname()
    )
    protocol.connection_made(transport)
    handle: asyncio.Handle = loop.call_soon(print, "soon", context=contextvars.copy_context())
    handle.cancel()
    timer: asyncio.TimerHandle = loop.call_later(0.5, print)
    when: float = timer.when()
    timer.cancel()
    transport.close()
    server.close()
    return int(when)


async def plain() -> int:
    return 1


async def use_files(folder: str) -> None:
    path = pathlib.Path(folder, "file")
    async with cloverleaf.open(path, "t+w") as text:
        assert_type(text, files.TextFile)
        await text.write("text")
        await text.writelines(["of", "lines"])
    async with cloverleaf.open(path, "b+r") as binary:
        assert_type(binary, files.BinaryFile)
        await binary.write(bytearray(b"T"))
        assert_type(await binary.read(), bytes)
    assert_type(await files.read_bytes(path), bytes)
    assert_type(await files.copyfile(path, folder + "/copy"), str)
    third = pathlib.Path(folder, "third")
    assert_type(await files.copy(folder + "/copy", third), pathlib.Path | str)
    assert_type(await files.listdir(os.fsencode(folder)), list[bytes])
    assert_type(await files.scandir(folder), list[os.DirEntry[str]])
    await files.rmtree(folder, ignore_errors=True)


factory: Callable[[], asyncio.AbstractEventLoop] = cloverleaf.new_event_loop
cloverleaf.run(use_files(tempfile.mkdtemp()))
number: int = cloverleaf.run(plain(), debug=True, loop_factory=factory)
with asyncio.Runner(loop_factory=cloverleaf.new_event_loop) as runner:
    own = runner.get_loop()
    assert isinstance(own, EventLoop)
    print(runner.run(main(own)) > 0, number)
'''

# Each line has one error, which is found only if the package's types are.
MISTAKEN = """
import cloverleaf


async def main() -> int:
    return 1


file: cloverleaf.files.TextFile

text: str = cloverleaf.run(main())
cloverleaf.run(main)
cloverleaf.EventLoop(1)
cloverleaf.new_event_loop().call_later("soon", print)
cloverleaf.new_event_loop().no_such_method()
cloverleaf.run(file.write(b"bytes"))
cloverleaf.run(file.pwrite("text", 0))
cloverleaf.run(cloverleaf.files.write_bytes("name", "text"))
cloverleaf.run(cloverleaf.files.read_bytes(1.5))
cloverleaf.run(cloverleaf.files.rmtree())
"""
