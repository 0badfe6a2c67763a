"""``run_until_complete``, ``run_forever`` and ``stop``: how a loop begins and ends to run."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Generator
from typing import Any

import pytest

from .harness.complaints import Complaints
from .harness.program import Program
from .harness.turns import turn
from .harness.types import Loop, NewLoop


async def answer() -> int:
    return 42


def test_run_until_complete_returns_the_result(loop: Loop) -> None:
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_takes_a_future_a_task_and_any_awaitable(loop: Loop) -> None:
    class Awaitable:
        def __await__(self) -> Generator[None, None, int]:
            yield
            return 3

    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1
    assert loop.run_until_complete(loop.create_task(answer())) == 42
    assert loop.run_until_complete(Awaitable()) == 3


def test_run_until_complete_raises_what_the_coroutine_raises(loop: Loop) -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        loop.run_until_complete(failing())
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_raises_cancelled_error(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(future.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(future)


def test_run_until_complete_of_a_done_future_returns(loop: Loop) -> None:
    future: asyncio.Future[str] = loop.create_future()
    future.set_result("done")
    assert loop.run_until_complete(future) == "done"


def test_stop_before_completion_is_an_error(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(future)
    loop.call_soon(future.set_result, None)
    loop.run_until_complete(future)


def test_run_until_complete_refuses_what_is_not_awaitable(loop: Loop) -> None:
    with pytest.raises(
        TypeError, match=r"asyncio\.Future, a coroutine or an awaitable is required"
    ):
        loop.run_until_complete(42)  # type: ignore[arg-type]


def test_run_until_complete_refuses_another_loops_future(loop: Loop, new_loop: NewLoop) -> None:
    future = new_loop().create_future()
    with pytest.raises(ValueError, match="The future belongs to a different loop"):
        loop.run_until_complete(future)


def test_run_until_complete_runs_only_until_complete(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_later(3600, seen.append, 1)
    loop.run_until_complete(answer())
    assert seen == []


def test_run_forever_runs_until_stop(loop: Loop) -> None:
    loop.call_later(0.001, loop.stop)
    assert loop.run_forever() is None  # type: ignore[func-returns-value, unused-ignore]


def test_stop_before_run_lets_one_turn_run(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(seen.append, "ready")
    loop.call_later(3600, seen.append, "far")
    loop.stop()
    loop.run_forever()
    assert seen == ["ready"]


def test_stop_twice_is_stop_once(loop: Loop) -> None:
    loop.stop()
    loop.stop()
    loop.run_forever()
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.call_soon, seen.append, 2)
    loop.call_soon(loop.call_soon, loop.call_soon, loop.stop)
    loop.run_forever()
    assert seen == [1, 2]


def test_what_a_stopped_loop_did_not_run_waits_for_the_next_run(loop: Loop) -> None:
    seen: list[str] = []

    def last() -> None:
        loop.stop()
        loop.call_soon(seen.append, "waited")

    loop.call_soon(last)
    loop.run_forever()
    assert seen == []
    turn(loop)
    assert seen == ["waited"]


def test_stop_on_a_loop_with_nothing_to_do_returns_at_once(loop: Loop) -> None:
    def taken() -> float:
        before = loop.time()
        for _ in range(100):
            loop.stop()
            loop.run_forever()
        return loop.time() - before

    # Once is enough: the machine may stand still for that long.
    assert any(taken() < 1 for _ in range(10))


def test_is_running_is_true_only_inside(loop: Loop) -> None:
    seen: list[bool] = []
    assert not loop.is_running()
    loop.call_soon(lambda: seen.append(loop.is_running()))
    turn(loop)
    assert seen == [True]
    assert not loop.is_running()


def test_the_running_loop_is_set_only_inside(loop: Loop) -> None:
    seen: list[Loop] = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    turn(loop)
    assert seen == [loop]
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


RUNNING = r"^This event loop is already running$"
ANOTHER = r"^Cannot run the event loop while another loop is running$"

# asyncio 3.13.0 forgets what runs when it refuses a nested run_forever; later releases do not.
forgetful = pytest.mark.only("cloverleaf") if sys.version_info[:2] == (3, 13) else ()


def nested_run_until_complete(loop: Loop) -> None:
    coroutine = answer()
    try:
        loop.run_until_complete(coroutine)
    finally:
        coroutine.close()


def nested_run_forever(loop: Loop) -> None:
    loop.run_forever()


nested_runs = pytest.mark.parametrize(
    "nested", [nested_run_until_complete, pytest.param(nested_run_forever, marks=forgetful)]
)


@nested_runs
def test_a_running_loop_cannot_be_run_again(loop: Loop, nested: Callable[[Loop], None]) -> None:
    async def outer() -> None:
        with pytest.raises(RuntimeError, match=RUNNING):
            nested(loop)
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    loop.run_until_complete(outer())


@nested_runs
def test_a_loop_cannot_run_inside_another(
    loop: Loop, new_loop: NewLoop, nested: Callable[[Loop], None]
) -> None:
    other = new_loop()

    async def outer() -> None:
        with pytest.raises(RuntimeError, match=ANOTHER):
            nested(other)
        assert not other.is_running()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    loop.run_until_complete(outer())
    assert other.run_until_complete(answer()) == 42


def test_a_failed_coroutine_leaves_no_error_in_the_log(loop: Loop, logged: Complaints) -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(failing())
    assert logged.take() == []


def test_loops_of_one_thread_may_run_in_turn(new_loop: NewLoop) -> None:
    loops = [new_loop() for _ in range(4)]
    for _ in range(3):
        assert [loop.run_until_complete(answer()) for loop in loops] == [42] * 4


def test_a_runner_runs_on_the_loop(new_loop: NewLoop) -> None:
    made: list[Loop] = []

    def factory() -> Loop:
        made.append(new_loop())
        return made[-1]

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(answer()) == 42
        assert runner.get_loop() is made[0]
    assert made[0].is_closed()


def test_a_loop_is_an_abstract_event_loop(loop: Loop) -> None:
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_repr_shows_the_state(loop: Loop) -> None:
    assert "running=False closed=False debug=False" in repr(loop)
    loop.set_debug(True)
    assert "debug=True" in repr(loop)


def test_a_loop_takes_attributes(loop: Loop) -> None:
    loop.own = 1  # type: ignore[attr-defined]
    assert loop.own == 1  # type: ignore[attr-defined]


def test_call_later_is_call_at_of_the_subclass(loop: Loop) -> None:
    called: list[tuple[float, Any, Any]] = []

    class Noting(type(loop)):  # type: ignore[misc]
        def time(self) -> float:
            now: float = super().time()
            return now + 1000

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            called.append((when, args, context))
            return super().call_at(when, callback, *args, context=context)

    noting = Noting()
    context = contextvars.copy_context()
    first = noting.call_later(5, repr, 1, 2)
    second = noting.call_later(7, repr, context=context)
    assert called == [(first.when(), (1, 2), None), (second.when(), (), context)]
    assert 4 < first.when() - noting.time() <= 5
    noting.close()


def test_a_subclass_in_python_may_override_and_extend(loop: Loop) -> None:
    class Counting(type(loop)):  # type: ignore[misc]
        calls = 0

        def call_soon(self, *args: object, **kwargs: object) -> asyncio.Handle:
            self.calls += 1
            handle: asyncio.Handle = super().call_soon(*args, **kwargs)
            return handle

    counting = Counting()
    try:
        counting.call_soon(counting.stop)
        counting.run_forever()
        assert counting.run_until_complete(answer()) == 42
        assert counting.calls >= 1
        assert isinstance(counting, type(loop))
    finally:
        counting.close()


def test_a_loop_with_a_thousand_quiet_connections_sleeps_through(program: Program) -> None:
    """No thread of the process wakes up until the timer that ends the rest."""
    out = program.output("""
        import asyncio, resource, socket
        CONNECTIONS, REST = 1000, 0.5
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
        async def connect():
            for _ in range(CONNECTIONS):
                ours, peer = socket.socketpair()
                ours.setblocking(False)
                transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
                held.append((transport, peer))
        # The kernel may have reasons of its own to wake it, but not each time.
        # Each rest is a loop's first.
        for _ in range(20):
            loop, held = new_event_loop(), []
            loop.run_until_complete(connect())
            loop.call_later(REST, loop.stop)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
            loop.run_forever()
            wakeups = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
            for transport, peer in held:
                transport.abort()
                peer.close()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            if 1 <= wakeups <= 2:
                break
        print(wakeups)
    """)
    # asyncio rounds its sleep to milliseconds, so it may wake up a moment early and sleep again.
    assert 1 <= int(out) <= 2
