"""``subprocess_exec`` with a protocol of one's own: order of calls, transports, endings."""

# ruff: noqa: ASYNC222 - waits for a child that ends at once

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import Any

import pytest

from cloverleaf._subprocess import SubprocessTransport

from .harness.complaints import Complaints
from .harness.leaks import children
from .harness.turns import turns, until
from .harness.types import Loop

SPEAK = "import sys; sys.stdout.write('out'); sys.stderr.write('err')"


class Calls(asyncio.SubprocessProtocol):
    """Notes every call, and tells of the last one."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.transport: Any = None
        self.exited = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport
        self.calls.append(("connection_made",))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Note it."""
        self.calls.append(("pipe_data_received", fd, data))

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        """Note it."""
        self.calls.append(("pipe_connection_lost", fd))

    def process_exited(self) -> None:
        """Note it."""
        self.calls.append(("process_exited", self.transport.get_returncode()))
        self.exited.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note it."""
        self.calls.append(("connection_lost", exc))
        self.lost.set()


async def start(loop: Loop, *command: str, **keywords: Any) -> Calls:
    """Start a program under a protocol that notes everything."""
    transport, protocol = await loop.subprocess_exec(Calls, *command, **keywords)
    assert protocol.transport is transport
    return protocol


async def ended_unnoticed(loop: Loop) -> Calls:
    """Return a child that has ended with code 6, of which the loop does not know yet."""
    ours = await start(loop, "sh", "-c", "read line; exit 6", stdout=None, stderr=None)
    ours.transport.get_pipe_transport(0).write(b"end\n")
    with suppress(ChildProcessError):  # asyncio's thread, on 3.11, was faster
        os.waitid(os.P_PID, ours.transport.get_pid(), os.WEXITED | os.WNOWAIT)
    return ours


async def first_number(ours: Calls) -> int:
    """Return the first number on a line of its own that the child says."""

    def numbers() -> list[bytes]:
        said = b"".join(call[2] for call in ours.calls if call[0] == "pipe_data_received")
        return [line for line in said.splitlines(keepends=True) if line.strip().isdigit()]

    await until(lambda: [line for line in numbers() if line.endswith(b"\n")])
    return int(numbers()[0])


async def test_the_order_of_calls(loop: Loop) -> None:
    ours = await start(loop, sys.executable, "-c", SPEAK, stdin=None)
    await ours.lost.wait()
    assert ours.calls[0] == ("connection_made",)
    assert ours.calls[-1] == ("connection_lost", None)
    assert ("process_exited", 0) in ours.calls
    for fd, data in ((1, b"out"), (2, b"err")):
        of_pipe = [call for call in ours.calls if call[1:2] == (fd,)]
        assert of_pipe == [("pipe_data_received", fd, data), ("pipe_connection_lost", fd)]
    assert len(ours.calls) == 7


@pytest.mark.only("cloverleaf")  # asyncio lets chance decide
async def test_what_a_program_has_said_comes_before_its_end(loop: Loop) -> None:
    for _ in range(10):
        ours = await start(loop, "sh", "-c", "echo out; echo err >&2; exit 4")
        await ours.lost.wait()
        assert [call[0] for call in ours.calls[-2:]] == ["process_exited", "connection_lost"]


@pytest.mark.only("cloverleaf")  # asyncio lets chance decide
async def test_a_full_pipe_comes_before_the_end(loop: Loop) -> None:
    for _ in range(5):
        ours = await start(loop, "sh", "-c", "printf x; head -c 60000 /dev/zero")
        await ours.lost.wait()
        said = b"".join(call[2] for call in ours.calls if call[0] == "pipe_data_received")
        assert len(said) == 60001
        assert [call[0] for call in ours.calls[-2:]] == ["process_exited", "connection_lost"]


async def test_a_grandchild_that_goes_on_talking_does_not_hide_the_end(loop: Loop) -> None:
    ours = await start(loop, "sh", "-c", "yes & echo $!", stdin=None, stderr=None)
    await ours.exited.wait()
    os.kill(await first_number(ours), signal.SIGKILL)
    await ours.lost.wait()


async def test_a_program_may_end_before_its_pipes(loop: Loop) -> None:
    ours = await start(loop, "sh", "-c", "sleep 100 & echo $!", stdin=None, stderr=None)
    await ours.exited.wait()
    assert not ours.lost.is_set()
    os.kill(await first_number(ours), signal.SIGKILL)
    await ours.lost.wait()
    assert ours.calls[-2:] == [("pipe_connection_lost", 1), ("connection_lost", None)]


@pytest.mark.only("cloverleaf")  # asyncio's end is told before its pipes' or after, by chance
@pytest.mark.parametrize("has_pipe", [False, True])
async def test_the_end_waits_only_for_pipes(
    loop: Loop, has_pipe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int | None] = []

    def ended(transport: Any, code: int | None) -> None:
        end(transport, code)
        told.append(transport.get_returncode())

    end = SubprocessTransport._ended
    monkeypatch.setattr(SubprocessTransport, "_ended", ended)
    command = "sleep 100 & echo $!; exit 5" if has_pipe else "exit 5"
    stdout = PIPE if has_pipe else None
    ours = await start(loop, "sh", "-c", command, stdin=None, stdout=stdout, stderr=None)
    await ours.exited.wait()
    assert told == [None if has_pipe else 5]
    assert ours.transport.get_returncode() == 5
    if has_pipe:
        os.kill(await first_number(ours), signal.SIGKILL)
    await ours.lost.wait()


async def test_the_transport_tells_of_the_process(loop: Loop) -> None:
    ours = await start(loop, "cat", stderr=None)
    transport = ours.transport
    assert isinstance(transport, asyncio.SubprocessTransport)
    popen = transport.get_extra_info("subprocess")
    assert popen.pid == transport.get_pid()
    assert transport.get_returncode() is None
    stdin = transport.get_pipe_transport(0)
    assert isinstance(stdin, asyncio.WriteTransport)
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert transport.get_pipe_transport(2) is None
    assert transport.get_extra_info("no such thing", "default") == "default"
    assert transport.get_protocol() is ours
    assert not transport.is_closing()
    stdin.close()
    await ours.lost.wait()
    assert transport.get_returncode() == 0
    assert popen.returncode == 0
    assert transport.get_protocol() is None
    transport.close()
    assert transport.is_closing()


async def test_repr_tells_of_process_and_pipes(loop: Loop) -> None:
    ours = await start(loop, "cat", stderr=None)
    said = repr(ours.transport)
    assert f" pid={ours.transport.get_pid()} running stdin=<" in said
    assert "stdout=<" in said
    assert "stderr" not in said
    ours.transport.get_pipe_transport(0).close()
    await ours.lost.wait()
    assert "returncode=0" in repr(ours.transport)
    ours.transport.close()
    assert " closed " in repr(ours.transport)


async def test_another_protocol_can_take_over(loop: Loop) -> None:
    first = await start(loop, "cat", stderr=None)
    second = Calls()
    second.transport = first.transport
    first.transport.set_protocol(second)
    first.transport.get_pipe_transport(0).write(b"for the second")
    await until(lambda: second.calls)
    assert second.calls == [("pipe_data_received", 1, b"for the second")]
    first.transport.get_pipe_transport(0).close()
    await second.lost.wait()
    assert first.calls == [("connection_made",)]


async def test_back_pressure_reaches_the_protocol(loop: Loop) -> None:
    class Pressed(Calls):
        def pause_writing(self) -> None:
            self.calls.append(("pause_writing",))

        def resume_writing(self) -> None:
            self.calls.append(("resume_writing",))

    transport, ours = await loop.subprocess_exec(Pressed, "cat", stderr=None, stdout=None)
    stdin: Any = transport.get_pipe_transport(0)
    ours.calls.clear()
    os.kill(transport.get_pid(), signal.SIGSTOP)
    stdin.write(bytes(1 << 20))
    assert ours.calls == [("pause_writing",)]
    transport.kill()
    await ours.lost.wait()


async def test_close_kills_the_process(loop: Loop) -> None:
    ours = await start(loop, "cat")
    ours.transport.close()
    ours.transport.close()
    assert ours.transport.is_closing()
    await ours.lost.wait()
    assert ours.transport.get_returncode() == -signal.SIGKILL
    assert ours.calls[-1] == ("connection_lost", None)


async def test_close_of_a_process_that_has_ended_kills_nobody(
    loop: Loop, logged: Complaints
) -> None:
    ours = await ended_unnoticed(loop)
    popen = ours.transport.get_extra_info("subprocess")
    popen.kill = lambda: pytest.fail("it had ended")
    ours.transport.close()
    await ours.exited.wait()
    logged.take()  # asyncio's close() has taken the exit code from its own watcher


@pytest.mark.only("cloverleaf")  # asyncio's close() loses it, and reports 255
async def test_close_does_not_lose_the_exit_code(loop: Loop) -> None:
    ours = await ended_unnoticed(loop)
    ours.transport.close()
    await ours.lost.wait()
    assert ours.transport.get_returncode() == 6


async def test_signals_after_the_end_are_process_lookup_errors(loop: Loop) -> None:
    ours = await start(loop, "true")
    await ours.lost.wait()
    for send in (
        ours.transport.terminate,
        ours.transport.kill,
        lambda: ours.transport.send_signal(signal.SIGHUP),
    ):
        with pytest.raises(ProcessLookupError):
            send()
    assert ours.transport.close() is None


async def test_a_signal_between_end_and_loss_harms_nobody(loop: Loop) -> None:
    ours = await start(loop, "sh", "-c", "sleep 100 & echo $!", stdin=None, stderr=None)
    await ours.exited.wait()
    ours.transport.kill()  # nobody is there; its number may be another's
    os.kill(await first_number(ours), signal.SIGKILL)
    await ours.lost.wait()


async def test_a_callback_that_raises_is_reported(loop: Loop) -> None:
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))

    class Fails(Calls):
        def pipe_data_received(self, fd: int, data: bytes) -> None:
            raise RuntimeError("on purpose")

    _, ours = await loop.subprocess_exec(Fails, "echo", "x", stdin=None)
    await ours.lost.wait()
    assert [str(context["exception"]) for context in contexts] == ["on purpose"]


@pytest.mark.only("cloverleaf")  # asyncio leaves the child's pidfd open
def test_a_forgotten_transport_is_warned_of_and_its_process_killed(loop: Loop) -> None:
    popen = loop.run_until_complete(forgotten(loop))
    with pytest.warns(ResourceWarning, match="unclosed transport <"):
        close_and_collect(loop)
    assert popen.wait() == -signal.SIGKILL


async def forgotten(loop: Loop) -> Any:
    """Start a child that nobody remembers but its Popen."""
    ours = await start(loop, "sleep", "100", stdin=None, stdout=None, stderr=None)
    return ours.transport.get_extra_info("subprocess")


def close_and_collect(loop: Loop) -> None:
    """Close the loop, and let go of what only it has held."""
    loop.close()
    gc.collect()


async def test_wait_may_be_asked_by_many_and_cancelled(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    waiters = [asyncio.ensure_future(process.wait()) for _ in range(3)]
    await turns(2)
    waiters[0].cancel()
    assert process.stdin is not None
    process.stdin.close()
    with pytest.raises(asyncio.CancelledError):
        await waiters[0]
    assert await asyncio.gather(*waiters[1:]) == [0, 0]
    assert not children()
