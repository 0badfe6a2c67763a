"""What ``cloverleaf`` offers beside the loop: ``run``, ``install`` and the policy."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import sysconfig

import pytest

import cloverleaf

from .harness.program import Program
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has nothing to compare with


def test_run_runs_on_our_loop(program: Program) -> None:
    out = program.output("""
        import asyncio, cloverleaf
        async def main():
            loop = asyncio.get_running_loop()
            return isinstance(loop, cloverleaf.EventLoop), loop.get_debug()
        print(cloverleaf.run(main()), cloverleaf.run(main(), debug=True))
    """)
    assert out == "(True, False) (True, True)"


def test_run_refuses_to_nest(program: Program) -> None:
    out = program.output("""
        import asyncio, cloverleaf
        async def main():
            coroutine = asyncio.sleep(0)
            try:
                cloverleaf.run(coroutine)
            except RuntimeError as error:
                print(error)
            coroutine.close()
        cloverleaf.run(main())
    """)
    assert out == "cloverleaf.run() cannot be called from a running event loop"


def test_run_takes_a_loop_factory(program: Program) -> None:
    out = program.output("""
        import asyncio, cloverleaf
        class Own(cloverleaf.EventLoop):
            pass
        async def main():
            print(type(asyncio.get_running_loop()).__name__)
        cloverleaf.run(main(), loop_factory=Own)
    """)
    assert out == "Own"


def test_a_loop_has_a_dictionary_only_if_it_is_given_an_attribute(loop: Loop) -> None:
    """With one, Python calls the loop's methods more slowly."""
    own = getattr(loop, "_signal_handlers")  # noqa: B009 - not of asyncio's abstract class

    def dictionaries() -> list[object]:
        return [held for held in gc.get_referents(loop) if type(held) is dict and held is not own]

    async def main() -> None:
        loop.set_exception_handler(None)
        loop.slow_callback_duration = 0.2
        loop.call_later(0, int)
        await loop.run_in_executor(None, int)
        reader, writer = await asyncio.open_connection(*(await serve()))
        await reader.read()
        writer.close()

    async def serve() -> tuple[str, int]:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        return host, port

    loop.run_until_complete(main())
    assert dictionaries() == []
    loop.attribute = 1  # type: ignore[attr-defined]
    assert vars(loop) == {"attribute": 1}


if sys.version_info < (3, 16):  # policies are to go in 3.16

    def test_install_makes_asyncio_use_our_loops(program: Program) -> None:
        out = program.output(
            """
            import asyncio, cloverleaf
            cloverleaf.install()
            async def main():
                print(isinstance(asyncio.get_running_loop(), cloverleaf.EventLoop))
            asyncio.run(main())
            loop = asyncio.new_event_loop()
            print(isinstance(loop, cloverleaf.EventLoop))
            loop.close()
            """,
            "-W",
            "error",
        )
        assert out == "True\nTrue"

    def test_the_policy_makes_our_loops(program: Program) -> None:
        out = program.output("""
            import asyncio, cloverleaf, warnings
            warnings.simplefilter("ignore")
            asyncio.set_event_loop_policy(cloverleaf.EventLoopPolicy())
            async def main():
                print(type(asyncio.get_running_loop()) is cloverleaf.EventLoop)
            asyncio.run(main())
        """)
        assert out == "True"


def test_a_program_of_ours_is_warned_of_nothing(program: Program) -> None:
    """Policies and all that hangs on them are deprecated from Python 3.14 on."""
    ended = program(
        """
        import asyncio, cloverleaf, signal, sys

        async def serve(reader, writer):
            writer.write(await reader.read())
            writer.close()
            await writer.wait_closed()

        async def main():
            loop = asyncio.get_running_loop()
            loop.slow_callback_duration = 60
            loop.add_signal_handler(signal.SIGUSR1, print)
            loop.remove_signal_handler(signal.SIGUSR1)
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, ("127.0.0.1", 0))
            transport.close()
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "", stdout=-1)
            await process.communicate()
            await asyncio.to_thread(print, "in a thread")
            await loop.getaddrinfo("localhost", 80)

        cloverleaf.run(main(), debug=True)
        if sys.version_info >= (3, 12):
            asyncio.run(main(), loop_factory=cloverleaf.new_event_loop)
        with asyncio.Runner(loop_factory=cloverleaf.new_event_loop) as runner:
            runner.run(main())
        loop = cloverleaf.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        """,
        "-W",
        "error",
        "-X",
        "dev",
    )
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "in a thread\n" * (4 if sys.version_info >= (3, 12) else 3)


def test_a_second_interpreter_is_refused() -> None:
    pytest.importorskip("_testcapi")
    source = """
import _testcapi, sys
source = '''
import asyncio
try:
    import cloverleaf
except ImportError as error:
    print(error, flush=True)
else:
    print(cloverleaf.run(asyncio.sleep(0, "it ran")), flush=True)
'''
steps = [lambda: exec(source), lambda: _testcapi.run_in_subinterp(source)]
if sys.argv[1] == "other":
    steps.reverse()
for step in [*steps, *steps]:
    step()
"""
    ran = "it ran"
    refusal = "cloverleaf is in use by another interpreter of this process"
    expected = {"main": [ran, refusal, ran, refusal], "other": [ran, refusal, refusal, refusal]}
    if sys.version_info < (3, 12):
        refusal = "cloverleaf can be imported only by the main interpreter before Python 3.12"
        expected = {"main": [ran, refusal, ran, refusal], "other": [refusal, ran, refusal, ran]}
    for first, lines in expected.items():
        printed = subprocess.run(
            [sys.executable, "-c", source, first], capture_output=True, text=True, check=True
        ).stdout
        assert printed.splitlines() == lines


def test_every_public_name_is_there_and_no_other() -> None:
    for name in cloverleaf.__all__:
        if name != "EventLoopPolicy" or sys.version_info < (3, 16):
            assert getattr(cloverleaf, name) is not None
    with pytest.raises(AttributeError, match="module 'cloverleaf' has no attribute 'no_such'"):
        cloverleaf.no_such  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'no_such'"):
        exec("from cloverleaf import no_such", {})


def test_importing_changes_nothing(program: Program) -> None:
    out = program.output("""
        import asyncio, sys, threading, os
        before = asyncio.new_event_loop, asyncio.open_connection, threading.active_count()
        fds = len(os.listdir("/proc/self/fd"))
        import cloverleaf
        assert before == (asyncio.new_event_loop, asyncio.open_connection, threading.active_count())
        print(len(os.listdir("/proc/self/fd")) - fds)
        loop = asyncio.new_event_loop()
        print(type(loop) is asyncio.SelectorEventLoop)
        loop.close()
    """)
    assert out == "0\nTrue"


def test_no_method_of_an_event_loop_is_missing(loop: Loop) -> None:
    names = [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_")]
    missing = [
        name
        for name in names
        if getattr(type(loop), name) is getattr(asyncio.AbstractEventLoop, name)
    ]
    assert missing == []


@pytest.mark.only("cloverleaf")
@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="allowed where there is a GIL"
)
def test_without_the_gil_no_loop_runs_within_itself(loop: Loop) -> None:
    with pytest.raises(RuntimeError, match="built without the GIL"):
        cloverleaf.allow_nested(loop)
