"""Children where the kernel refuses ``pidfd_open``: a thread waits for each, and reaps none."""

from __future__ import annotations

import platform

import pytest

from .harness.program import Program

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="a filter per machine")

# A filter that lets every call pass but pidfd_open (434), which fails with EPERM, as in some
# containers.
REFUSE = """
import asyncio, ctypes, os, signal, struct, sys
from asyncio.subprocess import PIPE
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 434), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, a filter
try:
    os.pidfd_open(os.getpid())
except PermissionError:
    pass
else:
    raise SystemExit("pidfd_open was not refused")

def run(main):
    loop = new_event_loop()
    if hasattr(asyncio, "ThreadedChildWatcher"):
        asyncio.set_child_watcher(asyncio.ThreadedChildWatcher())
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
"""


def test_exit_codes_and_output_are_the_same(program: Program) -> None:
    out = program.output(
        REFUSE
        + """
async def one(number):
    child = await asyncio.create_subprocess_shell(f"cat; exit {number}", stdin=PIPE, stdout=PIPE)
    said, _ = await child.communicate(b"%d" % number)
    return said.decode(), child.returncode

async def main():
    print(*await asyncio.gather(*map(one, range(12))))
    child = await asyncio.create_subprocess_shell("kill -9 $$")
    print(await child.wait())

run(main())
""",
        "-W",
        "ignore::DeprecationWarning",
    )
    assert out.splitlines()[0] == " ".join(str((str(number), number)) for number in range(12))
    assert out.splitlines()[1] == "-9"


def test_waiting_children_keep_nobody_from_a_thread(program: Program) -> None:
    out = program.output(
        REFUSE
        + """
async def main():
    children = [await asyncio.create_subprocess_exec("cat", stdin=PIPE) for _ in range(20)]
    loop = asyncio.get_running_loop()
    print(len(await loop.getaddrinfo("localhost", 80, type=1, flags=0)) > 0)
    for child in children:
        child.kill()
    print({await child.wait() for child in children})

run(main())
""",
        "-W",
        "ignore::DeprecationWarning",
    )
    assert out == "True\n{-9}"


@pytest.mark.only("cloverleaf")  # asyncio's thread outlives its loop, and complains
def test_a_loop_may_close_while_a_thread_waits(program: Program) -> None:
    out = program.output(
        REFUSE
        + """
async def main():
    global transport
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        asyncio.SubprocessProtocol, "sleep", "100", stdin=None, stdout=None, stderr=None)
    return transport.get_extra_info("subprocess")

popen = run(main())
del transport
import gc
gc.collect()
print(popen.wait())
""",
        "-W",
        "ignore",
    )
    assert out == "-9"
