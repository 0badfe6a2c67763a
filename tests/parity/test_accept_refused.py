"""Where a filter refuses `accept4`, connections are accepted by `accept`, as Python does it."""

from __future__ import annotations

import errno
import platform

import pytest

from .harness.program import Program

NUMBERS = {"x86_64": 288, "aarch64": 242}

# asyncio does so where the kernel does not know the call, and fails where it is forbidden.
ERRNOS = [
    errno.ENOSYS,
    pytest.param(errno.EPERM, marks=pytest.mark.only("cloverleaf")),
]

REFUSED = """
import asyncio, ctypes, os, socket, struct
load, skip_unless, answer, refuse, allow = 0x20, 0x15, 0x06, 0x00050000 | ERRNO, 0x7FFF0000
rules = [(load, 0, 0, 0), (skip_unless, 0, 1, NUMBER)]
rules += [(answer, 0, 0, refuse), (answer, 0, 0, allow)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

def state(sock):
    return os.get_blocking(sock.fileno()), os.get_inheritable(sock.fileno())

async def main():
    loop = asyncio.get_running_loop()
    asked = []
    async def answer(reader, writer):
        asked.append(state(writer.get_extra_info("socket")))
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    for _ in range(3):
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"by a server\\n")
        print(await reader.read())
        writer.close()
    server.close()
    print(asked)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    accepting = loop.create_task(loop.sock_accept(listener))
    await asyncio.sleep(0)
    client = socket.create_connection(listener.getsockname())
    accepted, peer = await accepting
    print(state(accepted), accepted.gettimeout(), peer == client.getsockname())
    for sock in accepted, client, listener:
        sock.close()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(asyncio.wait_for(main(), 60))
"""


@pytest.mark.parametrize("number", ERRNOS)
def test_connections_are_accepted_where_a_filter_refuses_accept4(
    program: Program, number: int
) -> None:
    if (call := NUMBERS.get(platform.machine())) is None:
        pytest.skip("the number of the call is not known here")
    source = REFUSED.replace("ERRNO", str(number)).replace("NUMBER", str(call))
    assert program.output(source).splitlines() == [
        *["b'by a server\\n'"] * 3,
        str([(False, False)] * 3),
        "(False, False) 0.0 True",
    ]
