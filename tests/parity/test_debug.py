"""Debug mode: slow callbacks by name, misuse from other threads, and where things were made."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import threading
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from .harness.complaints import Complaints
from .harness.program import Program
from .harness.turns import turn, turns_until
from .harness.types import Context, Loop


def slow(seconds: float) -> None:
    """Keep the thread busy for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def told(logged: Complaints, begins: str, names: str = "") -> str:
    """Return the one message of this kind; what else took long by bad luck may be told of, too."""
    found = [each for each in logged.take() if each.startswith(begins) and names in each]
    (message,) = found
    return message


def test_debug_mode_is_off_and_can_be_set(loop: Loop) -> None:
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_slow_callback_duration_is_a_tenth_of_a_second(loop: Loop) -> None:
    assert loop.slow_callback_duration == 0.1


def test_a_slow_callback_is_logged_by_name(loop: Loop, logged: Complaints) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_soon(slow, 0.012)
    turn(loop)
    message = told(logged, "Executing <Handle slow(")
    assert re.fullmatch(r"Executing <Handle slow\(.* took \d+\.\d{3} seconds", message)
    assert "test_debug.py" in message


@pytest.mark.parametrize(
    ("duration", "is_slow"),
    [
        pytest.param(10**400, False, id="huge"),
        pytest.param(-(10**400), True, id="hugely negative"),
        (float("nan"), False),
        (True, False),
        (Decimal("0.01"), True),
        (Fraction(1, 100), True),
    ],
)
def test_a_slow_callbacks_duration_may_be_any_number(
    loop: Loop, logged: Complaints, duration: Any, is_slow: bool
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = duration
    loop.call_soon(slow, 0.012)
    turn(loop)
    assert any("Executing <Handle slow(" in each for each in logged.take()) == is_slow


class WithFloat:
    """Not a number, though one can be made of it."""

    def __float__(self) -> float:
        return 0.5


@pytest.mark.parametrize("duration", ["x", None, [], WithFloat()])
def test_what_no_duration_compares_with_ends_the_run(loop: Loop, duration: Any) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = duration
    loop.call_soon(print)
    with pytest.raises(TypeError, match="not supported between instances of 'float' and"):
        turn(loop)
    loop.slow_callback_duration = 3600


def test_a_slow_timer_is_logged(loop: Loop, logged: Complaints) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_later(0, slow, 0.012)
    turn(loop)
    told(logged, "Executing <TimerHandle when=", "slow(")


def test_a_slow_task_is_logged_by_the_coroutines_name(loop: Loop, logged: Complaints) -> None:
    async def crunching() -> None:
        slow(0.012)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.run_until_complete(crunching())
    told(logged, "Executing <Task ", "crunching")


def test_a_slow_watcher_is_logged(loop: Loop, logged: Complaints) -> None:
    reading, writing = os.pipe()
    seen: list[int] = []

    def slow_watcher() -> None:
        loop.remove_writer(writing)
        slow(0.012)
        seen.append(1)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.add_writer(writing, slow_watcher)
    turns_until(loop, lambda: seen)
    told(logged, "Executing <Handle ", "slow_watcher")
    os.close(reading)
    os.close(writing)


def test_a_slow_protocol_is_logged(loop: Loop, logged: Complaints) -> None:
    class Slow(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            slow(0.012)

        def connection_lost(self, exc: BaseException | None) -> None:
            loop.stop()

    async def connect(ours: socket.socket) -> None:
        await loop.create_connection(Slow, sock=ours)

    ours, peer = socket.socketpair()
    loop.set_debug(True)
    loop.run_until_complete(connect(ours))
    logged.take()
    loop.slow_callback_duration = 0.01
    peer.sendall(b"x")
    peer.close()
    loop.run_forever()
    # The end of file is told of as well, if that took long by bad luck.
    first = next(each for each in logged.take() if each.startswith("Executing "))
    assert re.search(r"Transport.* took \d+\.\d{3} seconds$", first)


@pytest.mark.parametrize("socket_type", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_protocol_that_is_slow_to_take_its_leave_is_logged(
    loop: Loop, logged: Complaints, socket_type: socket.SocketKind
) -> None:
    class Slow(asyncio.Protocol, asyncio.DatagramProtocol):
        def connection_lost(self, exc: BaseException | None) -> None:
            slow(0.012)
            loop.stop()

    async def connect(ours: socket.socket) -> asyncio.BaseTransport:
        if socket_type is socket.SOCK_STREAM:
            transport, _ = await loop.create_connection(Slow, sock=ours)
            return transport
        endpoint, _ = await loop.create_datagram_endpoint(Slow, sock=ours)
        return endpoint

    ours, peer = socket.socketpair(type=socket_type)
    loop.set_debug(True)
    with peer:
        transport = loop.run_until_complete(connect(ours))
        logged.take()
        loop.slow_callback_duration = 0.01
        transport.close()
        loop.run_forever()
    # asyncio names its callback, and we the transport; other things may be slow by bad luck.
    named = r"^Executing .*(Transport closed |_call_connection_lost).* took \d+\.\d{3} seconds$"
    (_message,) = (each for each in logged.take() if re.search(named, each))


def test_a_slow_protocol_factory_is_logged(loop: Loop, logged: Complaints) -> None:
    made: list[asyncio.Protocol] = []

    def slow_factory() -> asyncio.Protocol:
        slow(0.012)
        made.append(asyncio.Protocol())
        return made[-1]

    loop.set_debug(True)
    server = loop.run_until_complete(loop.create_server(slow_factory, "127.0.0.1", 0))
    logged.take()
    loop.slow_callback_duration = 0.01
    with socket.create_connection(server.sockets[0].getsockname()):
        turns_until(loop, lambda: made)
        turn(loop)
    server.close()
    turns_until(loop, lambda: not server.is_serving())
    # asyncio names the task that accepts, and we the listener.
    assert any(re.search(r"ccept.* took |istener.* took ", each) for each in logged.take())


def test_a_slow_callback_that_cancels_its_handle_is_still_named(
    loop: Loop, logged: Complaints
) -> None:
    handles: list[asyncio.Handle] = []

    def cancelling() -> None:
        handles[0].cancel()
        slow(0.012)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    handles.append(loop.call_soon(cancelling))
    turn(loop)
    told(logged, "Executing <Handle ", "cancelling")


def test_quick_callbacks_are_not_logged(loop: Loop, logged: Complaints) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 3600
    loop.call_soon(slow, 0.001)
    turn(loop)
    assert logged.take() == []


def test_without_debug_mode_nothing_is_logged(loop: Loop, logged: Complaints) -> None:
    loop.slow_callback_duration = 0.001
    loop.call_soon(slow, 0.002)
    turn(loop)
    assert logged.take() == []


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_a_call_from_the_wrong_thread_is_refused(loop: Loop, method: str) -> None:
    loop.set_debug(True)
    when: tuple[float, ...] = () if method == "call_soon" else (0,)

    async def misuse() -> None:
        text = r"^Non-thread-safe operation invoked on an event loop other than the current one$"
        with pytest.raises(RuntimeError, match=text):
            await asyncio.to_thread(lambda: getattr(loop, method)(*when, print))

    loop.run_until_complete(misuse())


def test_call_soon_threadsafe_from_another_thread_is_right(loop: Loop) -> None:
    loop.set_debug(True)
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
    thread.start()
    loop.run_forever()
    thread.join()


async def coroutine_function() -> None:
    """Be something that must not be passed to ``call_soon``."""


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_coroutines_are_refused_as_callbacks(loop: Loop, method: str) -> None:
    loop.set_debug(True)
    when = (0,) if method in {"call_later", "call_at"} else ()
    named = "call_at" if method == "call_later" else method  # call_later goes by way of call_at
    text = rf"^coroutines cannot be used with {named}\(\)$"
    coroutine = coroutine_function()
    for wrong in (coroutine_function, coroutine):
        with pytest.raises(TypeError, match=text):
            getattr(loop, method)(*when, wrong)
    coroutine.close()


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_what_cannot_be_called_is_refused(loop: Loop, method: str) -> None:
    loop.set_debug(True)
    when = (0,) if method in {"call_later", "call_at"} else ()
    with pytest.raises(TypeError, match=r"a callable object was expected by call_.*\(\), got 42"):
        getattr(loop, method)(*when, 42)


def line_of_this_file(text: str) -> int:
    """Return the line of this file that the text names as the place of creation."""
    found = re.search(r"created at .*test_debug\.py:(\d+)", text)
    assert found is not None, text
    return int(found[1])


def test_repr_of_a_handle_says_where_it_was_made(loop: Loop) -> None:
    loop.set_debug(True)
    handles = [
        loop.call_soon(print),
        loop.call_soon_threadsafe(print),
        loop.call_later(1, print),
        loop.call_at(1, print),
    ]
    lines = [line_of_this_file(repr(handle)) for handle in handles]
    source = Path(__file__).read_text().splitlines()
    methods = [source[line - 1].strip().split("(")[0] for line in lines]
    assert methods == [
        "loop.call_soon",
        "loop.call_soon_threadsafe",
        "loop.call_later",
        "loop.call_at",
    ]


def test_the_exception_handler_is_told_where_a_handle_was_made(
    loop: Loop, contexts: list[Context]
) -> None:
    loop.set_debug(True)
    loop.call_soon(divmod, 1, 0)
    turn(loop)
    trace = contexts[0]["source_traceback"]
    assert trace[-1].name == "test_the_exception_handler_is_told_where_a_handle_was_made"
    assert trace[-1].filename == __file__


def test_the_logged_exception_says_where_a_handle_was_made(loop: Loop, logged: Complaints) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 3600
    loop.call_soon(divmod, 1, 0)
    turn(loop)
    (message,) = logged.take()
    assert "Object created at (most recent call last):" in message
    assert "loop.call_soon(divmod, 1, 0)" in message


def test_a_cancelled_handle_keeps_its_name_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    handle = loop.call_soon(slow, 1)
    handle.cancel()
    assert "slow" in repr(handle)


def test_coroutines_remember_their_origin_while_a_debug_loop_runs(loop: Loop) -> None:
    before = sys.get_coroutine_origin_tracking_depth()
    loop.set_debug(True)
    seen: list[int] = []
    loop.call_soon(lambda: seen.append(sys.get_coroutine_origin_tracking_depth()))
    turn(loop)
    assert seen[0] > before
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_debug_mode_can_be_switched_while_the_loop_runs(loop: Loop) -> None:
    seen: list[int] = []

    async def switching() -> None:
        depth = sys.get_coroutine_origin_tracking_depth
        for wanted in (True, False):
            loop.set_debug(wanted)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append(depth())

    loop.run_until_complete(switching())
    assert seen[0] > 0
    assert seen[1] == 0


@pytest.mark.parametrize(
    ("options", "env", "expected"),
    [
        ([], {}, "False"),
        ([], {"PYTHONASYNCIODEBUG": "1"}, "True"),
        ([], {"PYTHONASYNCIODEBUG": ""}, "False"),
        (["-X", "dev"], {}, "True"),
        (["-E"], {"PYTHONASYNCIODEBUG": "1"}, "False"),
    ],
)
def test_debug_mode_follows_the_environment(
    program: Program, options: list[str], env: dict[str, str], expected: str
) -> None:
    clean = {"PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": "", **env}
    source = "loop = new_event_loop(); print(loop.get_debug()); loop.close()"
    assert program.output(source, *options, env=clean) == expected


def test_asyncio_run_debug_sets_debug_mode(program: Program) -> None:
    out = program.output("""
        import asyncio
        async def main():
            return asyncio.get_running_loop().get_debug()
        with asyncio.Runner(debug=True, loop_factory=new_event_loop) as runner:
            print(runner.run(main()))
    """)
    assert out == "True"


def test_a_loop_that_is_not_closed_warns_at_exit(program: Program) -> None:
    ended = program("loop = new_event_loop()", "-W", "always")
    assert ended.status == 0
    assert "ResourceWarning: unclosed event loop" in ended.err
