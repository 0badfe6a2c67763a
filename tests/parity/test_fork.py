"""``fork``: the child cannot run its parent's loop, can make its own, and harms nobody."""

from __future__ import annotations

import pytest

from .harness.program import Program

FORK = """
import asyncio, gc, os, socket, sys

def in_child(work):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, str(said).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return said
"""


def test_a_child_may_make_and_run_a_loop_of_its_own(program: Program) -> None:
    out = program.output(
        FORK
        + """
def work():
    own = new_event_loop()
    try:
        return own.run_until_complete(asyncio.sleep(0.001, "own loop"))
    finally:
        own.close()
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
print(in_child(work))
print(loop.run_until_complete(asyncio.sleep(0.001, "parent goes on")))
loop.close()
"""
    )
    assert out == "own loop\nparent goes on"


@pytest.mark.only("cloverleaf")  # on asyncio the child shares the parent's epoll, and disturbs it
@pytest.mark.parametrize(
    "call",
    [
        "run_forever()",
        "run_until_complete(asyncio.sleep(0))",
        "add_reader(os.eventfd(0), print)",
        "add_writer(os.eventfd(0), print)",
        "sock_recv(ours, 1).send(None)",
    ],
)
def test_a_child_is_refused_its_parents_loop(program: Program, call: str) -> None:
    out = program.output(
        FORK
        + f"""
loop = new_event_loop()
ours, theirs = socket.socketpair()
ours.setblocking(False)
loop.run_until_complete(asyncio.sleep(0))
print(in_child(lambda: loop.{call}))
print(loop.run_until_complete(asyncio.sleep(0.001, "parent goes on")))
loop.close()
"""
    )
    refused, parent = out.splitlines()
    assert refused.startswith("RuntimeError: ")
    assert "fork" in refused
    assert parent == "parent goes on"


TRANSPORT = """
loop = new_event_loop()
ours, theirs = socket.socketpair()
transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
loop.run_until_complete(asyncio.sleep(0))
"""


@pytest.mark.parametrize("waits", [0, 4 << 20])
@pytest.mark.parametrize("call", ["pause_reading", "close", "abort"])
def test_a_child_may_end_what_its_parents_transport_hears(
    program: Program, call: str, waits: int
) -> None:
    out = program.output(
        FORK
        + TRANSPORT
        + f"""
transport.write(bytes({waits}))
print(in_child(lambda: transport.{call}()), flush=True)
os._exit(0)  # on asyncio the child has disturbed the parent's epoll
"""
    )
    assert out == "None"


@pytest.mark.only("cloverleaf")  # on asyncio the child shares the parent's epoll, and disturbs it
@pytest.mark.parametrize("call", ["resume_reading()", "write(bytes(4 << 20))"])
def test_a_child_is_told_that_its_parents_transport_hears_nothing(
    program: Program, call: str
) -> None:
    out = program.output(
        FORK
        + TRANSPORT
        + f"""
def work():
    transport.pause_reading()
    transport.{call}
print(in_child(work))
theirs.setblocking(False)
try:
    while theirs.recv(1 << 20):
        pass
except BlockingIOError:
    pass
theirs.close()
while not transport.is_closing():
    loop.run_until_complete(asyncio.sleep(0.001))
print("parent hears the end")
loop.run_until_complete(asyncio.sleep(0))
loop.close()
"""
    )
    refused, parent = out.splitlines()
    assert refused.startswith("RuntimeError: ")
    assert "forked" in refused
    assert parent == "parent hears the end"


def test_a_child_that_closes_or_drops_the_loop_leaves_the_parents_watchers(
    program: Program,
) -> None:
    out = program.output(
        FORK
        + """
loop = new_event_loop()
ours, theirs = socket.socketpair()
loop.add_reader(ours, loop.stop)
def work():
    global loop
    loop = None
    gc.collect()
    return "dropped"
print(in_child(work))
theirs.send(b"x")
loop.run_forever()
print("parent was told")
loop.remove_reader(ours)
loop.close()
""",
        "-W",
        "ignore",
    )
    assert out == "dropped\nparent was told"


def test_fork_inside_a_callback_lets_the_parent_go_on(program: Program) -> None:
    out = program.output(
        FORK
        + """
async def main():
    print(in_child(lambda: os.getpid() != parent), flush=True)
    await asyncio.sleep(0.001)
    reader = asyncio.get_running_loop().run_in_executor(None, int)
    print(await reader)
parent = os.getpid()
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
""",
        "-W",
        "ignore",
    )
    assert out == "True\n0"


def test_a_child_sees_no_running_loop(program: Program) -> None:
    out = program.output(
        FORK
        + """
async def main():
    print(in_child(lambda: asyncio._get_running_loop()), flush=True)
    print(asyncio.get_running_loop() is not None)
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
""",
        "-W",
        "ignore",
    )
    assert out == "None\nTrue"


def test_multiprocessing_by_fork_works_in_a_running_loop(program: Program) -> None:
    out = program.output(
        """
import asyncio, concurrent.futures, multiprocessing
def square(n):
    return n * n
async def main():
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        print(await asyncio.gather(*(loop.run_in_executor(pool, square, n) for n in range(4))))
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
""",
        "-W",
        "ignore",
    )
    assert out == "[0, 1, 4, 9]"


def test_a_child_that_was_forked_while_a_thread_woke_the_loop_lets_go_of_it(
    program: Program,
) -> None:
    out = program.output(
        FORK
        + """
import signal, threading
loop = new_event_loop()
runs = threading.Thread(target=loop.run_forever)
runs.start()
ends = threading.Event()
def call():
    while not ends.is_set():
        come = threading.Event()
        loop.call_soon_threadsafe(come.set)
        come.wait()
calls = threading.Thread(target=call)
calls.start()
def work():
    signal.alarm(60)  # a child that waits for a lock ends by this
    try:
        loop.call_soon_threadsafe(print)
        loop.close()
    except RuntimeError:
        pass  # asyncio's loop runs on, it seems to the child
    return "let go"
said = {in_child(work) for _ in range(40)}
ends.set()
calls.join()
loop.call_soon_threadsafe(loop.stop)
runs.join()
loop.close()
print(*said)
""",
        "-W",
        "ignore",
    )
    assert out == "let go"


@pytest.mark.only("cloverleaf")
def test_a_fork_during_another_threads_first_child_harms_nobody(program: Program) -> None:
    """With asyncio it may: a lock that the thread has, amid its first child, stays locked."""
    out = program.output(
        FORK
        + """
import signal, threading
importing, forking = threading.Event(), threading.Event()
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "cloverleaf._starting":
            importing.set()
            assert forking.wait(60)
def start():
    loop = new_event_loop()
    try:
        return loop.run_until_complete(ended(loop))
    finally:
        loop.close()
async def ended(loop):
    gone = loop.create_future()
    class Protocol(asyncio.SubprocessProtocol):
        def process_exited(self):
            gone.set_result(None)
    none = dict.fromkeys(("stdin", "stdout", "stderr"))
    transport, _ = await loop.subprocess_exec(Protocol, "true", **none)
    await gone
    code = transport.get_returncode()
    transport.close()
    return code
def work():
    signal.alarm(60)
    return start()
if sys.version_info < (3, 12):
    asyncio.set_child_watcher(asyncio.ThreadedChildWatcher())
sys.meta_path.insert(0, Slow())
first = threading.Thread(target=start)
first.start()
os.register_at_fork(before=forking.set)
assert importing.wait(60)
print(in_child(work))
first.join()
""",
        "-W",
        "ignore",
    )
    assert out == "0"


@pytest.mark.only("cloverleaf")
def test_a_child_does_not_wait_for_what_a_thread_was_making(program: Program) -> None:
    """What the loop needs of asyncio is looked up when it is first used."""
    out = program.output(
        """
        import builtins, os, signal, threading

        begun, forked = threading.Event(), threading.Event()
        original = builtins.__import__

        def slowly(*args, **kwargs):
            if threading.current_thread() is thread:
                begun.set()
                forked.wait(60)
            return original(*args, **kwargs)

        thread = threading.Thread(target=new_event_loop().create_future)
        builtins.__import__ = slowly
        thread.start()
        assert begun.wait(60)
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            new_event_loop().create_future()
            os._exit(7)
        forked.set()
        thread.join()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        "-W",
        "ignore",  # it forks beside another thread
    )
    assert out == "7"
