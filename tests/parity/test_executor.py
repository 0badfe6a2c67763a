"""``run_in_executor``, the default executor, and its shutdown."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .harness.program import Program
from .harness.types import Loop, NewLoop, Run


async def test_a_job_runs_in_another_thread(loop: Loop) -> None:
    assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()


async def test_arguments_and_results_travel(loop: Loop) -> None:
    assert await loop.run_in_executor(None, divmod, 7, 2) == (3, 1)


async def test_exceptions_of_a_job_reach_who_awaits_it(loop: Loop) -> None:
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, divmod, 1, 0)


async def test_the_result_is_an_asyncio_future(loop: Loop) -> None:
    future = loop.run_in_executor(None, int)
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert await future == 0


async def test_an_own_executor_is_used(loop: Loop) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
        thread = await loop.run_in_executor(executor, threading.current_thread)
    assert thread.name.startswith("own")


async def test_the_default_executor_can_be_set(loop: Loop) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="default") as executor:
        loop.set_default_executor(executor)
        thread = await loop.run_in_executor(None, threading.current_thread)
        assert thread.name.startswith("default")
        assert (await asyncio.to_thread(threading.current_thread)) is thread


def test_the_default_executor_must_be_a_thread_pool(loop: Loop) -> None:
    class Other(concurrent.futures.Executor):
        pass

    with pytest.raises(TypeError, match=r"^executor must be ThreadPoolExecutor instance$"):
        loop.set_default_executor(Other())


async def test_the_threads_of_the_default_executor_have_asyncios_name(loop: Loop) -> None:
    thread = await loop.run_in_executor(None, threading.current_thread)
    assert thread.name.startswith("asyncio_")


async def test_many_jobs_run_at_once_and_none_is_lost(loop: Loop) -> None:
    both = threading.Barrier(2)
    pair = [loop.run_in_executor(None, both.wait, 60) for _ in range(2)]
    assert sorted(await asyncio.gather(*pair)) == [0, 1]
    jobs = [loop.run_in_executor(None, divmod, n, 7) for n in range(500)]
    assert await asyncio.gather(*jobs) == [divmod(n, 7) for n in range(500)]


async def test_a_cancelled_job_that_has_not_begun_never_runs(loop: Loop) -> None:
    free = threading.Event()
    seen: list[int] = []
    with ThreadPoolExecutor(1) as executor:
        busy = loop.run_in_executor(executor, free.wait, 60)
        waiting = loop.run_in_executor(executor, seen.append, 1)
        waiting.cancel()
        await asyncio.sleep(0)
        free.set()
        assert await busy
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert seen == []


async def test_cancelling_a_job_that_runs_leaves_the_thread_alone(loop: Loop) -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> int:
        begun.set()
        ended.append(go_on.wait(60))
        return 1

    future = loop.run_in_executor(None, work)
    assert await loop.run_in_executor(None, begun.wait, 60)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    go_on.set()
    await loop.shutdown_default_executor()
    assert ended == [True]
    assert future.cancelled()


async def test_jobs_that_the_default_executor_cancels_are_cancelled(loop: Loop) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go_on.wait(60)

    first = loop.run_in_executor(None, work)
    assert await loop.run_in_executor(None, begun.wait, 60)
    executor = loop._default_executor  # type: ignore[attr-defined]
    blockers = [loop.run_in_executor(None, go_on.wait, 60) for _ in range(executor._max_workers)]
    waiting = [loop.run_in_executor(None, int) for _ in range(3)]
    executor.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    assert await first
    for future in waiting:
        with pytest.raises(asyncio.CancelledError):
            await future
    await asyncio.gather(*blockers, return_exceptions=True)


@pytest.mark.parametrize("name", ["CancelledError", "InvalidStateError", "TimeoutError"])
async def test_exceptions_of_concurrent_futures_become_asyncios(loop: Loop, name: str) -> None:
    def fail() -> None:
        raise getattr(concurrent.futures, name)("what", "ever")

    with pytest.raises(getattr(asyncio, name)) as caught:
        await loop.run_in_executor(None, fail)
    assert caught.value.args == ("what", "ever")


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_a_job_may_raise_anything(loop: Loop, raised: type[BaseException]) -> None:
    def fail() -> None:
        raise raised("out")

    future = loop.run_in_executor(None, fail)
    await asyncio.wait([future])
    assert isinstance(future.exception(), raised)


async def test_a_program_may_change_how_pools_submit(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    submit = ThreadPoolExecutor.submit

    def watch(self: ThreadPoolExecutor, *args: object) -> concurrent.futures.Future[object]:
        seen.append(args)
        return submit(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", watch)
    assert await loop.run_in_executor(None, divmod, 7, 2) == (3, 1)
    assert seen == [(divmod, 7, 2)]


async def test_shutdown_waits_for_running_jobs(loop: Loop) -> None:
    begun, free = threading.Event(), threading.Event()
    seen: list[int] = []

    def job() -> None:
        begun.set()
        free.wait(60)
        seen.append(1)

    future = loop.run_in_executor(None, job)
    assert begun.wait(60)
    shutdown = loop.create_task(loop.shutdown_default_executor())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not shutdown.done()
    free.set()
    await shutdown
    assert seen == [1]
    await future


async def test_after_shutdown_no_job_is_taken(loop: Loop) -> None:
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
        loop.run_in_executor(None, int)
    await loop.shutdown_default_executor()


AFTER_SHUTDOWN: dict[str, Callable[[Loop], Coroutine[Any, Any, Any]]] = {
    "a name": lambda loop: loop.getaddrinfo("localhost", 80),
    "an address": lambda loop: loop.getaddrinfo("127.0.0.1", 80),
    "a service": lambda loop: loop.getaddrinfo("127.0.0.1", "http"),
    "bad arguments": lambda loop: loop.getaddrinfo(5, 80),  # type: ignore[arg-type]
    "getnameinfo": lambda loop: loop.getnameinfo(("127.0.0.1", 80)),
    "create_connection": lambda loop: loop.create_connection(asyncio.Protocol, "localhost", 1),
    "create_server": lambda loop: loop.create_server(asyncio.Protocol, "localhost", 0),
    "create_server of all": lambda loop: loop.create_server(asyncio.Protocol, None, 0),
    "create_datagram_endpoint": lambda loop: loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("localhost", 1)
    ),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("what", AFTER_SHUTDOWN)
async def test_after_shutdown_no_name_is_looked_up(loop: Loop, what: str, debug: bool) -> None:
    loop.set_debug(debug)
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
        await AFTER_SHUTDOWN[what](loop)


async def test_after_shutdown_addresses_are_connected_to(loop: Loop) -> None:
    await loop.shutdown_default_executor()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.abort()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)


def test_a_closed_loop_says_so_first(loop: Loop) -> None:
    async def look_up() -> None:
        await loop.getaddrinfo("127.0.0.1", 80)

    pending = look_up()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        pending.send(None)


async def test_a_default_executor_that_others_shut_down_takes_no_job(loop: Loop) -> None:
    await loop.run_in_executor(None, int)
    loop._default_executor.shutdown()  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        loop.run_in_executor(None, int)


AT_THE_END = """
import atexit, concurrent.futures.thread
loop = new_event_loop()
def late():
    try:
        loop.run_in_executor(None, int)
    except RuntimeError as error:
        print(error)
    loop.close()
atexit.register(late)
"""


def test_at_the_interpreters_end_no_job_is_taken(program: Program) -> None:
    said = program.output(AT_THE_END)
    assert said == "cannot schedule new futures after interpreter shutdown"


def test_closing_the_loop_shuts_its_executor_down_without_a_wait(new_loop: NewLoop) -> None:
    executor = ThreadPoolExecutor(1)
    loop, begun, free = new_loop(), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        free.wait(60)

    loop.set_default_executor(executor)
    loop.run_in_executor(None, job)
    assert begun.wait(60)
    loop.close()
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        executor.submit(int)
    free.set()
    executor.shutdown()


def test_closing_shuts_the_executor_down_even_if_signal_handlers_stay(new_loop: NewLoop) -> None:
    loop = new_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    worker = loop.run_until_complete(loop.run_in_executor(None, threading.current_thread))
    with ThreadPoolExecutor(1) as elsewhere:
        closing = elsewhere.submit(loop.close)
        with pytest.raises(ValueError, match="main thread"):
            closing.result()
    assert loop.is_closed()
    worker.join(60)
    assert not worker.is_alive()
    loop.close()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)


async def test_shutdown_without_an_executor_returns(loop: Loop) -> None:
    await loop.shutdown_default_executor()


if sys.version_info >= (3, 12):  # the timeout of shutdown_default_executor is new in 3.12
    everywhere = pytest.mark.only("asyncio", "cloverleaf")
    # asyncio 3.12.1 waits without end all the same; 3.13 does not.
    forgetful = pytest.mark.only("cloverleaf") if sys.version_info < (3, 13) else everywhere

    @forgetful
    async def test_shutdown_gives_up_after_its_timeout(loop: Loop) -> None:
        begun, free = threading.Event(), threading.Event()

        def job() -> None:
            begun.set()
            free.wait(60)

        future = loop.run_in_executor(None, job)
        assert begun.wait(60)
        with pytest.warns(RuntimeWarning, match=r"did not finishing joining its threads within"):
            await loop.shutdown_default_executor(timeout=0.01)
        free.set()
        await future

    async def test_shutdown_within_its_timeout_does_not_warn(loop: Loop) -> None:
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor(timeout=60)


def test_a_job_that_ends_after_the_loop_closed_is_let_go(new_loop: NewLoop) -> None:
    free = threading.Event()
    loop = new_loop()
    executor = ThreadPoolExecutor(1)
    future = loop.run_in_executor(executor, free.wait, 60)
    loop.close()
    free.set()
    executor.shutdown()
    assert not future.done()


def test_to_thread_carries_the_context(run: Run) -> None:
    variable = contextvars.ContextVar[int]("variable")

    async def work() -> int:
        variable.set(8)
        return await asyncio.to_thread(variable.get)

    assert run(work()) == 8


def test_debug_mode_refuses_coroutines_as_jobs(loop: Loop) -> None:
    async def job() -> None:
        """Never run."""

    loop.set_debug(True)
    with pytest.raises(TypeError, match=r"^coroutines cannot be used with run_in_executor\(\)$"):
        loop.run_in_executor(None, job)
    with pytest.raises(TypeError, match=r"a callable object was expected by run_in_executor\(\)"):
        loop.run_in_executor(None, 42)  # type: ignore[arg-type]
