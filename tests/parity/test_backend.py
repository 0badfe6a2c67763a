"""Which interfaces of the kernel a loop uses: chosen, refused, and told."""

from __future__ import annotations

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
