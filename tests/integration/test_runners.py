"""`asyncio.Runner` and `asyncio.run` on the loop under test: how programs start it and end it."""

import asyncio
import contextvars
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest

from .conftest import LoopFactory


def test_a_runner_runs_many_coroutines_on_one_loop(loop_factory: LoopFactory) -> None:
    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        assert [runner.run(which()) for _ in range(5)] == [loop] * 5
        assert not loop.is_closed()
    assert loop.is_closed()


def test_a_runner_keeps_its_context_between_runs(loop_factory: LoopFactory) -> None:
    leaf = contextvars.ContextVar("leaf", default="none")

    async def change() -> None:
        leaf.set("changed")

    async def look() -> str:
        return leaf.get()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(change())
        assert runner.run(look()) == "changed"
        assert runner.run(look(), context=contextvars.Context()) == "none"
    assert leaf.get() == "none"


def test_a_runner_cancels_what_is_left_and_closes_generators(loop_factory: LoopFactory) -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    kept = []

    async def main() -> None:
        kept.append(asyncio.create_task(forever()))
        generator = numbers()
        kept.append(generator)  # type: ignore[arg-type]
        assert await anext(generator) == 1

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert ended == ["task", "generator"]


def test_a_runner_joins_the_default_executor(loop_factory: LoopFactory) -> None:
    async def main() -> set[int]:
        return set(await asyncio.gather(*(asyncio.to_thread(threading.get_ident) for _ in "1234")))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        idents = runner.run(main())
    assert threading.get_ident() not in idents
    assert not idents & {thread.ident for thread in threading.enumerate()}


def test_ctrl_c_cancels_the_main_task_and_raises_keyboard_interrupt(
    loop_factory: LoopFactory,
) -> None:
    cancelled = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        assert cancelled == [True]
        assert runner.run(asyncio.sleep(0, "usable again")) == "usable again"


def test_ctrl_c_from_outside_wakes_an_idle_loop(loop_factory: LoopFactory, loop_name: str) -> None:
    heard = threading.Event()

    def press() -> None:
        # Again, if asyncio's loop was about to sleep: it does not notice a signal just then.
        while not heard.wait(0.05):
            os.kill(os.getpid(), signal.SIGINT)
            if loop_name != "asyncio":
                return
            heard.wait(1)

    async def main() -> None:
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            heard.set()  # a second one would end the run at once

    def run(runner: asyncio.Runner) -> None:
        try:
            runner.run(main())
        finally:
            heard.set()
            thread.join()

    thread = threading.Thread(target=press)
    with asyncio.Runner(loop_factory=loop_factory) as runner, pytest.raises(KeyboardInterrupt):
        run(runner)


def test_debug_mode_runs_real_traffic_and_names_the_slow_callback(
    loop_factory: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    def a_slow_leaf() -> None:
        until = time.monotonic() + 0.06
        while time.monotonic() < until:
            pass

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert loop.get_debug()
        loop.slow_callback_duration = 0.05
        loop.call_soon(a_slow_leaf)
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"leaf\n")
            assert await reader.readline() == b"leaf\n"
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    with (
        caplog.at_level(logging.WARNING, "asyncio"),
        asyncio.Runner(debug=True, loop_factory=loop_factory) as runner,
    ):
        runner.run(main())
    slow = [record.getMessage() for record in caplog.records if "took" in record.getMessage()]
    assert any("a_slow_leaf" in message for message in slow), slow


def test_asyncio_run_takes_debug(loop_factory: LoopFactory, loop_name: str) -> None:
    async def main() -> tuple[str, bool]:
        loop = asyncio.get_running_loop()
        return type(loop).__module__.partition(".")[0], loop.get_debug()

    if sys.version_info >= (3, 12):
        assert asyncio.run(main(), debug=True, loop_factory=loop_factory) == (loop_name, True)
    else:
        if loop_name == "cloverleaf":
            import cloverleaf

            policy: asyncio.AbstractEventLoopPolicy = cloverleaf.EventLoopPolicy()
            asyncio.set_event_loop_policy(policy)
        try:
            assert asyncio.run(main(), debug=True) == (loop_name, True)
        finally:
            asyncio.set_event_loop_policy(None)


def test_debug_mode_refuses_call_soon_from_another_thread(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="thread"):
            await asyncio.to_thread(loop.call_soon, print)

    with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
        runner.run(main())
