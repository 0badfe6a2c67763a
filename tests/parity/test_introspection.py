"""What Python shows of a running program, from within and from outside: tasks, and who awaits."""

from __future__ import annotations

import asyncio
import io
import socket
import subprocess
import sys
import threading

import pytest

from .harness.program import SECONDS, Program
from .harness.turns import turns
from .harness.types import Loop

PROGRAM = """
    import asyncio, sys

    async def innermost(event):
        await event.wait()

    async def middle(event):
        await asyncio.create_task(innermost(event), name="inner")

    async def main():
        event = asyncio.Event()
        task = asyncio.create_task(middle(event), name="outer")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), event.set)
        print("ready", flush=True)
        await task

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
"""


async def blocked(event: asyncio.Event) -> None:
    """Wait, and be seen to."""
    await event.wait()


async def test_all_tasks_and_the_current_one_are_known(loop: Loop) -> None:
    event = asyncio.Event()
    waiting = loop.create_task(blocked(event), name="waiting")
    await turns(1)
    current = asyncio.current_task()
    assert current is not None
    assert current is not waiting
    assert asyncio.all_tasks() == {waiting, current}
    assert asyncio.current_task(loop) is current
    assert [frame.f_code.co_name for frame in waiting.get_stack()] == ["blocked"]
    text = io.StringIO()
    waiting.print_stack(file=text)
    assert "blocked" in text.getvalue()
    event.set()
    await waiting
    assert asyncio.all_tasks() == {current}


async def test_all_tasks_can_be_asked_for_from_another_thread(loop: Loop) -> None:
    event = asyncio.Event()
    waiting = loop.create_task(blocked(event))
    await turns(1)
    found: list[set[asyncio.Task[object]]] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.all_tasks(loop)))
    thread.start()
    thread.join()
    assert found == [{waiting, asyncio.current_task()}]
    event.set()
    await waiting


async def test_whoever_awaits_a_stream_is_shown(loop: Loop) -> None:
    """A native read has no frame; the program's own frames are there, and nothing breaks on it."""

    async def handler() -> bytes:
        return await reader.readline()

    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        waiting = loop.create_task(handler())
        await turns(2)
        assert "handler" in repr(waiting)
        assert [frame.f_code.co_name for frame in waiting.get_stack()] == ["handler"]
        if sys.version_info >= (3, 14):
            graph = asyncio.capture_call_graph(waiting)
            assert graph is not None
            assert graph.call_stack[-1].frame.f_code.co_name == "handler"
            assert "handler" in asyncio.format_call_graph(waiting)
        theirs.sendall(b"line\n")
        assert await waiting == b"line\n"

        bare = loop.create_task(reader.readline())
        await turns(2)
        assert "readline" in repr(bare)
        text = io.StringIO()
        bare.print_stack(file=text)
        assert text.getvalue()
        if sys.version_info >= (3, 14):
            assert "Task" in asyncio.format_call_graph(bare)
        theirs.sendall(b"line\n")
        assert await bare == b"line\n"
        writer.close()
        await writer.wait_closed()


if sys.version_info >= (3, 14):  # call graphs, ps and pstree are new in 3.14

    async def test_a_call_graph_leads_from_the_innermost_task_outwards(loop: Loop) -> None:
        event = asyncio.Event()

        async def middle(inner: asyncio.Task[None]) -> None:
            await inner

        inner = loop.create_task(blocked(event), name="inner")
        outer = loop.create_task(middle(inner), name="outer")
        await turns(2)
        graph = asyncio.capture_call_graph(inner)
        assert graph is not None
        assert graph.future is inner
        names = [entry.frame.f_code.co_name for entry in graph.call_stack]
        assert names == ["wait", "blocked"]
        (awaiting,) = graph.awaited_by
        assert awaiting.future is outer
        text = asyncio.format_call_graph(inner)
        assert text.index("inner") < text.index("outer")
        event.set()
        await outer

    async def test_a_call_graph_of_the_running_task(loop: Loop) -> None:
        graph = asyncio.capture_call_graph()
        assert graph is not None
        assert graph.future is asyncio.current_task()
        names = [entry.frame.f_code.co_name for entry in graph.call_stack]
        assert "test_a_call_graph_of_the_running_task" in names

    @pytest.mark.parametrize("command", ["ps", "pstree"])
    def test_python_shows_the_tasks_of_a_process(program: Program, command: str) -> None:
        process = program.start(PROGRAM)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        shown = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(process.pid)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if "ermission" in shown.stderr or "not permitted" in shown.stderr:
            pytest.skip("this system does not let a process look into another")
        assert shown.returncode == 0, shown.stderr
        for word in ("Task-1", "outer", "inner", "main", "middle", "innermost"):
            assert word in shown.stdout, shown.stdout
        ended = program.wait(process)
        assert ended.status == 0, ended.err
