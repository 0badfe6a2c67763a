"""Which interfaces of the kernel a loop uses: chosen, refused, and told."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

import cloverleaf

from .harness.program import Program

pytestmark = pytest.mark.only("cloverleaf")  # asyncio chooses by the loop's class

REFUSE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "tools")!r})
from refuse_io_uring import refuse_io_uring
refuse_io_uring()
import cloverleaf
"""
RING_OR_REFUSAL = ("epoll+io_uring", "epoll (io_uring refused: ")


@pytest.fixture(autouse=True)
def _no_choice_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOVERLEAF_BACKEND", raising=False)


def backend_of(loop: cloverleaf.EventLoop) -> str:
    """Close a loop, and return what it used."""
    try:
        return loop.backend
    finally:
        loop.close()


def test_epoll_alone_is_epoll_alone() -> None:
    assert backend_of(cloverleaf.EventLoop(backend="epoll")) == "epoll"
    assert backend_of(cloverleaf.new_event_loop(backend="epoll")) == "epoll"


def test_auto_takes_a_ring_if_there_is_one() -> None:
    assert backend_of(cloverleaf.EventLoop()).startswith(RING_OR_REFUSAL)
    assert backend_of(cloverleaf.EventLoop(backend="auto")).startswith(RING_OR_REFUSAL)


def test_a_demanded_ring_is_there_or_there_is_no_loop() -> None:
    if backend_of(cloverleaf.EventLoop()) == "epoll+io_uring":
        assert backend_of(cloverleaf.EventLoop(backend="io_uring")) == "epoll+io_uring"
    else:
        with pytest.raises(OSError, match=r"io_uring refused: "):
            cloverleaf.EventLoop(backend="io_uring")


def test_a_closed_loop_still_tells_what_it_used() -> None:
    loop = cloverleaf.EventLoop(backend="epoll")
    loop.close()
    assert loop.backend == "epoll"
    loop = cloverleaf.EventLoop()
    used = backend_of(loop)
    assert loop.backend == used


def test_what_names_no_backend_is_refused() -> None:
    for name in ["", "uring", "EPOLL", "io_uring "]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            cloverleaf.new_event_loop(backend=name)  # type: ignore[arg-type]
        assert str(caught.value) == f"backend must be 'auto', 'epoll' or 'io_uring', not '{name}'"


def test_a_string_that_no_encoding_has_names_no_backend() -> None:
    with pytest.raises(ValueError, match=r"^backend must be 'auto', 'epoll' or 'io_uring', not"):
        cloverleaf.new_event_loop(backend="\udcff")  # type: ignore[arg-type]


def test_what_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^backend must be a string or None, not int$"):
        cloverleaf.new_event_loop(backend=1)  # type: ignore[arg-type]


def test_the_environment_chooses_for_who_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOVERLEAF_BACKEND", "epoll")
    assert backend_of(cloverleaf.EventLoop()) == "epoll"
    assert backend_of(cloverleaf.EventLoop(backend="auto")).startswith(RING_OR_REFUSAL)
    monkeypatch.setenv("CLOVERLEAF_BACKEND", "")
    assert backend_of(cloverleaf.EventLoop()).startswith(RING_OR_REFUSAL)


def test_a_bad_choice_of_the_environment_is_told(program: Program) -> None:
    ended = program(
        "import cloverleaf; cloverleaf.new_event_loop()", env={"CLOVERLEAF_BACKEND": "kqueue"}
    )
    said = "ValueError: CLOVERLEAF_BACKEND must be 'auto', 'epoll' or 'io_uring', not 'kqueue'"
    assert (ended.status, ended.err.splitlines()[-1]) == (1, said)


def test_run_takes_a_backend_or_a_loop_factory(program: Program) -> None:
    out = program.output("""
        import asyncio, cloverleaf
        async def main():
            return asyncio.get_running_loop().backend
        print(cloverleaf.run(main(), backend="epoll"))
        coroutine = main()
        try:
            cloverleaf.run(coroutine, loop_factory=cloverleaf.EventLoop, backend="epoll")
        except TypeError as error:
            print(error)
        coroutine.close()
    """)
    assert out == "epoll\nrun() takes a loop_factory or a backend, not both"


def test_a_refusal_falls_back_and_is_told(program: Program) -> None:
    out = program.output(
        REFUSE
        + """
loop = cloverleaf.new_event_loop()
print(loop.backend, loop.run_until_complete(__import__("asyncio").sleep(0, "runs")))
loop.close()
print(loop.backend)
try:
    cloverleaf.new_event_loop(backend="io_uring")
except PermissionError as error:
    print(error)
""",
        "-W",
        "error",
    )
    assert out.splitlines() == [
        "epoll (io_uring refused: EPERM) runs",
        "epoll (io_uring refused: EPERM)",
        "[Errno 1] io_uring refused: Operation not permitted",
    ]


def test_another_thread_may_ask_what_is_known(program: Program) -> None:
    out = program.output("""
        import asyncio, cloverleaf
        async def main():
            loop = asyncio.get_running_loop()
            here = loop.backend
            there = await asyncio.to_thread(lambda: loop.backend)
            print(here == there)
        cloverleaf.run(main())
    """)
    assert out == "True"


def test_a_loop_that_could_not_be_made_ends_with_the_interpreter(program: Program) -> None:
    """Its finalizer is the first to call the native half, when the interpreter is about to go."""
    ended = program("""
        import cloverleaf
        class Own(cloverleaf.EventLoop):
            def __init__(self):
                raise LookupError("on purpose")
        Own()
    """)
    assert (ended.status, ended.err.splitlines()[-1]) == (1, "LookupError: on purpose")


def test_a_refusal_that_comes_later_loses_no_operation(program: Program, tmp_path: Path) -> None:
    """As when a program has the kernel filter its calls once it has started."""
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * 1000))
    out = program.output(f"""
        import asyncio, cloverleaf, sys
        from cloverleaf._file_flight import perform
        sys.path.insert(0, {str(Path(__file__).parents[2] / "tools")!r})
        from refuse_io_uring import refuse_io_uring

        async def main():
            loop = asyncio.get_running_loop()
            if loop.backend != "epoll+io_uring":
                return print("no ring")
            async with cloverleaf.open({str(path)!r}, "r+b", 0) as file:
                def write(number):
                    return perform(file._writing(b"%04d" % number, 0, 4 * number))
                await write(0)
                # The kernel has the first of these already, and the others it never gets.
                begun = [write(number) for number in range(1, 300)]
                refuse_io_uring()
                begun += [write(number) for number in range(300, 1000)]
                assert await asyncio.gather(*begun) == [4] * 999
                await file.fsync()
                assert await file.pread(8, 4) == b"00010002"
            print(loop.backend, await asyncio.to_thread(lambda: loop.backend) == loop.backend)

        cloverleaf.run(main(), backend="auto")
    """)
    assert out in ["epoll (io_uring refused: EPERM) True", "no ring"]
    if out != "no ring":
        assert path.read_bytes() == b"".join(b"%04d" % number for number in range(1000))


def test_messages_are_answered_after_a_later_refusal(program: Program) -> None:
    out = program.output(f"""
        import asyncio, cloverleaf, socket, sys
        sys.path.insert(0, {str(Path(__file__).parents[2] / "tools")!r})
        from refuse_io_uring import refuse_io_uring

        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
            def data_received(self, data):
                self.transport.write(data)

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            peers = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(8)]
            for peer in peers:
                peer.setblocking(False)
            async def ask(question):
                for peer in peers:
                    peer.send(question)
                return [await loop.sock_recv(peer, 100) for peer in peers]
            for _ in range(5):
                assert await ask(b"before") == [b"before"] * 8
            refuse_io_uring()
            for _ in range(5):
                assert await ask(b"after") == [b"after"] * 8
            for peer in peers:
                peer.close()
            server.close()
            print("done")

        try:
            loop = cloverleaf.new_event_loop(backend="io_uring")
        except OSError:
            print("done")
        else:
            loop.run_until_complete(main())
            loop.close()
    """)
    assert out == "done"


#: The numbers of calls that filters may not know, on different machines.
NUMBERS = {
    "statx": {"x86_64": 332, "aarch64": 291},
    "preadv2": {"x86_64": 327, "aarch64": 286},
    "pwritev2": {"x86_64": 328, "aarch64": 287},
    "openat2": {"x86_64": 437, "aarch64": 437},
}


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("name", NUMBERS)
def test_files_work_where_a_filter_refuses_a_call(
    program: Program, tmp_path: Path, name: str, is_late: bool
) -> None:
    """As containers of old runtimes have it, which know nothing of the call."""
    if (number := NUMBERS[name].get(platform.machine())) is None:
        pytest.skip("the number of the call is not known here")
    out = program.output(f"""
        import cloverleaf, ctypes, os, struct
        load, skip_unless, answer, refuse, allow = 0x20, 0x15, 0x06, 0x00050001, 0x7FFF0000
        rules = [(load, 0, 0, 0), (skip_unless, 0, 1, {number})]
        rules += [(answer, 0, 0, refuse), (answer, 0, 0, allow)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
        program = struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code))

        async def main(path):
            if {is_late}:
                await (await cloverleaf.open(path, "wb")).close()
            libc = ctypes.CDLL(None)
            assert libc.prctl(38, 1, 0, 0, 0) == libc.prctl(22, 2, program) == 0
            async with cloverleaf.open(path, "w+b") as file:
                await file.write(bytes(2_000_000))
                await file.seek(0)
                print(len(await file.read()), len(await file.pread(3_000_000, 0)))
            async with cloverleaf.open(path + "2", "w") as file:
                await file.write("one\\ntwo\\n")
            async with cloverleaf.open(path + "2") as file:
                print([line async for line in file])
            print(len(await cloverleaf.files.read_bytes(path)), await cloverleaf.files.exists(path))

        cloverleaf.run(main({str(tmp_path / "file")!r}))
    """)
    assert out.splitlines() == [
        "2000000 2000000",
        r"['one\n', 'two\n']",
        "2000000 True",
    ]
