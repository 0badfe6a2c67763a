"""Rust futures and answers where something ends: forks, threads, the interpreter."""

from __future__ import annotations

import ctypes
import re
import sys
from typing import Any

import pytest

from .harness.extension import ROOT, built, module
from .harness.program import Program
from .harness.types import NewLoop

PRELUDE = """
import asyncio, os, sys, threading
sys.path.insert(0, os.environ["EXTENSIONS"])
import probe
"""


@pytest.fixture(scope="module")
def probe() -> Any:
    """Return the module that is tried."""
    return module("probe")


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
