"""Objects that a program makes past the constructors of native classes, and what it may patch."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from .harness.links import linked
from .harness.program import Program
from .harness.protocols import Recorder
from .harness.types import Loop

USED = """
import contextlib, gc
import cloverleaf
from cloverleaf import _cloverleaf, _file_binary, _subprocess, _transports

def past_us(cls):
    return object.__new__(cls)

def use(made):
    gc.get_referents(made)
    gc.collect()
    with contextlib.suppress(Exception):
        repr(made)
    for name in sorted(set(dir(type(made))) - {"__class__", "__init_subclass__", "__new__"}):
        with contextlib.suppress(Exception):
            method = getattr(made, name)
            for arguments in ((), (made,), (None,), (b"x",), (1, 2), (0, print), (made,) * 4):
                with contextlib.suppress(Exception):
                    method(*arguments)

used = set()
native = {name: each for name, each in vars(_cloverleaf).items() if isinstance(each, type)}
for name, cls in native.items():
    derived = list(cls.__subclasses__())
    with contextlib.suppress(TypeError):  # nobody may derive from it
        derived.append(type("Derived", (derived[0] if derived else cls,), {}))
    for each in [cls, *derived]:
        with contextlib.suppress(TypeError):  # one of those that cannot be changed
            each.__new__ = past_us
        try:
            made = object.__new__(each)
        except TypeError:
            continue
        use(made)
        del made
        gc.collect()
        used.add(name)
print(*sorted(used))
"""


@pytest.mark.only("cloverleaf")
def test_objects_made_past_us_do_no_harm(program: Program) -> None:
    used = program.output(USED, "-W", "ignore").split()
    kinds = ["Datagram", "ReadPipe", "SSL", "Stream", "WritePipe"]
    assert used == sorted(["ShownSocketBase", *(f"{kind}TransportBase" for kind in kinds)])


@pytest.mark.only("cloverleaf")
def test_coroutines_made_past_us_do_no_harm(program: Program) -> None:
    out = program.output(
        """
        import asyncio, gc, os, socket
        import cloverleaf

        async def main():
            ours, peer = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=ours)
            async with cloverleaf.open(os.devnull, "rb") as file:
                coroutines = [reader.readline(), file.pread(1, 0)]
                for coroutine in coroutines:
                    cls = type(coroutine)
                    cls.__new__ = lambda cls: object.__new__(cls)
                    try:
                        cls()
                    except TypeError as error:
                        print(str(error).startswith("cannot create "))
                    coroutine.close()
            writer.close()
            peer.close()
            gc.collect()

        cloverleaf.run(main())
        """,
        "-W",
        "ignore",
    )
    assert set(out.split()) == {"True"}


@pytest.mark.parametrize("method", ["write", "close", "get_extra_info", "is_closing"])
async def test_a_method_of_a_transports_class_can_be_patched(loop: Loop, method: str) -> None:
    async with linked(loop, Recorder) as (ours, _):
        transport = ours.transport
        with mock.patch.object(type(transport), method, return_value=7) as patched:
            assert getattr(transport, method)(b"x") == 7
        patched.assert_called_once_with(b"x")
        assert transport.get_extra_info("nothing") is None


def test_a_method_of_the_loops_class_can_be_patched(loop: Loop) -> None:
    for method in ("call_soon", "call_later", "add_reader", "create_future", "time"):
        with mock.patch.object(type(loop), method, return_value=7):
            assert getattr(loop, method)(1) == 7
    assert isinstance(loop.create_future(), asyncio.Future)
