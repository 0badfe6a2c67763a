"""``run_workers``: arguments, results, and what reaches the workers."""

from __future__ import annotations

import signal
import socket

import pytest

from .harness.program import Program
from .harness.workers import BOTH, PROCESSES, output, started, told


@BOTH
def test_results_come_in_the_order_of_the_workers(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    await asyncio.sleep(0.01 * (worker.count - worker.index))
    where = os.getpid(), threading.get_ident()
    return worker.index, worker.count, worker.cpu, where, type(asyncio.get_running_loop())
found = run(main, 3)
print([each[:3] for each in found], len({each[3] for each in found}))
print({each[0] == os.getpid() for *_, each, _ in found}, {each[4] for each in found})
loop = new_event_loop()
print(type(loop) is found[0][4])
loop.close()
""",
    )
    lines = out.splitlines()
    assert lines[0] == "[(0, 3, None), (1, 3, None), (2, 3, None)] 3"
    assert lines[1].startswith(f"{{{made_of == 'threads'}}} ")
    assert lines[2] == "True"


@BOTH
def test_there_are_as_many_workers_as_processors(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    return worker.count, worker.cpu, os.sched_getaffinity(0)
cpus = sorted(os.sched_getaffinity(0))
print([each[0] for each in run(main)] == [len(cpus)] * len(cpus))
pinned = run(main, len(cpus) + 1, pin=True)
print([each[1] for each in pinned] == cpus + cpus[:1])
print(all(each[2] == {each[1]} for each in pinned), sorted(os.sched_getaffinity(0)) == cpus)
""",
    )
    assert out == "True\nTrue\nTrue True"


@BOTH
def test_nothing_is_left(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    if fails and worker.index:
        raise ValueError
    await asyncio.sleep(0)
def left():
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    return sorted(os.listdir("/proc/self/fd")), threading.active_count(), handlers
fails = False
run(main, 3)
before = left()
for fails in (False, True, True):
    try:
        run(main, 3)
    except ExceptionGroup:
        pass
print(left() == before, before[1], before[2] == [signal.default_int_handler, signal.SIG_DFL])
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child")
""",
    )
    assert out == "True 1 True\nno child"


@pytest.mark.parametrize("made_of", ["threads"])
def test_a_child_that_a_thread_forks_writes_signals_to_no_pipe_of_its_parents(
    program: Program, made_of: str
) -> None:
    out = output(
        program,
        made_of,
        """
import warnings
warnings.simplefilter("ignore")  # Python's, of threads when a process forks

async def main(worker):
    child = os.fork()
    if child == 0:
        say(signal.set_wakeup_fd(-1))
        os._exit(0)
    return os.waitpid(child, 0)[1]
print(run(main, 1))
""",
    )
    assert out == "-1\n[0]"


@BOTH
@pytest.mark.parametrize("closed", ["both", "writer"])
def test_what_has_the_number_of_a_closed_wakeup_descriptor_is_ours(
    program: Program, made_of: str, closed: str
) -> None:
    out = output(
        program,
        made_of,
        f"closed = {closed!r}"
        """
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(1))

async def main(worker):
    os.kill(parent, signal.SIGUSR1)
    await asyncio.sleep(0.2)
    return worker.index
reader, writer = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(writer)
os.close(writer)
if closed == "both":
    os.close(reader)
parent = os.getpid()
print(run(main, 1), signal.set_wakeup_fd(-1), came)
""",
    )
    assert out == "[0] -1 [1]"


@BOTH
def test_contexts_and_debug_reach_the_workers(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
import contextvars
var = contextvars.ContextVar("var")
var.set("from outside")
async def main(worker):
    seen = var.get()
    var.set(worker.index)
    return seen, asyncio.get_running_loop().get_debug()
print(run(main, 2, debug=True), var.get(), run(main, 1, debug=False))
""",
    )
    seen = "'from outside'"
    assert out == f"[({seen}, True), ({seen}, True)] from outside [({seen}, False)]"


@pytest.mark.only("cloverleaf")
@BOTH
def test_backend_and_watchdog_reach_the_loops(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    threads = [each.name for each in threading.enumerate()]
    return asyncio.get_running_loop().backend, "cloverleaf-watchdog" in threads
print(cloverleaf.run_workers(main, 2, kind=sys.argv[1], backend="epoll", watchdog=60))
print(cloverleaf.run_workers(main, 1, kind=sys.argv[1], backend="epoll"))
""",
    )
    assert out == "[('epoll', True), ('epoll', True)]\n[('epoll', False)]"


@PROCESSES
def test_what_cannot_be_sent_is_told_of(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
class Two(Exception):
    def __init__(self, one, two):
        super().__init__(one)
async def result(worker):
    return threading.Lock()
async def error(worker):
    raise Two("the first", "and the second")
for main in (result, error):
    try:
        run(main, 1)
    except BaseException as group:
        print(shown(group)[0].partition(": ")[2].partition(") ")[2])
        print("the first" in "".join(traceback.format_exception(group)))
""",
    )
    lines = out.splitlines()
    assert lines[0].startswith("cannot send its result, of type lock: ")
    assert lines[2].startswith("cannot send its error, of type Two: ")
    assert lines[1::2] == ["False", "True"]


@BOTH
def test_results_may_be_large(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    return bytes([worker.index]) * (1 << 20)
print([(each[:1], len(set(each)), len(each) >> 20) for each in run(main, 2)])
""",
    )
    assert out == r"[(b'\x00', 1, 1), (b'\x01', 1, 1)]"


@BOTH
def test_workers_may_share_a_port(program: Program, made_of: str) -> None:
    """Every worker has a listener of its own; each that is called answers."""
    process = started(
        program,
        made_of,
        """
import socket
async def answer(reader, writer):
    writer.write(await reader.readexactly(1))
    writer.close()
async def main(worker):
    server = await asyncio.start_server(answer, *address, reuse_port=True)
    async with server:
        await for_ever(worker)
# Bound, and never listening: it keeps the port.
with socket.socket() as kept:
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept.bind(("127.0.0.1", 0))
    address = kept.getsockname()
    say("port", address[1])
    run(main, 3)
""",
    )
    port = int(told(process, 1)[0].split()[1])
    assert told(process, 3) == ["runs 0", "runs 1", "runs 2"]
    for _ in range(32):
        assert _echoed(port) == b"x"
    process.send_signal(signal.SIGTERM)
    assert program.wait(process).status == -signal.SIGTERM


def _echoed(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"x")
        return sock.recv(2)


@BOTH
def test_a_listener_made_before_is_everybodys(program: Program, made_of: str) -> None:
    """Each worker takes a duplicate, so that the first one that closes it closes its own."""
    process = started(
        program,
        made_of,
        """
import socket
async def answer(reader, writer):
    writer.write(await reader.readexactly(1))
    writer.close()
async def main(worker):
    server = await asyncio.start_server(answer, sock=listener.dup())
    async with server:
        if worker.index == 0:
            server.close()
            say("closed", 0)
        await for_ever(worker)
with socket.create_server(("127.0.0.1", 0)) as listener:
    say("port", listener.getsockname()[1])
    run(main, 2)
""",
    )
    port = int(told(process, 1)[0].split()[1])
    told(process, 3)
    assert [_echoed(port) for _ in range(8)] == [b"x"] * 8
    process.send_signal(signal.SIGTERM)
    assert program.wait(process).status == -signal.SIGTERM


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("None", "TypeError: main must be a function of a Worker, not NoneType"),
        ("m, 0", "ValueError: workers must be at least 1, not 0"),
        ("m, 1 << 70", f"ValueError: workers must be at most 4194304, not {1 << 70}"),
        ("m, True", "TypeError: workers must be a number or None, not bool"),
        ("m, 1.0", "TypeError: workers must be a number or None, not float"),
        ("m, kind='x'", 'ValueError: kind must be "auto", "threads" or "processes", not \'x\''),
        (
            "m, graceful_timeout=-1",
            "ValueError: graceful_timeout must be a number of seconds from zero on, not -1",
        ),
        (
            "m, graceful_timeout='1'",
            "TypeError: graceful_timeout must be a number of seconds or None, not str",
        ),
        (
            "m, loop_factory=new_event_loop, backend='epoll'",
            "TypeError: run_workers() takes a loop_factory or a backend, not both",
        ),
        (
            "m, loop_factory=new_event_loop, watchdog=1",
            "TypeError: run_workers() takes a loop_factory or a watchdog, not both",
        ),
    ],
)
def test_arguments_are_checked(program: Program, call: str, said: str) -> None:
    out = output(
        program,
        "auto",
        f"""
async def m(worker): pass
try:
    cloverleaf.run_workers({call})
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
""",
    )
    assert out == said


@pytest.mark.only("cloverleaf")
def test_it_is_refused_where_it_cannot_keep_its_promises(program: Program) -> None:
    out = output(
        program,
        "auto",
        """
async def main(worker):
    pass
def attempt(**options):
    try:
        cloverleaf.run_workers(main, 1, **options)
    except RuntimeError as error:
        say(error)
async def nested():
    attempt()
thread = threading.Thread(target=attempt)
thread.start()
thread.join()
cloverleaf.run(nested())
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
attempt(kind="processes")
""",
    )
    assert out.splitlines() == [
        "cloverleaf.run_workers() can be called from the main thread only",
        "cloverleaf.run_workers() cannot be called from a running event loop",
        "where SIGCHLD is ignored, nobody can tell how a process has ended",
    ]


@pytest.mark.only("cloverleaf")
def test_the_kind_is_chosen_by_whether_there_is_a_gil(program: Program) -> None:
    out = output(
        program,
        "auto",
        """
async def main(worker):
    return os.getpid()
is_enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
print((cloverleaf.run_workers(main, 1) == [os.getpid()]) == (not is_enabled))
""",
    )
    assert out == "True"
