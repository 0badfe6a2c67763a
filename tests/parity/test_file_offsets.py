"""Reads and writes at an offset: what the kernel refuses is refused, whoever does them."""

from __future__ import annotations

import asyncio
import functools
import os
import pty
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import cloverleaf

from .harness.types import Loop


def run(main: Coroutine[Any, Any, None], backend: Any) -> None:
    """Run it on a loop with this backend."""
    new = functools.partial(cloverleaf.new_event_loop, backend=backend)
    with asyncio.Runner(loop_factory=new) as runner:
        runner.run(main)


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "rb"])
async def test_to_read_nothing_is_refused_where_the_kernel_refuses_it(
    loop: Loop, tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    async with cloverleaf.open(path, mode) as file:
        for size in (0, 1):
            expected = await outcome(None, size, file.fileno())
            assert await outcome(file, size, 0) == expected


async def outcome(file: Any, *arguments: int) -> Any:
    """Return what a read gives, or what it raises; without a file that of a descriptor."""
    try:
        if file is None:
            return os.pread(arguments[1], arguments[0], 0)
        return await file.pread(*arguments)
    except OSError as error:
        return str(error)


@pytest.mark.parametrize("backend", ["auto", "epoll"])
def test_what_has_no_position_is_not_read_or_written_at_one(backend: Any) -> None:
    async def refused() -> None:
        for reading, writing in (os.pipe(), pty.openpty(), _sockets()):
            source = await cloverleaf.open(reading, "rb", 0)
            target = await cloverleaf.open(writing, "wb", 0)
            async with source, target:
                await target.write(b"hello")
                for call in (source.pread(3, 0), source.pread(0, 0), target.pwrite(b"x", 1)):
                    with pytest.raises(OSError, match="Illegal seek"):
                        await call
                assert await source.read(100) == b"hello"

    run(refused(), backend)


@pytest.mark.parametrize("backend", ["auto", "epoll"])
def test_what_takes_seeks_and_has_no_position_is_not_read_at_one(backend: Any) -> None:
    async def refused() -> None:
        async with cloverleaf.open(os.eventfd(7), "r+b", 0) as counter:
            for call in (counter.pread(8, 0), counter.pwrite(bytes(8), 8)):
                with pytest.raises(OSError, match="Illegal seek"):
                    await call
            assert await counter.read(8) == (7).to_bytes(8, sys.byteorder)

    run(refused(), backend)


def _sockets() -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()
