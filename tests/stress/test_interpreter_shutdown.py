"""The interpreter shuts down while loops run in daemon threads: the process must end in order.

Before Python 3.14 a daemon thread ends within whatever call asks for the GIL then, and its stack is
unwound; native frames that cannot be unwound would take the process with them.
"""

from __future__ import annotations

import pytest

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
