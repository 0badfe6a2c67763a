"""A regular file, or the null device, as standard input: asyncio refuses or hangs, we read it."""

from __future__ import annotations

import asyncio
import gc
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

from .harness.program import Program
from .harness.protocols import Buffered, Recorder
from .harness.turns import turns, until
from .harness.types import Context, Loop

only_here = pytest.mark.only("cloverleaf")  # asyncio says "for pipes/sockets only", or never ends

CONTENT = os.urandom(3 << 20)


@contextmanager
def as_standard_input(path: Path) -> Iterator[None]:
    """Let the file be the standard input of this process for a while."""
    before = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


@pytest.fixture
def file(tmp_path: Path, guard: None) -> Iterator[FileIO]:
    """Return a file of some size, open for reading, that is the standard input as well."""
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    with as_standard_input(path):
        yield FileIO(os.dup(0), "rb")


@only_here
async def test_a_file_is_read_to_its_end(loop: Loop, file: FileIO) -> None:
    protocol = Recorder(loop)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
    assert isinstance(transport, asyncio.ReadTransport)
    assert await protocol.lost is None
    assert protocol.data == CONTENT
    assert protocol.calls[0] == "connection_made"
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
    assert file.closed


@only_here
async def test_reading_goes_on_where_the_file_stands(loop: Loop, file: FileIO) -> None:
    file.seek(len(CONTENT) - 10)
    protocol = Recorder(loop)
    await loop.connect_read_pipe(lambda: protocol, file)
    assert await protocol.lost is None
    assert protocol.data == CONTENT[-10:]


@only_here
async def test_other_callbacks_run_between_chunks(loop: Loop, file: FileIO) -> None:
    protocol = Recorder(loop)
    seen: set[int] = set()
    await loop.connect_read_pipe(lambda: protocol, file)
    while not protocol.lost.done():
        seen.add(len(protocol.data))
        await asyncio.sleep(0)
    assert len(seen) > 5, "the file came in one go"


@only_here
async def test_a_paused_file_loses_nothing(loop: Loop, file: FileIO) -> None:
    class Pauses(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    protocol = Pauses(loop)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
    received = b""
    while len(received) < len(CONTENT):
        await until(lambda: protocol.data)
        before = bytes(protocol.data)
        await turns(20)
        assert protocol.data == before
        received += before
        protocol.data.clear()
        transport.resume_reading()
        assert not protocol.data, "data_received was called inside resume_reading"
    assert received == CONTENT
    assert await protocol.lost is None


@only_here
async def test_closing_in_the_middle_closes_the_file_once(loop: Loop, file: FileIO) -> None:
    protocol = Recorder(loop)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
    await until(lambda: protocol.data)
    transport.close()
    seen = len(protocol.data)
    assert await protocol.lost is None
    await turns(20)
    assert len(protocol.data) == seen
    assert file.closed
    assert protocol.calls.count("eof_received") == 0


@only_here
async def test_a_buffered_protocol_gets_all_of_a_file(loop: Loop, file: FileIO) -> None:
    protocol = Buffered(loop, size=1000)
    await loop.connect_read_pipe(lambda: protocol, file)
    assert await protocol.lost is None
    assert protocol.data == CONTENT


@only_here
async def test_a_protocol_that_raises_is_reported_and_goes_on(
    loop: Loop, file: FileIO, contexts: list[Context]
) -> None:
    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise RuntimeError("on purpose")

    protocol = Fails(loop)
    await loop.connect_read_pipe(lambda: protocol, file)
    assert await protocol.lost is None
    assert protocol.data == CONTENT
    assert {str(context["exception"]) for context in contexts} == {"on purpose"}


@only_here
async def test_the_null_device_is_at_its_end(loop: Loop) -> None:
    protocol = Recorder(loop)
    await loop.connect_read_pipe(lambda: protocol, FileIO("/dev/null", "rb"))
    assert await protocol.lost is None
    assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


@only_here
async def test_an_endless_device_can_be_left(loop: Loop) -> None:
    protocol = Recorder(loop)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, FileIO("/dev/zero", "rb"))
    await until(lambda: len(protocol.data) > 1 << 20)
    transport.close()
    assert await protocol.lost is None


@only_here
def test_sys_stdin_may_be_a_file(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("first\nsecond\nlast")
    source = f"""
        import asyncio, os, sys
        os.dup2(os.open({str(path)!r}, os.O_RDONLY), 0)

        async def main():
            reader = asyncio.StreamReader()
            factory = lambda: asyncio.StreamReaderProtocol(reader)
            await asyncio.get_running_loop().connect_read_pipe(factory, sys.stdin)
            print([line.decode() async for line in reader])

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    assert program.output(textwrap.dedent(source)) == "['first\\n', 'second\\n', 'last']"


async def test_another_regular_file_is_refused_and_stays_open(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_text("content")
    with FileIO(path, "rb") as file:
        with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
            await loop.connect_read_pipe(asyncio.Protocol, file)
        assert file.read() == b"content"


@only_here
def test_a_loop_may_close_while_a_file_is_read(loop: Loop, file: FileIO) -> None:
    loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, file))
    with pytest.warns(ResourceWarning, match="unclosed transport <"):
        close_and_collect(loop)
    assert file.closed


def close_and_collect(loop: Loop) -> None:
    """Close the loop, and let go of what only it has held."""
    loop.close()
    gc.collect()
