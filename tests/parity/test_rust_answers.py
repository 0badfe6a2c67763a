"""Answers that come from any thread, by the crate cloverleaf-futures: bursts, closed loops, forks.

On Cloverleaf's loop they take no part in Python until the loop's thread has them.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import re
import sys
import threading
import weakref
from typing import Any

import pytest

from .harness.complaints import Complaints
from .harness.extension import ROOT, built, module
from .harness.program import Program
from .harness.turns import until
from .harness.types import Loop, NewLoop

UNANSWERED = "dropped before it gave an answer"


@pytest.fixture(scope="module")
def probe() -> Any:
    """Return the module that is tried."""
    return module("probe")


async def later(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def awaited(awaitable: Any) -> object:
    return await awaitable


# -- answers from any thread -------------------------------------------------------------------


async def test_an_answer_comes_from_any_thread(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    assert answer.complete([1])
    assert not awaitable.done(), "it comes in the next turn"
    assert await awaitable == [1]

    answer, awaitable = probe.make_promise()
    thread = threading.Thread(target=answer.complete, args=("from a thread",))
    thread.start()
    assert await awaitable == "from a thread"
    thread.join()

    answer, awaitable = probe.make_promise()
    answer.fail(ZeroDivisionError("no"))
    with pytest.raises(ZeroDivisionError, match="no"):
        await awaitable

    answer, awaitable = probe.make_promise()
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await awaitable
    assert awaitable.cancelled()


@pytest.mark.only("cloverleaf")  # to asyncio's loop nobody comes without Python
async def test_an_answer_needs_no_python(loop: Loop, probe: Any) -> None:
    """This thread holds the GIL until the other one has answered."""
    for n in range(100):
        answer, awaitable = probe.make_promise()
        assert answer.complete_without_python(n)
        assert await awaitable == n


async def in_order(awaitables: list[Any]) -> list[int]:
    told: list[int] = []
    for awaitable in awaitables:
        awaitable.add_done_callback(lambda done: told.append(done.result()))
    await asyncio.gather(*awaitables)
    return told


async def test_every_answer_of_a_burst_arrives_once_and_is_the_right_one(
    loop: Loop, probe: Any
) -> None:
    for _ in range(5):
        awaitables = probe.burst(4000, 4)
        told = await in_order(awaitables)
        assert [awaitable.result() for awaitable in awaitables] == list(range(4000))
        assert sorted(told) == list(range(4000))
        for thread in range(4):
            ours = [n for n in told if n % 4 == thread]
            assert ours == sorted(ours), "the answers of one thread come in its order"


async def test_a_dropped_completer_ends_its_awaitable(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    answer.forget()
    with pytest.raises(RuntimeError, match=UNANSWERED):
        await asyncio.wait_for(awaitable, 60)
    answer, awaitable = probe.make_promise()
    del answer
    with pytest.raises(RuntimeError, match=UNANSWERED):
        await asyncio.wait_for(awaitable, 60)


async def test_a_completer_may_be_dropped_while_an_exception_is_on_its_way(
    loop: Loop, probe: Any
) -> None:
    awaitables: list[Any] = []

    def made() -> Any:
        answer, awaitable = probe.make_promise()
        awaitables.append(awaitable)
        return answer

    def take(*_: object) -> None:
        pass

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            take(made(), 1 // 0)  # the completer goes with the arguments of the call
    for awaitable in awaitables:
        with pytest.raises(RuntimeError, match=UNANSWERED):
            await asyncio.wait_for(awaitable, 60)


async def test_the_rust_side_hears_of_a_cancelled_awaitable_once(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    answer.hook()
    assert not answer.is_cancelled
    awaitable.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert answer.is_cancelled
    assert answer.hooked == 1
    answer.hook()
    assert answer.hooked == 2, "a hook that comes late is called at once"
    assert answer.complete(1), "which is nobody's error"
    await asyncio.sleep(0)
    assert awaitable.cancelled()


async def test_nobody_hears_of_a_cancel_when_the_answer_was_given(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    answer.hook()
    answer.complete(1)
    assert await awaitable == 1
    await asyncio.sleep(0)
    assert answer.hooked == 0

    answer, awaitable = probe.make_promise()
    answer.hook()
    answer.complete(1)
    awaitable.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (answer.hooked, awaitable.cancelled()) == (0, True)


async def test_what_python_has_set_stays(loop: Loop, probe: Any) -> None:
    answer, awaitable = probe.make_promise()
    awaitable.set_result("Python's")
    answer.complete("Rust's")
    assert await awaitable == "Python's"
    await asyncio.sleep(0)


# -- closed loops ------------------------------------------------------------------------------


def test_an_answer_for_a_closed_loop_is_refused(new_loop: NewLoop, probe: Any) -> None:
    loop = new_loop()
    promises = loop.run_until_complete(promised(probe, 8))
    loop.close()
    (answer, _), *others = promises
    assert not answer.complete(object())
    assert probe.complete_until_closed([answer for answer, _ in others]) == 7
    assert not any(awaitable.done() for _, awaitable in promises)


async def promised(probe: Any, count: int) -> list[Any]:
    return [probe.make_promise() for _ in range(count)]


def test_answers_that_wait_when_the_loop_is_closed_are_dropped(
    new_loop: NewLoop, probe: Any
) -> None:
    class Value:
        pass

    loop = new_loop()
    [(answer, awaitable)] = loop.run_until_complete(promised(probe, 1))
    value = Value()
    gone = weakref.ref(value)
    assert answer.complete(value)
    del value
    assert gone() is not None
    loop.close()
    attached(probe)
    gc.collect()
    assert gone() is None
    assert not awaitable.done()


def attached(probe: Any) -> None:
    """Let PyO3 drop what was dropped where it could not be; any call does."""
    probe.Gate()


def test_futures_that_wait_when_the_loop_is_closed_are_dropped(
    new_loop: NewLoop, probe: Any
) -> None:
    async def begin(gate: Any) -> list[Any]:
        waiting = [gate.wait() for _ in range(10)]
        await until(lambda: gate.waiting == 10)
        return [*waiting, gate.wait()]  # the last one has not begun

    loop = new_loop()
    gate = probe.Gate()
    waiting = loop.run_until_complete(begin(gate))
    loop.close()
    gate.open(4)
    gc.collect()
    assert gate.dropped == 11
    assert not any(awaitable.done() for awaitable in waiting)


def test_a_loop_that_stands_still_has_the_answer_when_it_runs_again(loop: Loop, probe: Any) -> None:
    [(answer, awaitable)] = loop.run_until_complete(promised(probe, 1))
    thread = threading.Thread(target=answer.complete, args=(1,))
    thread.start()
    thread.join()
    assert loop.run_until_complete(asyncio.wait_for(awaited(awaitable), 60)) == 1


def test_many_loops_in_threads_have_their_own_answers(new_loop: NewLoop, probe: Any) -> None:
    async def main(number: int) -> None:
        for _ in range(5):
            assert await asyncio.gather(*probe.burst(500, 3)) == list(range(500))
            assert await probe.awaits(later(number)) == number

    ended: list[int] = []

    def body(number: int, loop: Loop) -> None:
        loop.run_until_complete(main(number))
        ended.append(number)

    threads = [threading.Thread(target=body, args=(n, new_loop())) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == list(range(6))


# -- who looks on ------------------------------------------------------------------------------


def test_debug_mode_names_a_future_that_takes_long(
    loop: Loop, probe: Any, logged: Complaints
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0

    async def main() -> object:
        return await probe.value(1)

    assert loop.run_until_complete(main()) == 1
    assert logged.take()


@pytest.mark.only("cloverleaf")
def test_a_loop_with_a_call_soon_threadsafe_of_its_own_has_it_called(probe: Any) -> None:
    import cloverleaf

    calls: list[object] = []

    class Own(cloverleaf.EventLoop):
        pass

    def call(self: Own, callback: Any, *args: Any, context: Any = None) -> Any:
        calls.append(callback)
        return cloverleaf.EventLoop.call_soon_threadsafe(self, callback, *args, context=context)

    Own.call_soon_threadsafe = call  # type: ignore[assignment, method-assign]
    loop = Own()
    try:
        assert loop.run_until_complete(awaited_value(probe)) == 1
        assert len(calls) == 1
    finally:
        loop.close()


async def awaited_value(probe: Any) -> object:
    return await probe.value(1)


# -- forks and ends ----------------------------------------------------------------------------

PRELUDE = """
import asyncio, os, sys, threading
sys.path.insert(0, os.environ["EXTENSIONS"])
import probe
"""


def environment() -> dict[str, str]:
    return {"EXTENSIONS": str(built())}


@pytest.mark.only("cloverleaf")  # on asyncio the child shares the parent's epoll and pipe
def test_a_forked_child_is_refused_its_parents_answers(program: Program) -> None:
    source = """
async def main():
    answer, awaitable = probe.make_promise()
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, b"taken" if answer.complete(1) else b"refused")
        os._exit(0)
    said = os.read(reading, 9)
    os.wait()
    answer.complete(2)
    print(said.decode(), await awaitable)
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    out = program.output(PRELUDE + source, "-W", "ignore", env=environment())
    assert out == "refused 2"


def test_a_child_may_have_its_own(program: Program) -> None:
    source = """
def work():
    loop = new_event_loop()
    try:
        return sum(loop.run_until_complete(main()))
    finally:
        loop.close()
async def main():
    return await asyncio.gather(*probe.burst(100, 2))
assert work() == 4950
if os.fork() == 0:
    os._exit(work() == 4950)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert program.output(PRELUDE + source, "-W", "ignore", env=environment()) == "1"


@pytest.mark.only("cloverleaf")  # on asyncio a child may wait for ever for what a thread had
def test_children_that_are_forked_amid_a_burst_let_go_of_the_loop(program: Program) -> None:
    source = """
import signal
async def main():
    for _ in range(20):
        awaitables = probe.burst(3000, 4)
        if os.fork() == 0:
            signal.alarm(60)
            asyncio._set_running_loop(None)
            loop.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
        assert await asyncio.gather(*awaitables) == list(range(3000))
    print("all")
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    assert program.output(PRELUDE + source, "-W", "ignore", env=environment()) == "all"


@pytest.mark.parametrize("closes", [True, False])
def test_threads_may_answer_when_the_interpreter_is_gone(program: Program, closes: bool) -> None:
    source = f"""
async def main():
    return probe.burst(50000, 4)
loop = new_event_loop()
awaitables = loop.run_until_complete(main())
if {closes}:
    loop.close()
print("ended")
"""
    ended = program(PRELUDE + source, "-W", "ignore", env=environment())
    assert (ended.status, ended.out) == (0, "ended\n"), ended.err


def test_a_loop_in_a_daemon_thread_may_poll_when_the_interpreter_ends(program: Program) -> None:
    source = """
import time
polled = threading.Event()
def poll():
    polled.set()
    time.sleep(1e-5)
async def main():
    await probe.wakes_itself(1 << 60, poll)
thread = threading.Thread(target=lambda: new_event_loop().run_until_complete(main()), daemon=True)
thread.start()
polled.wait()
print("ended")
"""
    for _ in range(3):
        ended = program(PRELUDE + source, "-W", "ignore", env=environment())
        assert (ended.status, ended.out) == (0, "ended\n"), ended.err


def test_threads_of_a_child_may_answer_when_its_interpreter_is_gone(program: Program) -> None:
    source = """
async def main(count):
    return probe.burst(count, 4)
first = new_event_loop()
first.run_until_complete(main(4))
ended = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        loop = new_event_loop()
        awaitables = loop.run_until_complete(main(50000))
        sys.exit()
    ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(ended == [0] * 8)
first.close()
"""
    assert program.output(PRELUDE + source, "-W", "ignore", env=environment()) == "True"


@pytest.mark.only("cloverleaf")
def test_a_link_is_released_without_python(new_loop: NewLoop) -> None:
    """On the loop's thread, too, while it is detached: nothing of Python's is touched then."""
    from cloverleaf._cloverleaf import API

    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    functions = (ctypes.c_void_p * 6).from_address(get(API, b"cloverleaf.api.1"))
    open_link = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(functions[1] or 0)
    release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(functions[3] or 0)  # called without the GIL
    loop = new_loop()

    def change() -> None:
        links = [open_link(loop) for _ in range(100)]
        before = sys.getrefcount(loop)
        for link in links:
            release(link)
        changes.append(sys.getrefcount(loop) - before)

    changes: list[int] = []
    change()
    loop.call_soon(change)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert changes == [0, 0]


@pytest.mark.only("asyncio")  # Cloverleaf's loop takes answers until it is closed
def test_at_the_interpreters_end_nobody_is_left_waiting(program: Program) -> None:
    source = """
import atexit
def late():
    try:
        new_event_loop().run_until_complete(main())
    except RuntimeError as error:
        print(error)
async def main():
    await probe.make_promise()[1]
async def prepared():
    probe.make_promise()
atexit.register(late)
loop = new_event_loop()
loop.run_until_complete(prepared())
loop.close()
"""
    out = program.output(PRELUDE + source, "-W", "ignore", env=environment())
    assert out == "the interpreter is at its end"


# -- the documentation's example ---------------------------------------------------------------


def test_the_example_of_the_documentation_does_what_it_says(program: Program) -> None:
    source = """
import digest
async def later(value):
    await asyncio.sleep(0)
    return value
async def main():
    print(await digest.checksum(b"\\1\\2"))
    print(await digest.joined(later("a"), later("b")))
    print(await digest.joined(digest.checksum(b"\\1"), later(1)))
    cancelled = digest.checksum(bytes(1 << 20))
    cancelled.cancel()
    print(await digest.checksum(b"\\3"))
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    assert program.output(PRELUDE + source, env=environment()) == "33\nab\n2\n3"


def test_the_documentation_shows_the_example_that_is_built() -> None:
    page = (ROOT / "docs/rust-futures.md").read_text(encoding="utf-8")
    example = ROOT / "crates/cloverleaf-futures/examples/digest.rs"
    shown = re.findall(r"^```rust\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert shown
    source = example.read_text(encoding="utf-8")
    assert all(block in source for block in shown)
