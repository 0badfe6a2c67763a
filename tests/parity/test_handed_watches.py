"""`add_reader` and its kin, called by another thread than the one that runs the loop.

ipykernel does so as it starts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness.turns import turns
from .harness.types import Loop

pytestmark = pytest.mark.deadline(60)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two sockets that are connected."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def elsewhere(call: Callable[..., Any], *args: Any) -> Any:
    """Call it in another thread while this one waits, and return or raise what it does."""
    results: list[Any] = []

    def work() -> None:
        try:
            results.append((call(*args), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    value, error = results.pop()
    if error is not None:
        raise error
    return value


async def test_a_reader_of_another_thread_is_told_in_the_loops(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    heard: asyncio.Future[int] = loop.create_future()

    def read(size: int) -> None:
        assert ours.recv(size) == b"x"
        heard.set_result(threading.get_ident())

    await asyncio.to_thread(loop.add_reader, ours, read, 10)
    theirs.send(b"x")
    assert await heard == threading.get_ident()
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)


async def test_it_ends_the_loops_sleep(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    heard = asyncio.Event()

    def tell() -> None:
        loop.remove_reader(ours)
        heard.set()

    thread = threading.Thread(target=loop.add_reader, args=(ours, tell))
    loop.call_soon(thread.start)
    await heard.wait()
    thread.join()


async def test_a_writer_of_another_thread_is_told(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    heard = asyncio.Event()
    elsewhere(loop.add_writer, pair[0].fileno(), heard.set)
    await heard.wait()
    assert loop.remove_writer(pair[0])


async def test_what_the_loops_thread_asks_for_comes_after(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    heard: list[int] = []
    elsewhere(loop.add_reader, ours, heard.append, 1)
    assert loop.remove_reader(ours)
    await turns(5)
    assert heard == []
    elsewhere(loop.add_reader, ours, heard.append, 2)
    loop.add_reader(ours, heard.append, 3)
    await turns(5)
    assert loop.remove_reader(ours)
    assert set(heard) == {3}


async def test_the_last_of_several_is_told(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    heard: list[int] = []

    def use() -> None:
        for number in range(3):
            loop.add_reader(ours, heard.append, number)

    elsewhere(use)
    await turns(5)
    assert loop.remove_reader(ours)
    assert set(heard) == {2}


async def test_what_is_closed_meanwhile_leaves_its_number_alone(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    heard: list[int] = []
    reader, writer = os.pipe()
    try:
        elsewhere(loop.add_reader, reader, heard.append, 1)
        os.dup2(ours.fileno(), reader)  # closes the pipe's end
        await turns(5)
        assert heard == []
    finally:
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)


async def test_what_is_closed_meanwhile_is_not_taken_for_another_of_its_kind(loop: Loop) -> None:
    heard: list[int] = []
    first = os.eventfd(0)
    elsewhere(loop.add_reader, first, heard.append, 1)
    os.close(first)
    second = os.eventfd(1)  # by device and inode it is the same file
    try:
        assert first == second
        await turns(5)
        assert heard == []
    finally:
        loop.remove_reader(second)
        os.close(second)


@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("direction", ["reader", "writer"])
async def test_what_is_closed_meanwhile_is_removed_by_its_object(
    loop: Loop, landed: bool, direction: str
) -> None:
    add, remove = getattr(loop, f"add_{direction}"), getattr(loop, f"remove_{direction}")
    ours, theirs = socket.socketpair()
    with theirs:
        elsewhere(add, ours, print)
        ours.close()
        if landed:
            await turns(3)
        assert remove(ours)
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            remove(ours)


@pytest.mark.parametrize("landed", [False, True])
async def test_what_is_closed_meanwhile_is_removed_by_its_number(loop: Loop, landed: bool) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    elsewhere(loop.add_reader, reader, print)
    os.close(reader)
    if landed:
        await turns(3)
    assert loop.remove_reader(reader)
    assert not loop.remove_reader(reader)


async def test_what_is_closed_meanwhile_lets_a_busy_loop_hear_of_others(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    heard: list[bytes] = []
    loop.add_reader(ours, lambda: heard.append(ours.recv(1)))
    for _ in range(3):
        reader, writer = os.pipe()
        os.close(writer)
        elsewhere(loop.add_reader, reader, print)
        os.close(reader)
        assert loop.remove_reader(reader)
    theirs.send(b"x")
    await turns(1000)
    assert heard == [b"x"]
    assert loop.remove_reader(ours)


@pytest.mark.only("cloverleaf")  # on asyncio the number never reports again
async def test_what_is_closed_meanwhile_gives_way_to_who_has_its_number(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    heard: list[int] = []
    with theirs:
        number = ours.fileno()
        elsewhere(loop.add_reader, ours, heard.append, 1)
        ours.close()
        await turns(3)
        again, writer = os.pipe()
        try:
            assert again == number
            os.write(writer, b"x")
            loop.add_reader(again, heard.append, 2)
            await turns(5)
            assert set(heard) == {2}
            assert loop.remove_reader(again)
        finally:
            os.close(again)
            os.close(writer)


async def test_a_refusal_is_raised_in_the_other_thread(loop: Loop, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(PermissionError):
        elsewhere(loop.add_reader, file, print)
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        elsewhere(loop.add_reader, reader, print)
    for bad in (-1, "text"):
        with pytest.raises(ValueError, match="Invalid file"):
            elsewhere(loop.add_reader, bad, print)
    await turns(3)


def test_what_comes_as_the_loop_stops_is_told_in_the_next_run(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    heard: list[int] = []

    async def main() -> None:
        elsewhere(loop.add_reader, ours, heard.append, 1)

    loop.run_until_complete(main())
    loop.run_until_complete(turns(5))
    assert set(heard) == {1}
    assert loop.remove_reader(ours)


def test_a_closed_loop_keeps_nothing_that_was_handed_over(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    class Callback:
        def __init__(self, gone: list[int]) -> None:
            self.gone = gone

        def __call__(self) -> None:
            raise AssertionError("it was closed")

        def __del__(self) -> None:
            self.gone.append(1)

    gone: list[int] = []

    async def main() -> None:
        elsewhere(loop.add_reader, pair[0], Callback(gone))

    loop.run_until_complete(main())
    loop.close()
    assert gone == [1]
    with pytest.raises(RuntimeError, match="closed"):
        elsewhere(loop.add_reader, pair[0], print)


@pytest.mark.only("cloverleaf")  # on asyncio it works by luck
async def test_another_thread_does_not_remove(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    loop.add_reader(pair[0], print)
    with pytest.raises(RuntimeError, match="runs in another thread"):
        elsewhere(loop.remove_reader, pair[0])
    assert loop.remove_reader(pair[0])
