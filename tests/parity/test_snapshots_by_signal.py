"""``dump_on_signal`` tells what the loop has before it whenever a signal asks."""

from __future__ import annotations

import signal

import pytest

from .harness.program import Program

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has nothing like it


PROGRAM = """
    import asyncio, cloverleaf, os, select, signal, sys, threading
    assert cloverleaf.dump_on_signal(signal.SIGUSR1) is signal.SIG_DFL
    def show():
        os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_shows_a_loop_that_sleeps_and_it_goes_on(program: Program) -> None:
    process = program.start(
        PROGRAM
        + """
    async def sleeper():
        event = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, event.set)
        print("ready", flush=True)
        await event.wait()
        print("went on", flush=True)
    cloverleaf.run(sleeper())
    """
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    program.asleep(process)
    process.send_signal(signal.SIGUSR1)
    lines = [process.stderr.readline()]
    while not lines[-1].startswith("Executor: "):
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    told = "".join(lines)
    assert told.startswith("EventLoop, debug mode off, in thread MainThread")
    process.stdin.write("x\n")
    ended = program.wait(process)
    assert (ended.status, ended.out) == (0, "went on\n")
    assert "sleeper(): waiting for Future" in told
    assert "descriptor 0, when it can be read: Event.set" in told


def test_a_signal_shows_where_a_loop_is_stuck(program: Program) -> None:
    ended = program(
        PROGRAM
        + """
    reading, writing = os.pipe()
    cloverleaf.dump_on_signal(signal.SIGUSR1, file=writing)
    def stuck():
        threading.Timer(0, show).start()
        while not select.select([reading], [], [], 0)[0]:
            pass
        sys.stderr.write(os.read(reading, 1 << 16).decode())
    async def main():
        asyncio.get_running_loop().call_later(1000, print)
        stuck()
        print("went on")
    cloverleaf.run(main())
    """
    )
    assert (ended.status, ended.out) == (0, "went on\n")
    assert "main(): running" in ended.err
    assert "in stuck" in ended.err
    assert "s: print" in ended.err


def test_a_signal_without_a_loop_says_so(program: Program) -> None:
    ended = program(
        PROGRAM
        + """
    show()
    async def main():
        show()
    asyncio.run(main())
    reading, writing = os.pipe()
    before = cloverleaf.dump_on_signal(signal.SIGUSR1, file=writing)
    assert callable(before)
    show()
    print(os.read(reading, 1000).decode(), end="")
    os.close(writing)
    show()
    """
    )
    none = "No event loop of Cloverleaf's runs in the main thread\n"
    assert (ended.status, ended.out, ended.err) == (0, none, none * 2)


def test_a_signal_is_safe_at_any_moment(program: Program) -> None:
    ended = program(
        PROGRAM
        + """
    async def handle(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()
    async def main():
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        n = 0
        while n < 1000 or not any("main(): " in each for each in told):
            writer.write(b"%d\\n" % n)
            assert await reader.readline() == b"%d\\n" % n
            n += 1
        writer.close()
        await writer.wait_closed()
        await cloverleaf.drain(server, None)
        print("all")
    reading, writing = os.pipe()
    cloverleaf.dump_on_signal(signal.SIGUSR1, file=writing)
    over = threading.Event()
    told = []
    def pester():
        while not over.wait(0.001):  # so that the program gets on, too
            show()
            # What comes while one is being written is not answered: ask again.
            while not select.select([reading], [], [], 0.01)[0]:
                show()
            told.append(os.read(reading, 1 << 16).decode())
    thread = threading.Thread(target=pester)
    thread.start()
    cloverleaf.run(main())
    over.set()
    thread.join()
    print(any("failed" in each for each in told))
    """
    )
    assert (ended.status, ended.out, ended.err) == (0, "all\nFalse\n", "")
