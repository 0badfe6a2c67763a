"""Signal handlers of the loop, signals while it sleeps or rests, and what it leaves as it was."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from .harness.leaks import wakeup_descriptor
from .harness.program import Program
from .harness.turns import turn, turns, turns_until, until
from .harness.types import Context, Loop, NewLoop

USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Check that the process's signal handlers are what they were."""
    numbers = (USR1, USR2, signal.SIGCHLD, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_handler_runs_in_the_loop_with_its_arguments(loop: Loop) -> None:
    seen: list[tuple[int, str, Loop]] = []

    def on_signal(a: int, b: str) -> None:
        seen.append((a, b, asyncio.get_running_loop()))

    loop.add_signal_handler(USR1, on_signal, 1, "two")
    signal.raise_signal(USR1)
    assert seen == []
    turns_until(loop, lambda: seen)
    assert seen == [(1, "two", loop)]
    assert loop.remove_signal_handler(USR1) is True


def test_a_signal_wakes_an_idle_loop(loop: Loop) -> None:
    loop.add_signal_handler(USR1, loop.stop)
    loop.run_in_executor(None, os.kill, os.getpid(), USR1)
    loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_a_loop_that_never_sleeps_hears_of_signals_and_descriptors_at_any_time(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    heard: list[str] = []

    async def hears(what: str) -> None:
        before = len(heard)
        await until(lambda: len(heard) > before)
        assert heard[before:] == [what]

    def read() -> None:
        heard.append(ours.recv(9).decode())

    async def drive() -> None:
        await turns(10)
        for _ in range(3):
            loop.add_signal_handler(USR1, heard.append, "signal")
            signal.raise_signal(USR1)
            await hears("signal")
            loop.remove_signal_handler(USR1)
            loop.add_reader(ours, read)
            theirs.send(b"data")
            await hears("data")
            loop.remove_reader(ours)
        loop.add_reader(ours, read)
        loop.add_signal_handler(USR1, heard.append, "signal")
        loop.remove_signal_handler(USR1)
        theirs.send(b"data")
        await hears("data")
        loop.remove_reader(ours)

    with ours, theirs:
        loop.run_until_complete(drive())


def test_a_handler_hears_of_no_signal_that_came_before_it(loop: Loop) -> None:
    ours: list[int] = []
    seen: list[str] = []

    async def drive() -> None:
        for _ in range(3):
            await turns(2)
            signal.raise_signal(USR1)  # Python's own handler has it
            loop.add_signal_handler(USR1, seen.append, "first")
            signal.raise_signal(USR1)
            loop.remove_signal_handler(USR1)  # before it was told
            await turns(2)
            loop.add_signal_handler(USR1, seen.append, "second")
            await turns(5)  # in which the loop hears of all that has come
            loop.remove_signal_handler(USR1)
            signal.signal(USR1, lambda number, frame: ours.append(number))

    former = signal.signal(USR1, lambda number, frame: ours.append(number))
    try:
        loop.run_until_complete(drive())
    finally:
        signal.signal(USR1, former)
    assert ours == [USR1] * 3
    assert seen == []


def test_a_signal_is_delivered_when_it_comes_at_once(loop: Loop) -> None:
    seen: list[int] = []
    for n in range(50):
        loop.add_signal_handler(USR1, seen.append, n)
        os.kill(os.getpid(), USR1)
        turns_until(loop, lambda n=n: len(seen) == n + 1)  # type: ignore[misc]
        loop.remove_signal_handler(USR1)
    assert seen == list(range(50))


def test_a_signal_while_the_loop_is_stopped_is_delivered_on_the_next_run(loop: Loop) -> None:
    seen: list[int] = []
    loop.add_signal_handler(USR1, seen.append, 1)
    turn(loop)
    os.kill(os.getpid(), USR1)
    turns_until(loop, lambda: seen)
    assert seen == [1]
    loop.remove_signal_handler(USR1)


def test_different_signals_keep_their_order(loop: Loop) -> None:
    seen: list[int] = []
    loop.add_signal_handler(USR1, seen.append, 1)
    loop.add_signal_handler(USR2, seen.append, 2)
    for number in (USR2, USR1, USR1, USR2):
        signal.raise_signal(number)
    turns_until(loop, lambda: len(seen) == 4)
    assert seen == [2, 1, 1, 2]
    loop.remove_signal_handler(USR1)
    loop.remove_signal_handler(USR2)


def test_a_second_handler_replaces_the_first(loop: Loop) -> None:
    seen: list[int] = []
    loop.add_signal_handler(USR1, seen.append, 1)
    loop.add_signal_handler(USR1, seen.append, 2)
    signal.raise_signal(USR1)
    turns_until(loop, lambda: seen)
    assert seen == [2]
    assert loop.remove_signal_handler(USR1) is True
    assert loop.remove_signal_handler(USR1) is False


def test_remove_restores_the_default(loop: Loop) -> None:
    loop.add_signal_handler(USR1, print)
    assert signal.getsignal(USR1) is not signal.SIG_DFL
    loop.remove_signal_handler(USR1)
    assert signal.getsignal(USR1) is signal.SIG_DFL
    loop.add_signal_handler(signal.SIGINT, print)
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_may_remove_itself(loop: Loop) -> None:
    seen: list[bool] = []
    loop.add_signal_handler(USR1, lambda: seen.append(loop.remove_signal_handler(USR1)))
    signal.raise_signal(USR1)
    turns_until(loop, lambda: seen)
    assert seen == [True]


def test_close_removes_the_handlers(loop: Loop) -> None:
    loop.add_signal_handler(USR1, print)
    loop.add_signal_handler(USR2, print)
    loop.close()
    assert signal.getsignal(USR1) is signal.SIG_DFL
    assert signal.getsignal(USR2) is signal.SIG_DFL
    assert wakeup_descriptor() == -1


def test_the_wakeup_descriptor_is_ours_only_while_we_need_it(loop: Loop) -> None:
    loop.add_signal_handler(USR1, print)
    assert wakeup_descriptor() != -1
    loop.remove_signal_handler(USR1)
    assert wakeup_descriptor() == -1


@pytest.mark.only("cloverleaf")
def test_within_a_run_any_signal_ends_a_sleep_by_a_descriptor_of_ours(loop: Loop) -> None:
    async def look() -> int:
        return wakeup_descriptor()

    assert loop.run_until_complete(look()) != -1
    assert wakeup_descriptor() == -1


def test_without_signal_handlers_a_programs_own_wakeup_descriptor_is_kept(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for each in (ours, theirs):
            each.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno())
        own = signal.signal(USR1, lambda *_: None)
        try:
            loop.run_until_complete(asyncio.sleep(0.001))
            assert wakeup_descriptor() == theirs.fileno()
            loop.call_soon(signal.raise_signal, USR1)
            turn(loop)
            loop.close()
            assert wakeup_descriptor() == theirs.fileno()
            assert ours.recv(10) == bytes([USR1])
        finally:
            signal.signal(USR1, own)
            signal.set_wakeup_fd(before)


@pytest.mark.parametrize("number_is", ["of none", "of a file that blocks"])
@pytest.mark.parametrize("closed", ["before the run", "within the run", "before the loop closes"])
def test_a_wakeup_descriptor_that_the_program_has_closed_hinders_nobody(
    loop: Loop, closed: str, number_is: str
) -> None:
    files: list[socket.socket] = []

    def close_it() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        ours.close()
        number = theirs.detach()
        os.close(number)
        while number_is == "of a file that blocks" and not files:
            files.append(socket.socket())
            assert files[0].fileno() <= number
            if files[0].fileno() != number:
                os.dup2(files[0].fileno(), number)
                files.append(socket.socket(fileno=number))

    async def scenario() -> str:
        if closed == "within the run":
            close_it()
        return await asyncio.sleep(0.001, "done")

    try:
        if closed == "before the run":
            close_it()
        assert loop.run_until_complete(scenario()) == "done"
        if closed == "before the loop closes":
            close_it()
        loop.close()
    finally:
        signal.set_wakeup_fd(-1)
        for file in files:
            file.close()


def test_a_sigchld_handler_is_allowed(loop: Loop) -> None:
    seen: list[int] = []
    loop.add_signal_handler(signal.SIGCHLD, seen.append, 1)
    child = os.posix_spawn("/bin/true", ["true"], {})
    turns_until(loop, lambda: seen)
    assert os.waitpid(child, 0) == (child, 0)
    loop.remove_signal_handler(signal.SIGCHLD)


@pytest.mark.parametrize("method", ["add_signal_handler", "remove_signal_handler"])
def test_a_bad_signal_is_refused(loop: Loop, method: str) -> None:
    rest = (print,) if method == "add_signal_handler" else ()
    use = getattr(loop, method)
    with pytest.raises(TypeError, match=r"^sig must be an int, not 'SIGINT'$"):
        use("SIGINT", *rest)
    for number in (0, -1, 10000, signal.NSIG):
        with pytest.raises(ValueError, match=rf"^invalid signal number {number}$"):
            use(number, *rest)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_signal_that_nobody_can_catch_is_refused(loop: Loop, number: signal.Signals) -> None:
    with pytest.raises(RuntimeError, match=rf"^sig {int(number)} cannot be caught$"):
        loop.add_signal_handler(number, print)
    assert wakeup_descriptor() == -1


def test_coroutines_are_refused_as_handlers(loop: Loop) -> None:
    async def handler() -> None:
        """Never run."""

    coroutine = handler()
    for wrong in (handler, coroutine):
        with pytest.raises(
            TypeError, match=r"^coroutines cannot be used with add_signal_handler\(\)$"
        ):
            loop.add_signal_handler(USR1, wrong)  # type: ignore[arg-type]
    coroutine.close()


def test_signal_handlers_belong_to_the_main_thread(loop: Loop) -> None:
    async def elsewhere() -> None:
        loop.add_signal_handler(USR1, print)

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(loop.run_until_complete, elsewhere())
        with pytest.raises(RuntimeError, match=r"set_wakeup_fd only works in main thread"):
            running.result(60)


def test_a_closed_loop_takes_no_signal_handler(loop: Loop) -> None:
    loop.close()
    with pytest.raises((RuntimeError, ValueError)):
        loop.add_signal_handler(USR1, print)


def test_exceptions_of_a_signal_handler_reach_the_handler(
    loop: Loop, contexts: list[Context]
) -> None:
    def failing() -> None:
        raise LookupError

    loop.add_signal_handler(USR1, failing)
    signal.raise_signal(USR1)
    turns_until(loop, lambda: contexts)
    assert isinstance(contexts[0]["exception"], LookupError)
    loop.remove_signal_handler(USR1)


def test_a_handler_that_cannot_be_called_keeps_back_no_other_signal(
    loop: Loop, contexts: list[Context]
) -> None:
    seen: list[str] = []
    not_callable: Any = 42
    loop.set_debug(True)
    loop.add_signal_handler(USR1, not_callable, "argument")
    loop.add_signal_handler(USR2, seen.append, "USR2")
    signal.raise_signal(USR1)
    signal.raise_signal(USR2)  # both are read together
    turns_until(loop, lambda: seen and contexts)
    assert seen == ["USR2"]
    assert [context["message"] for context in contexts] == ["Exception in callback 42('argument')"]
    assert isinstance(contexts[0]["exception"], TypeError)
    loop.remove_signal_handler(USR1)
    loop.remove_signal_handler(USR2)


@contextmanager
def signalled_while_it_runs(loop: Loop, on_signal: Callable[[], None]) -> Iterator[None]:
    """Send USR1 to this process once the loop runs, and again until the handler has been called.

    A signal between the last look for signals and the kernel's wait is not noticed by a loop that
    set no wakeup descriptor, as asyncio's has not without signal handlers of its own.
    """
    called = threading.Lock()
    running = threading.Lock()
    called.acquire()
    running.acquire()
    heard: list[int] = []
    loop.call_soon(running.release)

    def kill() -> None:
        running.acquire(timeout=60)
        while not called.acquire(timeout=0.1):
            os.kill(os.getpid(), USR1)

    def handler(number: int, _frame: object) -> None:
        heard.append(number)
        if len(heard) == 1:  # another may have been sent when this one was on its way
            called.release()
            on_signal()

    before = signal.signal(USR1, handler)
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(USR1, before)


def test_a_python_signal_handler_runs_while_the_loop_sleeps(loop: Loop) -> None:
    def stop() -> None:
        loop.call_soon_threadsafe(loop.stop)

    with signalled_while_it_runs(loop, stop):
        loop.run_forever()


def test_an_interrupt_raised_by_a_python_signal_handler_ends_the_run(loop: Loop) -> None:
    class RaisedError(KeyboardInterrupt):
        pass

    def raise_it() -> None:
        raise RaisedError

    with signalled_while_it_runs(loop, raise_it), pytest.raises(RaisedError):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_two_loops_take_signals_in_turn(new_loop: NewLoop) -> None:
    for n in range(4):
        loop = new_loop()
        seen: list[int] = []
        loop.add_signal_handler(USR1, seen.append, n)
        signal.raise_signal(USR1)
        turns_until(loop, lambda seen=seen: seen)  # type: ignore[misc]
        assert seen == [n]
        loop.close()


@pytest.mark.only("cloverleaf")  # asyncio's sets no wakeup descriptor to run
def test_a_run_that_is_interrupted_at_once_leaves_no_descriptor_to_be_written_to(
    loop: Loop,
) -> None:
    def press(_: object, event: str, called: object) -> None:
        if event == "c_return" and called is signal.set_wakeup_fd:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    loop.call_soon(loop.stop)
    sys.setprofile(press)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.close()
    assert wakeup_descriptor() == -1


@pytest.mark.only("cloverleaf")  # asyncio's closes what Python writes to
@pytest.mark.parametrize("first", ["close", "remove"])
@pytest.mark.parametrize("then", ["", "close"])
def test_what_another_thread_closes_is_no_descriptor_that_signals_are_written_to(
    loop: Loop, first: str, then: str
) -> None:
    loop.add_signal_handler(USR1, print)
    with ThreadPoolExecutor(1) as elsewhere, ExitStack() as files:
        call = loop.close if first == "close" else partial(loop.remove_signal_handler, USR1)
        closing = elsewhere.submit(call)
        with pytest.raises(ValueError, match="main thread"):
            closing.result()
        if then:
            elsewhere.submit(loop.close).result()
        assert loop.is_closed() is (then == "close" or first == "close")
        numbers = [files.enter_context(tempfile.TemporaryFile()).fileno() for _ in range(8)]
        signal.raise_signal(USR1)
        assert [os.fstat(number).st_size for number in numbers] == [0] * 8
    loop.close()
    assert wakeup_descriptor() == -1
    # As on asyncio, it has forgotten by the second time that there was a handler.
    signal.signal(USR1, signal.SIG_DFL)


@pytest.mark.only("cloverleaf")  # asyncio's has its descriptors from the start
def test_a_handler_is_refused_each_time_while_another_thread_runs_the_loop(loop: Loop) -> None:
    runs = threading.Event()
    loop.call_soon(runs.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runs.wait()
    try:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="runs in another thread"):
                loop.add_signal_handler(USR1, print)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_childs_signals_go_into_no_file_of_its_own(program: Program) -> None:
    out = program.output(
        """
import os, signal, tempfile
def fork():
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        loop.stop()
        return
    os.closerange(3, 64)
    files = [tempfile.TemporaryFile() for _ in range(12)]
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.raise_signal(signal.SIGTERM)
    print(sum(os.stat(file.fileno()).st_size for file in files), flush=True)
    os._exit(0)
loop = new_event_loop()
loop.call_soon(fork)
loop.run_forever()
loop.close()
""",
        "-W",
        "ignore",
    )
    assert out == "0"
