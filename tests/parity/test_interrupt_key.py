"""Ctrl-C, as a user presses it: the signal comes from outside, to a program of its own."""

from __future__ import annotations

import signal

import pytest

from .harness.program import Program

MAIN = """
import asyncio, signal, sys

async def idle():
    print("ready", flush=True)
    await asyncio.sleep(3600)

async def busy():
    print("ready", flush=True)
    while True:
        await asyncio.sleep(0)

async def computing():
    print("ready", flush=True)
    while not asyncio.current_task().cancelling():
        pass
    print("cancelling", flush=True)
    while True:
        pass
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_interrupt_ends_a_runner(program: Program, state: str) -> None:
    process = program.start(
        MAIN
        + f"""
try:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run({state}())
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if state == "idle":
        program.asleep(process)
    process.send_signal(signal.SIGINT)
    ended = program.wait(process)
    assert (ended.status, ended.out, ended.err) == (0, "interrupted\n", "")


def test_a_second_interrupt_ends_what_does_not_yield(program: Program) -> None:
    process = program.start(
        MAIN
        + """
try:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(computing())
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cancelling\n"
    process.send_signal(signal.SIGINT)
    ended = program.wait(process)
    assert (ended.status, ended.out, ended.err) == (0, "interrupted\n", "")


def test_interrupt_cancels_the_main_task_first(program: Program) -> None:
    process = program.start(
        MAIN
        + """
async def main():
    try:
        await idle()
    except asyncio.CancelledError:
        print("cleaned up")
        raise
try:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    program.asleep(process)
    process.send_signal(signal.SIGINT)
    assert program.wait(process).out == "cleaned up\ninterrupted\n"


def test_interrupt_ends_run_forever_of_an_idle_loop(program: Program) -> None:
    process = program.start(
        MAIN
        + """
loop = new_event_loop()
loop.call_soon(print, "ready")
loop.call_soon(sys.stdout.flush)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", loop.is_running())
    print(loop.run_until_complete(asyncio.sleep(0, "usable")))
loop.close()
"""
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    program.asleep(process)
    process.send_signal(signal.SIGINT)
    ended = program.wait(process)
    assert (ended.status, ended.out, ended.err) == (0, "interrupted False\nusable\n", "")


def test_an_own_interrupt_handler_is_left_in_place(program: Program) -> None:
    process = program.start(
        MAIN
        + """
async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
    print("ready", flush=True)
    await stopped.wait()
    print("stopped in order")
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    ended = program.wait(process)
    assert (ended.status, ended.out, ended.err) == (0, "stopped in order\n", "")


def test_terminate_ends_an_idle_program_at_once(program: Program) -> None:
    process = program.start(MAIN + "new_event_loop().run_until_complete(idle())")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert program.wait(process).status == -signal.SIGTERM
