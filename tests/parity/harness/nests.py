"""Loops that may run within themselves, and a protocol that has them do so."""

from __future__ import annotations

import asyncio
import sysconfig
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

import cloverleaf
from cloverleaf import testing

from .types import Loop

#: A Python that is built without the GIL refuses such loops.
NEEDS_GIL = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="refused without the GIL"
)


def nest_with_backend(backend: Literal["epoll", "io_uring"]) -> Iterator[cloverleaf.EventLoop]:
    """Give a test a loop with this backend, or skip it where the kernel refuses that."""
    try:
        loop = cloverleaf.new_event_loop(backend=backend)
    except OSError as error:
        pytest.skip(f"{backend} is refused: {error}")
    yield from _given(loop)


def nest_of_kind(kind: str) -> Iterator[cloverleaf.EventLoop]:
    """Give a test a real loop, or one whose clock jumps."""
    yield from _given(cloverleaf.new_event_loop() if kind == "real" else testing.new_event_loop())


def _given(loop: cloverleaf.EventLoop) -> Iterator[cloverleaf.EventLoop]:
    cloverleaf.allow_nested(loop)
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def answer(value: int = 42, rounds: int = 3) -> int:
    """Return the value some turns later."""
    for _ in range(rounds):
        await asyncio.sleep(0)
    return value


def spin(loop: Loop) -> None:
    """Run what is ready, and what that makes ready. A stop in a callback would end an inner run."""
    loop.run_until_complete(answer())


def in_callback(loop: Loop, callback: Callable[[], Any]) -> Any:
    """Call it from the loop; return what it returns, or raise what it raises."""

    async def call() -> Any:
        return callback()

    return loop.run_until_complete(call())


class Talker(asyncio.Protocol):
    """Does something once when it is told of data, and keeps the rest."""

    def __init__(self, first: Callable[[Any, bytes], None]) -> None:
        self.first: Callable[[Any, bytes], None] | None = first
        self.data = bytearray()
        self.transport: Any = None
        self.more = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        first, self.first = self.first, None
        if first is not None:
            first(self, data)
            return
        self.data += data
        self.more.set()

    async def received(self, count: int) -> bytes:
        while len(self.data) < count:
            self.more.clear()
            await self.more.wait()
        return bytes(self.data)
