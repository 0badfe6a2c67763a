"""Threads that use what is not theirs: the interpreter survives, and so does the loop.

asyncio's contract is that nothing but ``call_soon_threadsafe`` is for other threads. What they get
for calling the rest is an exception, or nothing; never a crash. Each program runs in an
interpreter of its own, which may crash alone.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from parity.harness.certificates import as_environment
from parity.harness.program import Program

pytestmark = pytest.mark.only("cloverleaf")  # asyncio promises nothing, and some crash it

# Each thread makes calls chosen at random, so many or for a second; what they raise is theirs.
_PRELUDE = """
import asyncio, faulthandler, gc, random, socket, threading, time, weakref
faulthandler.enable()
CALLS = 80
box = []

def poke(calls, name):
    chance = random.Random(name)
    end = time.monotonic() + 1
    for _ in range(CALLS):
        if time.monotonic() > end:
            break
        try:
            target = chance.choice(box)
            chance.choice(calls)(target)
        except Exception:
            pass

def beside(calls, work, threads=3):
    \"\"\"Run a coroutine while threads make calls; it goes on until they are done.\"\"\"
    loop = new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    started = [threading.Thread(target=poke, args=(calls, n)) for n in range(threads)]

    def busy():
        return any(thread.is_alive() for thread in started)

    async def main():
        await work()
        for thread in started:
            thread.start()
        while busy():
            try:
                await work()
            except Exception:  # a thread has closed it, or broken it
                pass

    loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert loop.is_closed()
    box.clear()
    gc.collect()
    print("survived")
"""

_BODIES = {
    "transports": """
class Protocol(asyncio.Protocol):
    pass

async def work():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ends = [(await loop.create_connection(Protocol, sock=s))[0] for s in (ours, theirs)]
    box[:] = box[-20:] + ends
    for _ in range(10):
        for end in ends:
            end.write(bytes(random.choice([1, 1000, 50_000])))
        await asyncio.sleep(0)
    for end in ends:
        end.close()

buffer = bytearray(3000)
beside([
    lambda t: t.write(b"hello"), lambda t: t.write(bytes(200_000)), lambda t: t.write(buffer),
    lambda t: t.writelines([b"a", b"b"]), lambda t: t.pause_reading(), lambda t: t.resume_reading(),
    lambda t: t.close(), lambda t: t.abort(), lambda t: t.get_write_buffer_size(),
    lambda t: t.get_extra_info("socket"), lambda t: repr(t), lambda t: t.write_eof(),
    lambda t: t.set_write_buffer_limits(10), lambda t: t.set_protocol(Protocol()),
    lambda t: weakref.ref(t)(), lambda t: setattr(t, "x", 1), lambda t: gc.collect(0),
], work)
""",
    "readers": """
async def read(reader):
    while await asyncio.wait_for(random.choice([
        reader.readline, lambda: reader.read(10), lambda: reader.readexactly(3),
    ])(), 1):
        pass

async def work():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    _, other = await asyncio.open_connection(sock=theirs)
    box[:] = box[-10:] + [reader]
    reading = asyncio.ensure_future(read(reader))
    for _ in range(10):
        other.write(b"abc\\n" * random.choice([1, 10, 100]))
        await asyncio.sleep(0)
    other.close()
    await asyncio.wait([reading])
    reading.exception()
    writer.close()

def drive(coroutine):
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    finally:
        coroutine.close()

def elsewhere(coroutine):
    async def main():
        await asyncio.wait_for(coroutine, 0.001)
    loop = new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()

beside([
    lambda r: drive(r.readline()), lambda r: drive(r.read(5)), lambda r: drive(r.readexactly(2)),
    lambda r: drive(r.readuntil(b"\\n")), lambda r: elsewhere(r.readline()),
    lambda r: r.feed_data(b"xyz\\n"), lambda r: r._waiter, lambda r: r.at_eof(), lambda r: repr(r),
    lambda r: r.set_exception(ValueError("mine")), lambda r: r.exception(), lambda r: r.feed_eof(),
    lambda r: r.__dict__, lambda r: r._wakeup_waiter(), lambda r: setattr(r, "_limit", 100),
    lambda r: setattr(r, "__class__", asyncio.StreamReader), lambda r: gc.collect(0),
], work)
""",
    "handles": """
async def work():
    loop = asyncio.get_running_loop()
    made = [loop.call_later(random.random() / 1000, int, 1) for _ in range(50)]
    made += [loop.call_soon(int) for _ in range(20)]
    made += [loop.call_soon_threadsafe(lambda *_: None, 1, 2, 3, 4) for _ in range(20)]
    box[:] = made
    await asyncio.sleep(0)

beside([
    lambda h: h.cancel(), lambda h: h.cancelled(), lambda h: repr(h), lambda h: h._run(),
    lambda h: (h._callback, h._args), lambda h: h.get_context(), lambda h: weakref.ref(h)(),
    lambda h: h._loop.call_later(0.0001, int), lambda h: h._loop.call_soon(int),
    lambda h: h._loop.call_soon_threadsafe(int).cancel(), lambda h: gc.collect(0),
], work)
""",
    "coroutines": """
async def work():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    box[:] = [reader.readline(), reader.read(10), writer.drain()] * 3
    await asyncio.sleep(0.002)
    for coroutine in box[:3]:
        try:
            coroutine.close()
        except ValueError:  # a thread is in it
            pass
    theirs.close()
    writer.close()

def look(found):
    repr(found), found.done(), found.add_done_callback(print), found.remove_done_callback(print)

beside([
    lambda c: look(c.send(None)), lambda c: c.throw(ValueError()), lambda c: c.close(),
    lambda c: repr(c), lambda c: c.cr_await, lambda c: c.cr_running, lambda c: gc.collect(0),
], work)
""",
    "loops": """
async def work():
    box[:] = [asyncio.get_running_loop()]
    await asyncio.sleep(0.001)

a, b = socket.socketpair()
a.setblocking(False)
beside([
    lambda l: l.call_soon(int), lambda l: l.call_at(0, int), lambda l: l.add_writer(a, int),
    lambda l: l.add_reader(a, int), lambda l: l.remove_reader(a),
    lambda l: l.call_later(1, int).cancel(),
    lambda l: l.remove_writer(a), lambda l: l.close(), lambda l: l.run_forever(), lambda l: repr(l),
    lambda l: l.create_future(), lambda l: l.set_debug(random.random() < 0.5), lambda l: l.backend,
    lambda l: l.set_task_factory(None), lambda l: l._current_handle(), lambda l: gc.collect(0),
    lambda l: asyncio.run_coroutine_threadsafe(asyncio.sleep(0), l).result(60),
], work)
a.close()
b.close()
""",
}


@pytest.mark.parametrize("what", _BODIES)
def test_calls_from_threads_that_may_not_make_them_harm_nobody(program: Program, what: str) -> None:
    ended = program(_PRELUDE + _BODIES[what], "-W", "ignore")
    assert (ended.status, ended.out) == (0, "survived\n"), ended.err


# Without turns, the memory of OpenSSL's objects is corrupted, with the GIL as well as without.
_TLS = """
import asyncio, faulthandler, os, socket, ssl, threading, time
faulthandler.enable()

class Sink(asyncio.Protocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()
    def connection_lost(self, error):
        self.lost.set_result(None)

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    servers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    servers.load_cert_chain(os.environ["SERVER_PEM"])
    clients = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    clients.load_verify_locations(os.environ["AUTHORITY_PEM"])
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        ours, theirs = socket.socketpair()
        (here, ends), (there, begins) = await asyncio.gather(
            loop.connect_accepted_socket(Sink, ours, ssl=servers),
            loop.create_connection(Sink, sock=theirs, ssl=clients, server_hostname="localhost"),
        )
        def write():
            for _ in range(60):
                there.write(bytes(40_000))
        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            here.write(b"y")
            there.write(b"x")
            await asyncio.sleep(0)
        here.abort()
        there.abort()
        await asyncio.gather(ends.lost, begins.lost)

loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
print("survived")
"""

# Connections, each with what is called once when a thread makes a record of it.
_PAIRS = """
import asyncio, os, socket, ssl, sys, threading
class Sink(asyncio.Protocol):
    got = b""
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.got += data

class Client(Sink):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()
    def connection_lost(self, reason):
        self.lost.set_result(reason)

armed = {}

def on_message(*_):
    hook = armed.pop(threading.get_ident(), None)
    if hook is not None:
        hook()

async def pair(loop, servers, clients):
    ours, theirs = socket.socketpair()
    (_, sink), (transport, _) = await asyncio.gather(
        loop.connect_accepted_socket(Sink, ours, ssl=servers),
        loop.create_connection(Client, sock=theirs, ssl=clients, server_hostname="localhost"),
    )
    return transport, sink

async def two_pairs(loop):
    servers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    servers.load_cert_chain(os.environ["SERVER_PEM"])
    clients = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    clients.load_verify_locations(os.environ["AUTHORITY_PEM"])
    clients._msg_callback = on_message
    return [await pair(loop, servers, clients) for _ in range(2)]
"""

# Each of two threads is in OpenSSL for one connection when it wants the other's.
_CROSSED = (
    _PAIRS
    + """
said, both = [], threading.Barrier(2)

async def main():
    (first, here), (second, there) = await two_pairs(loop)
    def write(mine, other):
        def cross():
            both.wait(60)
            try:
                other.write(b"crossed")
            except RuntimeError as error:
                said.append(str(error))
        armed[threading.get_ident()] = cross
        mine.write(b"mine")
    threads = [
        threading.Thread(target=write, args=ends, daemon=True)
        for ends in ((first, second), (second, first))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await loop.run_in_executor(None, thread.join, 60)
        assert not thread.is_alive(), "each waits for the other"
    first.write(b".")
    second.write(b".")
    while not (here.got.endswith(b".") and there.got.endswith(b".")):
        await asyncio.sleep(0)
    print(sorted([len(here.got), len(there.got)]), said)

loop = new_event_loop()
loop.run_until_complete(asyncio.wait_for(main(), 60))
os._exit(0)
"""
)


def test_threads_that_cross_in_callbacks_of_openssl_do_not_wait_for_ever(
    program: Program, tmp_path: Path
) -> None:
    ended = program(_CROSSED, "-W", "ignore", env=as_environment(tmp_path))
    refused = "another thread uses this TLS connection, and waits for the one whose callback runs"
    assert ended.out == f"[5, 12] {[refused + ' here']}\n", ended.err


# Two threads cross when a part of what one of them writes has gone. A third one sends the rest,
# and the connection is closed meanwhile.
_CROSSED_LATE = (
    _PAIRS
    + """
PARTS = bytes(128 * 1024) + bytes(range(250)) * 2000

async def main():
    (first, here), (second, there) = await two_pairs(loop)
    inner, hooks = second._get_inner(), []
    inner.set_write_buffer_limits(high=1 << 24)
    write_inner = inner.write
    def hooked(data):
        write_inner(data)
        if hooks:
            hooks.pop()()
    inner.write = hooked

    for transport, sink in ((first, here), (second, there)):
        sink.transport.write(b"greeting")  # behind the tickets of its session
        while transport.get_protocol().got != b"greeting":
            await asyncio.sleep(0)

    reached = threading.Event()
    def read_second():
        reached.set()
        first.write(b"crossed")
    def begin_to_cross():
        armed[loops] = read_second
        loop.call_soon_threadsafe(there.transport.write, b"is read")
        assert reached.wait(60)
    hooks.append(begin_to_cross)
    def write_parts():
        armed[threading.get_ident()] = lambda: second.write(PARTS)
        first.write(b"mine")
    loops = threading.get_ident()
    sys.setswitchinterval(100)  # the loop's thread has come to wait when the other goes on
    await loop.run_in_executor(None, write_parts)
    sys.setswitchinterval(0.005)

    def write_meanwhile():
        meanwhile = threading.Thread(target=second.write, args=(b"behind",), daemon=True)
        meanwhile.start()
        meanwhile.join(60)
        assert not meanwhile.is_alive()
    hooks.append(write_meanwhile)
    second.write(PARTS)

    held, released = threading.Event(), threading.Event()
    def hold():
        held.set()
        assert released.wait(60)
    hooks.append(hold)
    sending = threading.Thread(target=second.write, args=(b"tail",), daemon=True)
    sending.start()
    assert held.wait(60)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    client = second.get_protocol()
    second.close()
    released.set()
    reason = await client.lost
    sending.join(60)
    first.write(b".")
    while not here.got.endswith(b"."):
        await asyncio.sleep(0)
    assert there.got == PARTS * 2 + b"behindtail", len(there.got)
    print(reason, here.got, client.got)

loop = new_event_loop()
loop.run_until_complete(asyncio.wait_for(main(), 60))
os._exit(0)
"""
)


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="when they cross is chance there"
)
def test_threads_that_cross_in_the_midst_of_a_write_lose_nothing(
    program: Program, tmp_path: Path
) -> None:
    ended = program(_CROSSED_LATE, "-W", "ignore", env=as_environment(tmp_path))
    assert ended.out == "None b'minecrossed.' b'greetingis read'\n", ended.err


def test_a_tls_transport_that_threads_write_to_at_once_harms_nobody(
    program: Program, tmp_path: Path
) -> None:
    ended = program(_TLS, "-W", "ignore", env=as_environment(tmp_path))
    assert (ended.status, ended.out) == (0, "survived\n"), ended.err


# A thread asks how much waits, and sets marks, while the loop's has not sent what it has made.
_ASKED = """
import asyncio, os, socket, ssl, threading
senders = set()

class Noting(socket.socket):
    def send(self, *args):
        senders.add(threading.get_ident())
        return super().send(*args)

class Answering(asyncio.Protocol):
    waits = None
    def connection_made(self, transport):
        self.transport = transport
    def ask(self):
        self.waits = self.transport.get_write_buffer_size()
        self.transport.set_write_buffer_limits(high=1 << 20)
        self.waits += self.transport.get_write_buffer_size()
    def data_received(self, data):
        senders.clear()
        for word in (b"one", b"two", b"three"):
            self.transport.write(word)
            asking = threading.Thread(target=self.ask, daemon=True)
            asking.start()
            asking.join(60)

class Client(asyncio.Protocol):
    def __init__(self):
        self.got, self.all = b"", asyncio.get_running_loop().create_future()
    def data_received(self, data):
        self.got += data
        if len(self.got) >= 11:
            self.all.set_result(None)

async def main():
    loop = asyncio.get_running_loop()
    servers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    servers.load_cert_chain(os.environ["SERVER_PEM"])
    clients = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    clients.load_verify_locations(os.environ["AUTHORITY_PEM"])
    ours, theirs = socket.socketpair()
    (here, ends), (there, client) = await asyncio.gather(
        loop.connect_accepted_socket(Answering, Noting(fileno=ours.detach()), ssl=servers),
        loop.create_connection(Client, sock=theirs, ssl=clients, server_hostname="localhost"),
    )
    there.write(b"?")
    await asyncio.wait_for(client.all, 60)
    print(client.got, ends.waits, senders == {threading.get_ident()})
    here.abort()
    there.abort()
    await asyncio.sleep(0)

loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


def test_a_thread_that_asks_how_much_waits_sends_nothing(program: Program, tmp_path: Path) -> None:
    ended = program(_ASKED, "-W", "ignore", env=as_environment(tmp_path))
    assert ended.out == "b'onetwothree' 0 True\n", ended.err
