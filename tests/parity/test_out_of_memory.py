"""Where the interpreter has no memory left, a call raises `MemoryError`, and the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import cloverleaf

from .harness.links import accepted
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


async def test_calls_without_memory(loop: Loop) -> None:
    fails_only_for_want_of_memory(lambda: loop.call_soon(repr, 1))
    fails_only_for_want_of_memory(lambda: loop.call_later(1000, repr, 1).cancel())
    fails_only_for_want_of_memory(lambda: loop.call_soon_threadsafe(repr, 1))
    fails_only_for_want_of_memory(loop.create_future)
    await asyncio.sleep(0)


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
