"""A watchdog in programs: what switches it on, forks, and the end of the interpreter."""

from __future__ import annotations

import pytest

from .harness.program import Program

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has none


def test_run_and_the_environment_switch_it_on(program: Program) -> None:
    source = """
        import asyncio, cloverleaf, logging, threading
        logged = threading.Event()
        class Listener(logging.Handler):
            def emit(self, record):
                print(record.getMessage().split(" for ")[0])
                logged.set()
        logging.getLogger("cloverleaf").addHandler(Listener())
        async def main():
            logged.wait(60)
        cloverleaf.run(main(){})
    """
    expected = "Event loop is blocked\nEvent loop was blocked"
    assert program.output(source.format(", watchdog=0.02")) == expected
    environment = {"CLOVERLEAF_WATCHDOG": "0.02"}
    assert program.output(source.format(""), env=environment) == expected


def test_an_argument_comes_before_the_environment_and_nonsense_is_refused(
    program: Program,
) -> None:
    source = """
        import asyncio, cloverleaf, threading
        async def main():
            names = [thread.name for thread in threading.enumerate()]
            print("cloverleaf-watchdog" in names)
        cloverleaf.run(main(){})
    """
    on = {"CLOVERLEAF_WATCHDOG": "5"}
    assert program.output(source.format(""), env=on) == "True"
    assert program.output(source.format(", watchdog=0"), env=on) == "False"
    for off in ("", "0"):
        assert program.output(source.format(""), env={"CLOVERLEAF_WATCHDOG": off}) == "False"
    for nonsense in ("yes", "-1", "nan"):
        ended = program(source.format(""), env={"CLOVERLEAF_WATCHDOG": nonsense})
        assert ended.status == 1
        assert "ValueError: CLOVERLEAF_WATCHDOG must be a number of seconds" in ended.err
        assert "unclosed" not in ended.err
    ended = program(source.format(", watchdog=1, loop_factory=cloverleaf.new_event_loop"))
    assert "run() takes a loop_factory or a watchdog, not both" in ended.err


def test_a_forked_child_has_no_watchdog_and_may_go_its_way(program: Program) -> None:
    out = program.output("""
        import os, sys, threading, warnings
        warnings.simplefilter("ignore")
        import cloverleaf
        told = []
        loop = new_event_loop()
        loop.set_watchdog(0.02, told.append)
        def fork():
            child = os.fork()
            if child:
                print(os.waitpid(child, 0)[1] or "fine", flush=True)
                loop.stop()
                return
            names = [thread.name for thread in threading.enumerate()]
            assert "cloverleaf-watchdog" not in names, names
            async def main():
                while not told:
                    pass
            cloverleaf.run(main(), loop_factory=lambda: own)
            sys.exit(0)
        class Own(cloverleaf.EventLoop):
            pass
        own = None
        def in_child():
            global own
            import asyncio
            asyncio._set_running_loop(None)
            own = Own()
            own.set_watchdog(0.02, told.append)
        os.register_at_fork(after_in_child=in_child)
        loop.call_soon(fork)
        loop.run_forever()
        loop.close()
    """)
    assert out == "fine"


@pytest.mark.parametrize("how", ["return", "sys.exit(0)", "blocks"])
def test_the_interpreter_ends_while_a_loop_is_watched(program: Program, how: str) -> None:
    """A daemon's loop still runs, and may be blocked, when Python is taken down."""
    ended = program(f"""
        import sys, threading, cloverleaf, asyncio
        blocked = threading.Event()
        def report(stall):
            blocked.set()
        def daemon():
            loop = cloverleaf.new_event_loop()
            loop.set_watchdog(0.02, report)
            async def main():
                if {how!r} == "blocks":
                    threading.Event().wait()
                blocked.set()
                await asyncio.sleep(3600)
            loop.run_until_complete(main())
        threading.Thread(target=daemon, daemon=True).start()
        blocked.wait(60)
        def end():
            {how if how != "blocks" else "return"}
        end()
    """)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
