"""What a loop of cloverleaf.testing is given: patience, and arguments that make none."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Awaitable
from typing import Any

import pytest

import cloverleaf
from cloverleaf import testing

LONG = 1e6


def test_patience_lets_others_come_first() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        asked = threading.Event()

        def answer() -> None:
            asked.wait()
            far.send(b"answer")

        thread = threading.Thread(target=answer)
        thread.start()
        loop.call_soon(asked.set)
        assert await asyncio.wait_for(loop.sock_recv(near, 10), LONG) == b"answer"
        assert loop.time() == 0.0
        thread.join()
        near.close()
        far.close()

    testing.run(main(), patience=math.inf)


def test_patience_ends() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(near, 10), LONG)
        assert loop.time() == LONG
        near.close()
        far.close()

    began = time.monotonic()
    testing.run(main(), patience=0.1)
    assert time.monotonic() - began >= 0.1
    testing.run(main())


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": -1.0},
        {"start": math.nan},
        {"start": math.inf},
        {"patience": -0.1},
        {"patience": math.nan},
        {"seed": -1},
        {"seed": 2**64},
        {"on_deadlock": "sleep"},
    ],
)
def test_what_makes_no_loop_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        testing.new_event_loop(**arguments)


def test_run_refuses_a_running_loop() -> None:
    async def main() -> None:
        inner: Awaitable[None] = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"testing\.run"):
            testing.run(inner)  # type: ignore[arg-type]
        inner.close()  # type: ignore[attr-defined]

    testing.run(main())


def test_it_is_a_loop_of_ours() -> None:
    loop = testing.new_event_loop()
    assert isinstance(loop, cloverleaf.EventLoop)
    assert loop.time() == 0.0
    loop.close()
