"""``KeyboardInterrupt`` and ``SystemExit`` end the run at once, and cost the loop nothing."""

from __future__ import annotations

import asyncio
import signal

import pytest

from .harness.complaints import Complaints
from .harness.program import Program
from .harness.turns import turn
from .harness.types import Context, Loop, NewLoop

both = pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])


def raiser(interrupt: type[BaseException]) -> None:
    raise interrupt


@both
@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later"])
def test_an_interrupt_in_a_callback_ends_the_run(
    loop: Loop, interrupt: type[BaseException], method: str
) -> None:
    when = (0,) if method == "call_later" else ()
    getattr(loop, method)(*when, raiser, interrupt)
    with pytest.raises(interrupt):
        loop.run_forever()
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"


@both
def test_an_interrupt_loses_no_callback_of_its_turn(
    loop: Loop, interrupt: type[BaseException]
) -> None:
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(raiser, interrupt)
    loop.call_soon(seen.append, 2)
    loop.call_soon(seen.append, 3)
    with pytest.raises(interrupt):
        loop.run_forever()
    assert seen == [1]
    turn(loop)
    assert seen == [1, 2, 3]


@both
def test_an_interrupt_in_a_task_ends_the_run(loop: Loop, interrupt: type[BaseException]) -> None:
    async def task() -> None:
        await asyncio.sleep(0)
        raise interrupt

    with pytest.raises(interrupt):
        loop.run_until_complete(task())
    turn(loop)
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


@both
def test_an_interrupt_in_one_task_leaves_the_others_to_go_on(
    loop: Loop, interrupt: type[BaseException]
) -> None:
    async def task() -> None:
        raise interrupt

    seen: list[int] = []

    async def other(n: int) -> None:
        await asyncio.sleep(0)
        seen.append(n)

    others = [loop.create_task(other(n)) for n in range(3)]
    failed = loop.create_task(task())
    others += [loop.create_task(other(n)) for n in range(3, 6)]
    with pytest.raises(interrupt):
        loop.run_forever()
    loop.run_until_complete(asyncio.wait(others))
    assert seen == list(range(6))
    assert isinstance(failed.exception(), interrupt)


@both
def test_an_interrupt_is_not_reported(
    loop: Loop, interrupt: type[BaseException], logged: Complaints
) -> None:
    loop.call_soon(raiser, interrupt)
    with pytest.raises(interrupt):
        loop.run_forever()
    assert logged.take() == []


@both
def test_a_stop_before_an_interrupt_does_not_end_the_next_run_early(
    loop: Loop, interrupt: type[BaseException]
) -> None:
    loop.call_soon(loop.stop)
    loop.call_soon(raiser, interrupt)
    with pytest.raises(interrupt):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"


def test_a_signal_handler_that_raises_in_a_callback_is_that_callbacks_exception(
    loop: Loop, contexts: list[Context]
) -> None:
    class RaisedError(Exception):
        pass

    def on_signal(*_args: object) -> None:
        raise RaisedError

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        assert [type(each["exception"]) for each in contexts] == [RaisedError]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("status", [0, 3])
def test_sys_exit_in_a_task_ends_the_program(program: Program, status: int) -> None:
    ended = program(f"""
        import asyncio, sys
        async def main():
            await asyncio.sleep(0.001)
            sys.exit({status})
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """)
    assert ended.status == status


def test_an_interrupt_signal_cancels_a_runners_main_task(new_loop: NewLoop) -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert seen == ["cancelled"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_run_raises_keyboard_interrupt_from_the_main_task(new_loop: NewLoop) -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
