"""Rings and other processes: a child after a fork, a program after exec, loops by the thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

import cloverleaf

from .harness.program import Program

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no ring

#: A loop that has used its ring, as `shown` proves, and a file on it.
PRELUDE = """
import asyncio, cloverleaf, os, sys

def shown():
    folder = f"/proc/{os.getpid()}/fd"
    seen = []
    for name in os.listdir(folder):
        try:
            seen.append(os.readlink(f"{folder}/{name}"))
        except OSError:
            pass  # the folder's own
    return seen

def used(loop, path):
    async def use():
        file = await cloverleaf.open(path, "r+b", 0)
        await file.pwrite(b"parent", 0)
        await file.fsync()
        return file
    return loop.run_until_complete(use())

loop = cloverleaf.new_event_loop(backend="io_uring")
"""


@pytest.fixture(autouse=True)
def _a_ring_is_to_be_had() -> None:
    try:
        cloverleaf.new_event_loop(backend="io_uring").close()
    except OSError as refusal:
        pytest.skip(f"no ring is to be had here: {refusal}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with some content."""
    path = tmp_path / "file"
    path.write_bytes(bytes(64 * 1024))
    return path


def test_a_ring_is_not_there_after_exec(program: Program, path: Path) -> None:
    source = f"""{PRELUDE}
file = used(loop, {str(path)!r})
assert "anon_inode:[io_uring]" in shown(), shown()
program = '''
import os
for fd in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink(f"/proc/self/fd/{{fd}}"))
    except OSError:
        pass
'''
os.execv(sys.executable, [sys.executable, "-c", program])
"""
    open_then = program.output(source).splitlines()
    assert not [each for each in open_then if each.startswith("anon_inode:")], open_then
    assert str(path) not in open_then


def test_a_child_that_leaves_its_parents_ring_has_one_of_its_own(
    program: Program, path: Path
) -> None:
    source = f"""{PRELUDE}
import warnings
warnings.simplefilter("ignore")
file = used(loop, {str(path)!r})
rings = shown().count("anon_inode:[io_uring]")

async def change(content):
    await file.pwrite(content, 6)
    await file.fsync()
    return await file.pread(11, 0)

# One that is under way belongs to the parent, who alone is told of its end.
begun = loop.create_task(file.fsync())
loop.call_soon(loop.stop)
loop.run_forever()
child = os.fork()
if child == 0:
    own = cloverleaf.new_event_loop(backend="io_uring")
    try:
        assert own.run_until_complete(change(b"child")) == b"parentchild"
        assert shown().count("anon_inode:[io_uring]") > 0
        own.run_until_complete(file.close())
        own.close()
        loop.close()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert shown().count("anon_inode:[io_uring]") == rings
loop.run_until_complete(begun)
assert loop.run_until_complete(file.pread(11, 0)) == b"parentchild"
assert loop.run_until_complete(change(b"again")) == b"parentagain"
loop.run_until_complete(file.close())
loop.close()
assert "anon_inode:[io_uring]" not in shown()
print("done")
"""
    assert program.output(source) == "done"
    assert path.read_bytes()[:11] == b"parentagain"
