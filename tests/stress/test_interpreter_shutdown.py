"""The interpreter shuts down while loops run in daemon threads: the process must end in order.

Before Python 3.14 a daemon thread ends within whatever call asks for the GIL then, and its stack is
unwound; native frames that cannot be unwound would take the process with them. Nor may anybody wait
for what such a thread was at: a lock that it had is never given back.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from parity.harness.certificates import as_environment
from parity.harness.kinds import spares_asyncio
from parity.harness.program import Program

# Finalizing lets go of the GIL for a while, so that every daemon thread asks for it.
_PRELUDE = """
import asyncio, sys, threading, time

class SlowToGo:
    def __del__(self, sleep=time.sleep):
        sleep(0.1)

sys.slow_to_go = SlowToGo()
began = threading.Barrier(3)

def run(body):
    for _ in range(2):
        threading.Thread(target=body, daemon=True).start()
    began.wait()

def busy():
    for _ in range(20_000):
        pass
"""

_BODIES = {
    "callbacks": """
def body():
    loop = new_event_loop()
    def again():
        busy()
        loop.call_soon(again)
    loop.call_soon(began.wait)
    again()
    loop.run_forever()
""",
    "tasks": """
async def main():
    asyncio.get_running_loop().call_soon(began.wait)
    while True:
        busy()
        await asyncio.sleep(0)

def body():
    loop = new_event_loop()
    loop.run_until_complete(main())
""",
    "timers": """
def body():
    loop = new_event_loop()
    def again():
        loop.call_later(0.0003, again)
    loop.call_soon(began.wait)
    again()
    loop.run_forever()
""",
    "protocols": """
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        busy()
        self.transport.write(data)

async def main():
    import socket
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    await loop.create_connection(Echo, sock=ours)
    transport, _ = await loop.create_connection(Echo, sock=theirs)
    transport.write(b"ball")
    loop.call_soon(began.wait)
    await loop.create_future()

def body():
    new_event_loop().run_until_complete(main())
""",
}


@pytest.mark.parametrize("what", _BODIES)
def test_endings_a_loop_in_a_daemon_thread_lets_the_process_exit(
    program: Program, what: str
) -> None:
    source = _PRELUDE + _BODIES[what] + '\nrun(body)\nprint("ran")\n'
    assert program.output(source) == "ran"


# What a daemon thread has begun is not done when the interpreter's last act uses the same object.
_AT_THE_END = """
import asyncio, os, socket, ssl, sys, threading

reached = threading.Event()

def stay():
    reached.set()
    threading.Event().wait()

class Last:
    def __init__(self, used):
        self.used = used
    def __del__(self, write=os.write):
        write(1, b"began ")
        try:
            self.used.USE
        finally:
            write(1, b"ended")
"""

_START = """
threading.Thread(target=body, daemon=True).start()
reached.wait()
"""

_IN_OPENSSL = """
armed = []

def on_message(*_):
    if armed:
        armed.clear()
        stay()

async def main(loop):
    servers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    servers.load_cert_chain(os.environ["SERVER_PEM"])
    clients = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    clients.load_verify_locations(os.environ["AUTHORITY_PEM"])
    clients._msg_callback = on_message
    ours, theirs = socket.socketpair()
    _, (transport, _) = await asyncio.gather(
        loop.connect_accepted_socket(asyncio.Protocol, ours, ssl=servers),
        loop.create_connection(
            asyncio.Protocol, sock=theirs, ssl=clients, server_hostname="localhost"
        ),
    )
    sys.last = Last(transport)
    armed.append(True)
    transport.write(b"mine")

def body():
    loop = new_event_loop()
    loop.run_until_complete(main(loop))
"""


@pytest.mark.only("cloverleaf")  # asyncio lets both threads into OpenSSL
@pytest.mark.parametrize("use", ["close()", "write(b'bye')"])
def test_endings_a_finalizer_does_not_wait_for_a_thread_that_is_in_openssl(
    program: Program, tmp_path: Path, use: str
) -> None:
    source = _AT_THE_END.replace("USE", use) + _IN_OPENSSL + _START
    ended = program(source, env=as_environment(tmp_path))
    assert (ended.status, ended.out) == (0, "began ended"), ended.err
    assert "panicked" not in ended.err


_IN_A_CALLBACK = """
def body():
    loop = new_event_loop()
    sys.last = Last(loop.call_soon_threadsafe(stay))
    loop.run_forever()
"""


@spares_asyncio(sys.version_info >= (3, 14))  # since then, who cancels waits for the callback
def test_endings_a_finalizer_does_not_wait_for_a_callback_that_it_cancels(program: Program) -> None:
    source = _AT_THE_END.replace("USE", "cancel()") + _IN_A_CALLBACK + _START
    assert program.output(source) == "began ended"
