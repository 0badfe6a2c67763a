"""Parts of the loop that are imported at their first use: nobody can tell, but by the clock."""

from __future__ import annotations

import pytest

from .harness.program import Program

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has nothing to compare with

LATER = """
import asyncio, inspect, os, signal, socket, sys, threading
import cloverleaf
from cloverleaf import EventLoop

def later():
    return {name for name, value in vars(EventLoop).items() if type(value).__name__ == "Later"}

def have_come():
    return {name for name in sys.modules if name.startswith("cloverleaf._")}
"""


def test_a_loop_that_runs_callbacks_imports_no_more(program: Program) -> None:
    out = program.output(
        LATER
        + """
async def main():
    await asyncio.sleep(0)
before = have_come()
with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(main())
print(have_come() == before, len(before) < 12, len(later()))
"""
    )
    assert out == "True True 29"


def test_what_has_been_asked_for_works_where_our_files_are_out_of_reach(program: Program) -> None:
    out = program.output(
        LATER
        + """
async def serve(loop):
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    server.close()
    await server.wait_closed()

EventLoop.create_server
cloverleaf.__path__ = ["/dev/null"]
with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(serve(runner.get_loop()))
    try:
        runner.get_loop().create_datagram_endpoint
    except ModuleNotFoundError as error:
        print(error.name)
"""
    )
    assert out == "cloverleaf._datagram"


def test_every_public_method_is_known_before_its_part_has_come(program: Program) -> None:
    out = program.output(
        LATER
        + """
known = later()
for name in list(known):
    getattr(EventLoop, name)
from cloverleaf._later import Part
from cloverleaf import _accepted, _connect, _datagram, _pipes, _processes, _resolve
from cloverleaf import _guest, _inspect, _sendfile, _serve, _sockets, _start_tls, _unix
from cloverleaf import _watchdog, metrics
parts = [
    _accepted.Adopting, _connect.Connecting, _datagram.Datagrams, _pipes.Pipes,
    _processes.Processes, _resolve.Resolving, _sendfile.Sendfile, _serve.Listening,
    _sockets.SocketOperations, _start_tls.StartTLS, _unix.UnixSockets,
    _watchdog.Watching, metrics.Measuring, _inspect.Inspecting, _guest.Guest,
]
public = {name for part in parts for name in vars(part) if not name.startswith("_")}
print(known ^ public or "the same", later() or "none is left")
every = {name: each for part in parts for name, each in vars(part).items() if name[:2] != "__"}
print({name for name, each in every.items() if vars(EventLoop)[name] is not each} or "all there")
"""
    )
    assert out.splitlines() == ["the same none is left", "all there"]


def test_it_looks_like_a_method_of_the_class(program: Program) -> None:
    out = program.output(
        LATER
        + """
loop = EventLoop()
print(inspect.iscoroutinefunction(loop.subprocess_exec), inspect.ismethod(loop.sock_recv))
print(inspect.iscoroutinefunction(EventLoop.sendfile), EventLoop.start_tls.__name__)
print(inspect.signature(loop.sock_recv), bool(inspect.getdoc(loop.create_unix_server)))

class Own(EventLoop):
    def create_datagram_endpoint(self, *args, **keywords):
        return super().create_datagram_endpoint(*args, **keywords)

own = Own()
coroutine = own.create_datagram_endpoint(None)
print(coroutine.__qualname__)
coroutine.close()
own.close()
loop.close()
""",
    )
    assert out.splitlines() == [
        "True True",
        "True start_tls",
        "(sock: socket.socket, n: int) -> bytes True",
        "Datagrams.create_datagram_endpoint",
    ]


def test_what_a_program_has_put_there_stays(program: Program) -> None:
    out = program.output(
        LATER
        + """
from unittest import mock

def mine(self):
    return "mine"

EventLoop.create_server = mine
with mock.patch.object(EventLoop, "connect_accepted_socket", mine):
    # It derives from both.
    EventLoop.create_unix_server
    loop = EventLoop()
    print(loop.create_server(), loop.connect_accepted_socket())
print(loop.connect_accepted_socket.__func__.__qualname__)
loop.close()
"""
    )
    assert out.splitlines() == ["mine mine", "Adopting.connect_accepted_socket"]


def test_what_is_replaced_after_the_import_is_called(program: Program) -> None:
    """The part that would call it comes after that."""
    out = program.output(
        LATER
        + """
own = socket.getaddrinfo
called = []

def getaddrinfo(*args, **keywords):
    called.append("getaddrinfo")
    return own(*args, **keywords)

class Socket(socket.socket):
    def __init__(self, *args, **keywords):
        called.append("socket")
        super().__init__(*args, **keywords)

socket.getaddrinfo = getaddrinfo
socket.socket = Socket

async def main():
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("127.0.0.1", 80)
    listener = socket.create_server(("127.0.0.1", 0))
    called.append("then")
    transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
    transport.close()
    listener.close()

with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(main())
print(*called[:4])
"""
    )
    assert out == "getaddrinfo socket then socket"


def test_methods_of_sockets_replaced_after_the_import_are_seen(program: Program) -> None:
    out = program.output(
        LATER
        + """
plain = socket.socket.send
called = []

def send(self, *args):
    called.append("send")
    return plain(self, *args)

socket.socket.send = send

class Own(socket.socket):
    pass

async def main():
    ours, theirs = socket.socketpair()
    ours = Own(fileno=ours.detach())
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    transport.write(b"x")
    print(*called, theirs.recv(1))
    transport.close()
    theirs.close()

with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(main())
"""
    )
    assert out == "send b'x'"


def test_threads_may_ask_at_the_same_time(program: Program) -> None:
    out = program.output(
        LATER
        + """
names = sorted(later())
found = [[] for _ in range(8)]
together = threading.Barrier(len(found))

def ask(mine, number):
    together.wait()
    for name in names[number:] + names[:number]:
        mine.append((name, getattr(EventLoop, name)))

threads = [
    threading.Thread(target=ask, args=(mine, 3 * number)) for number, mine in enumerate(found)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len({tuple(sorted(mine, key=lambda pair: pair[0])) for mine in found}), later())
"""
    )
    assert out == "1 set()"


def test_what_a_method_calls_is_there_before_it(program: Program) -> None:
    """Another thread may call the method at once, and an interrupt may end the work half-way."""
    out = program.output(
        LATER
        + """
from cloverleaf import _later

def noted(loop, name, member):
    is_public.append(not name.startswith("_"))
    setattr(loop, name, member)

_later.setattr = noted
for name in sorted(later()):
    is_public = []
    getattr(EventLoop, name)
    if is_public != sorted(is_public):
        print(name)
print(later())
"""
    )
    assert out == "set()"


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("_serve", "lambda: EventLoop.create_server"),
        ("_threads", "import_threads"),
        ("_starting", "start_a_child"),
    ],
)
def test_a_child_forked_during_an_import_can_import(
    program: Program, module: str, use: str
) -> None:
    """Of the thread that imports, the child has nothing but its locks."""
    ended = program(
        LATER
        + f"MODULE, USE = 'cloverleaf.{module}', '{use}'"
        + """
begun, ended, forking, forked = (threading.Event() for _ in range(4))

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE and threading.current_thread() is not threading.main_thread():
            begun.set()
            forking.wait(60)
            forked.wait(0.5)  # without the lock, the fork does not wait for this

async def nothing():
    await asyncio.get_running_loop().run_in_executor(None, bool)

def import_threads():
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(nothing())

async def child():
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0

def start_a_child():
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(child())

use = eval(USE)
sys.meta_path.insert(0, Slow())
os.register_at_fork(before=forking.set, after_in_parent=forked.set)
thread = threading.Thread(target=use)
thread.start()
assert begun.wait(60)
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    use()
    os._exit(7)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
        "-W",
        "ignore",  # it forks beside another thread
    )
    assert (ended.out.strip(), ended.err) == ("7", "")
