"""The invariants that no other file here names: completions, exceptions, borrows, endings.

Wakeups are in ``test_threads``, identity and edges in ``test_watch``, order in ``test_call_soon``,
``test_timers`` and ``test_stream_data``, endings also in ``test_close`` and the stream tests.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable

import pytest

from .harness.leaks import Resources, leaks_since
from .harness.links import linked
from .harness.protocols import Recorder
from .harness.turns import turn, turns
from .harness.types import Context, Loop, NewLoop


class Reentering:
    """Calls back into the loop when it is called, compared, shown or dropped."""

    def __init__(self, loop: Loop, seen: list[str]) -> None:
        self.loop = loop
        self.seen = seen

    def enter(self, how: str) -> None:
        """Use everything of the loop that has state."""
        self.seen.append(how)
        if self.loop.is_closed():
            with pytest.raises(RuntimeError, match="closed"):
                self.loop.call_soon(print)
            return
        self.loop.call_soon(int).cancel()
        self.loop.call_later(60, int).cancel()
        self.loop.call_soon_threadsafe(int).cancel()
        self.loop.remove_reader(0)
        self.loop.is_running()
        gc.collect()

    def __call__(self, *_args: object) -> None:
        self.enter("called")

    def __del__(self) -> None:
        self.enter("dropped")

    def __repr__(self) -> str:
        self.enter("shown")
        return "Reentering"


def test_borrows_a_callback_may_use_the_loop_when_it_is_dropped(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(Reentering(loop, seen))
    loop.call_later(0, Reentering(loop, seen))
    loop.call_soon_threadsafe(Reentering(loop, seen))
    turn(loop)
    turn(loop)
    assert seen.count("called") == 3
    assert seen.count("dropped") == 3


def test_borrows_cancel_may_run_python_code_in_the_loop(loop: Loop) -> None:
    seen: list[str] = []
    for handle in [
        loop.call_soon(Reentering(loop, seen)),
        loop.call_later(60, Reentering(loop, seen)),
        loop.call_soon_threadsafe(Reentering(loop, seen)),
    ]:
        handle.cancel()
    assert seen == ["dropped"] * 3
    turn(loop)


def test_borrows_close_may_run_python_code_in_the_loop(new_loop: NewLoop) -> None:
    seen: list[str] = []
    ours, theirs = socket.socketpair()
    loop = new_loop()
    loop.call_soon(Reentering(loop, seen))
    loop.call_later(60, Reentering(loop, seen))
    loop.call_soon_threadsafe(Reentering(loop, seen))
    loop.add_reader(ours, Reentering(loop, seen))
    loop.close()
    ours.close()
    theirs.close()
    gc.collect()
    assert seen == ["dropped"] * 4


def test_borrows_replacing_a_watcher_may_run_python_code_in_the_loop(loop: Loop) -> None:
    seen: list[str] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for add, remove in (
            (loop.add_reader, loop.remove_reader),
            (loop.add_writer, loop.remove_writer),
        ):
            add(ours, Reentering(loop, seen))
            add(ours, Reentering(loop, seen))
            remove(ours)
    assert seen == ["dropped"] * 4


def test_borrows_setting_handlers_may_run_python_code_in_the_loop(loop: Loop) -> None:
    seen: list[str] = []
    loop.set_exception_handler(Reentering(loop, seen))
    loop.set_exception_handler(None)
    loop.set_task_factory(Reentering(loop, seen))  # type: ignore[arg-type]
    loop.set_task_factory(None)
    assert seen == ["dropped"] * 2


def test_borrows_a_comparison_of_timers_may_run_python_code_in_the_loop(loop: Loop) -> None:
    class Comparing(Reentering):
        def __eq__(self, other: object) -> bool:
            self.enter("compared")
            return True

        __hash__ = None  # type: ignore[assignment]

    seen: list[str] = []
    one = loop.call_at(10, Comparing(loop, seen))
    other = loop.call_at(10, Comparing(loop, seen))
    assert one == other
    assert "compared" in seen


def test_borrows_a_repr_may_run_python_code_in_the_loop(loop: Loop) -> None:
    seen: list[str] = []
    loop.set_debug(True)
    assert "Reentering" in repr(loop.call_soon(print, Reentering(loop, seen)))
    assert "shown" in seen


async def test_borrows_a_protocol_may_use_its_transport_in_every_call(loop: Loop) -> None:
    class Using(Recorder):
        def use(self) -> None:
            transport = self.transport
            transport.pause_reading()
            transport.resume_reading()
            transport.write(b"x")
            transport.get_write_buffer_size()
            transport.set_write_buffer_limits(high=10)
            transport.set_protocol(self)
            repr(transport)
            gc.collect()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.use()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.use()

        def eof_received(self) -> bool | None:
            super().eof_received()
            self.use()
            return True

        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.get_write_buffer_size()

        def connection_lost(self, exc: BaseException | None) -> None:
            self.transport.get_extra_info("socket")
            self.transport.close()
            self.transport.abort()
            super().connection_lost(exc)

    async with linked(loop, Using) as (ours, peer):
        peer.sendall(b"x")
        await ours.received(1)
        while ours.transport.get_write_buffer_size() == 0:
            ours.transport.write(bytes(1 << 20))
        peer.shutdown(socket.SHUT_WR)
        await ours.ended
        ours.transport.abort()
        await ours.lost


async def test_completions_each_job_of_an_executor_ends_once(loop: Loop) -> None:
    ends: list[int] = []
    free = threading.Event()
    works: list[Callable[[], object]] = [int, lambda: 1 // 0, lambda: free.wait(60)]
    futures = [loop.run_in_executor(None, work) for work in works * 10]
    for n, future in enumerate(futures):
        future.add_done_callback(lambda _, n=n: ends.append(n))  # type: ignore[misc]
    for future in futures[::7]:
        future.cancel()
    free.set()
    await asyncio.gather(*futures, return_exceptions=True)
    await turns(2)
    assert sorted(ends) == list(range(len(futures)))


def test_completions_a_job_that_outlives_the_loop_harms_nobody(new_loop: NewLoop) -> None:
    free = threading.Event()
    loop = new_loop()
    futures = [loop.run_in_executor(None, free.wait, 60) for _ in range(3)]
    turn(loop)
    loop.close()
    free.set()
    assert not any(future.done() for future in futures)


def test_completions_a_lookup_that_outlives_the_loop_harms_nobody(
    new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    async def begin(loop: Loop) -> None:
        loop.create_task(loop.getaddrinfo("localhost", 80))
        await asyncio.sleep(0)

    for patched in (False, True):
        if patched:
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: free.wait(60))
        loop = new_loop()
        loop.run_until_complete(begin(loop))
        tasks = asyncio.all_tasks(loop)
        assert len(tasks) == 1 or not patched, "only a real lookup may have ended already"
        while tasks:
            tasks.pop()._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
    free.set()


async def test_exceptions_each_reaches_caller_future_or_handler(
    loop: Loop, contexts: list[Context]
) -> None:
    def fail(name: str) -> None:
        raise LookupError(name)

    async def failing(name: str) -> None:
        fail(name)

    loop.call_soon(fail, "callback")
    loop.call_later(0, fail, "timer")
    loop.call_soon_threadsafe(fail, "injected")
    with pytest.raises(LookupError, match="awaited"):
        await failing("awaited")
    with pytest.raises(LookupError, match="task"):
        await loop.create_task(failing("task"))
    with pytest.raises(LookupError, match="thread"):
        await loop.run_in_executor(None, fail, "thread")
    await turns(3)
    assert sorted(str(context["exception"]) for context in contexts) == [
        "callback",
        "injected",
        "timer",
    ]


def test_endings_after_close_nothing_of_ours_remains(new_loop: NewLoop) -> None:
    before = Resources.now()
    loop = new_loop()
    loop.run_until_complete(use_everything(loop))
    loop.close()
    assert leaks_since(before) == []


async def use_everything(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        peer.sendall(b"x")
        await ours.received(1)
    await loop.getaddrinfo("localhost", 80)
    await loop.run_in_executor(None, int)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
