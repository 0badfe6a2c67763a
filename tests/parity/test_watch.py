"""``add_reader``, ``add_writer`` and their removal."""

from __future__ import annotations

import contextvars
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness.turns import turn, turns_until
from .harness.types import Context, Loop

Pair = tuple[socket.socket, socket.socket]


class IndexAlone:
    """A number, but neither an int nor a file object."""

    def __index__(self) -> int:
        return 1 << 20


class Names:
    """A file object that says this of its descriptor."""

    def __init__(self, said: object) -> None:
        self.said = said

    def fileno(self) -> Any:
        return self.said


class Fails(Names):
    """A file object that raises this when it is asked for its descriptor."""

    def fileno(self) -> Any:
        raise self.said  # type: ignore[misc]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Return two connected sockets, both blocking."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_reader_is_called_when_there_is_something_to_read(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[tuple[object, ...]] = []

    def on_readable(*args: object) -> None:
        seen.append((*args, ours.recv(10)))

    loop.add_reader(ours, on_readable, 1, "two")
    turn(loop)
    assert seen == []
    theirs.send(b"hello")
    turns_until(loop, lambda: seen)
    assert seen == [(1, "two", b"hello")]
    assert loop.remove_reader(ours) is True


def test_a_writer_is_called_when_there_is_room(loop: Loop, pair: Pair) -> None:
    ours, _ = pair
    seen: list[int] = []
    loop.add_writer(ours, seen.append, 1)
    turns_until(loop, lambda: len(seen) == 3)
    assert loop.remove_writer(ours) is True
    turn(loop)
    assert len(seen) == 3


def test_a_reader_is_called_again_until_all_is_read(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[bytes] = []
    theirs.send(b"abcde")
    loop.add_reader(ours, lambda: seen.append(ours.recv(1)))
    turns_until(loop, lambda: len(seen) == 5)
    turn(loop)
    assert b"".join(seen) == b"abcde"
    loop.remove_reader(ours)


def test_a_reader_that_does_not_read_is_called_every_turn(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[int] = []
    theirs.send(b"x")
    loop.add_reader(ours, seen.append, 1)
    turns_until(loop, lambda: seen)
    for _ in range(5):
        turn(loop)
    assert len(seen) >= 5
    loop.remove_reader(ours)


def test_edges_a_descriptor_ready_both_ways_is_served_both_ways(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[str] = []
    theirs.send(b"x")
    loop.add_reader(ours, seen.append, "read")
    loop.add_writer(ours, seen.append, "write")
    turns_until(loop, lambda: len(seen) >= 6)
    assert seen[:6].count("read") == 3
    assert seen[:6].count("write") == 3
    loop.remove_reader(ours)
    loop.remove_writer(ours)


@pytest.mark.parametrize("blocking", [True, False])
def test_the_blocking_mode_stays_as_it_was(loop: Loop, pair: Pair, blocking: bool) -> None:
    ours, theirs = pair
    ours.setblocking(blocking)
    seen: list[int] = []
    loop.add_reader(ours, seen.append, 1)
    loop.add_writer(ours, seen.append, 2)
    theirs.send(b"x")
    turns_until(loop, lambda: {1, 2} <= set(seen))
    assert os.get_blocking(ours.fileno()) is blocking
    loop.remove_reader(ours)
    loop.remove_writer(ours)
    assert os.get_blocking(ours.fileno()) is blocking


def test_a_new_callback_replaces_the_old_one(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[int] = []
    theirs.send(b"x")
    for add, remove in (
        (loop.add_reader, loop.remove_reader),
        (loop.add_writer, loop.remove_writer),
    ):
        seen.clear()
        add(ours, seen.append, 1)
        add(ours, seen.append, 2)
        turns_until(loop, lambda: seen)
        assert set(seen) == {2}
        assert remove(ours) is True
        assert remove(ours) is False


def test_file_objects_and_numbers_name_the_same_descriptor(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    seen: list[int] = []
    loop.add_reader(ours, seen.append, 1)
    loop.add_reader(ours.fileno(), seen.append, 2)
    turns_until(loop, lambda: seen)
    assert set(seen) == {2}
    assert loop.remove_reader(ours.fileno()) is True
    assert loop.remove_reader(ours) is False


def test_anything_with_a_fileno_will_do(loop: Loop, pair: Pair) -> None:
    class Own:
        def fileno(self) -> int:
            return pair[0].fileno()

    pair[1].send(b"x")
    seen: list[int] = []
    loop.add_reader(Own(), seen.append, 1)
    turns_until(loop, lambda: seen)
    assert loop.remove_reader(Own()) is True


def test_pipes_and_eventfds_can_be_watched(loop: Loop) -> None:
    reading, writing = os.pipe()
    event = os.eventfd(1)
    seen: list[str] = []
    loop.add_reader(reading, seen.append, "pipe")
    loop.add_reader(event, seen.append, "eventfd")
    loop.add_writer(writing, seen.append, "writable")
    os.write(writing, b"x")
    turns_until(loop, lambda: {"pipe", "eventfd", "writable"} <= set(seen))
    for fd in (reading, event):
        assert loop.remove_reader(fd)
        os.close(fd)
    assert loop.remove_writer(writing)
    os.close(writing)


def test_the_end_of_the_stream_is_something_to_read(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[bytes] = []
    loop.add_reader(ours, lambda: seen.append(ours.recv(1)))
    theirs.close()
    turns_until(loop, lambda: seen)
    assert set(seen) == {b""}
    loop.remove_reader(ours)


def test_a_broken_pipe_calls_the_writer(loop: Loop) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, bytes(65536))
        except BlockingIOError:
            break
    seen: list[int] = []
    loop.add_writer(writing, seen.append, 1)
    turn(loop)
    assert seen == []
    os.close(reading)
    turns_until(loop, lambda: seen)
    loop.remove_writer(writing)
    os.close(writing)


def test_a_callback_may_remove_itself(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    seen: list[bool] = []
    loop.add_reader(ours, lambda: seen.append(loop.remove_reader(ours)))
    turns_until(loop, lambda: seen)
    for _ in range(3):
        turn(loop)
    assert seen == [True]


def test_a_callback_may_remove_the_other_which_then_does_not_run(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    seen: list[str] = []

    def on_readable() -> None:
        seen.append("read")
        loop.remove_writer(ours)
        loop.remove_reader(ours)

    loop.add_reader(ours, on_readable)
    loop.add_writer(ours, seen.append, "write")
    turns_until(loop, lambda: seen)
    for _ in range(3):
        turn(loop)
    assert seen == ["read"]


def test_a_callback_may_replace_itself(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    seen: list[int] = []

    def first() -> None:
        seen.append(1)
        loop.add_reader(ours, second)

    def second() -> None:
        seen.append(2)
        loop.remove_reader(ours)

    loop.add_reader(ours, first)
    turns_until(loop, lambda: len(seen) >= 2)
    turn(loop)
    assert seen == [1, 2]


def test_identity_a_closed_descriptors_event_never_reaches_its_successor(loop: Loop) -> None:
    """Two are ready in one turn; the first closes the second's socket and reuses its number."""
    for _ in range(20):
        first, first_peer = socket.socketpair()
        second, second_peer = socket.socketpair()
        number = second.fileno()
        seen: list[str] = []
        fresh: list[socket.socket] = []

        def on_first(
            first: socket.socket = first,
            second: socket.socket = second,
            number: int = number,
            fresh: list[socket.socket] = fresh,
            seen: list[str] = seen,
        ) -> None:
            if fresh:
                return
            loop.remove_reader(second)
            second.close()
            fresh.extend(socket.socketpair())
            assert number in {each.fileno() for each in fresh}
            for each in fresh:
                loop.add_reader(each, seen.append, "stale")

        loop.add_reader(first, on_first)
        loop.add_reader(second, lambda: None)
        first_peer.send(b"x")
        second_peer.send(b"x")
        turns_until(loop, lambda fresh=fresh: fresh)  # type: ignore[misc]
        for _ in range(3):
            turn(loop)
        assert seen == []
        loop.remove_reader(first)
        for each in fresh:
            loop.remove_reader(each)
        for each in (first, first_peer, second_peer, *fresh):
            each.close()


def test_a_number_can_be_watched_again_after_its_descriptor_was_closed(loop: Loop) -> None:
    """The program forgot to remove the reader before it closed: the kernel has, and so must we."""
    ours, theirs = socket.socketpair()
    loop.add_reader(ours, lambda: None)
    loop.remove_reader(ours)
    number = ours.fileno()
    ours.close()
    again, peer = socket.socketpair()
    assert number in (again.fileno(), peer.fileno())
    seen: list[int] = []
    loop.add_reader(again, seen.append, 1)
    peer.send(b"x")
    turns_until(loop, lambda: seen)
    loop.remove_reader(again)
    for each in (again, peer, theirs):
        each.close()


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize(
    "wrong", ["3", None, 1.5, object(), IndexAlone(), Names("x"), Names(None), Fails(ValueError())]
)
def test_what_is_no_descriptor_is_refused(loop: Loop, method: str, wrong: Any) -> None:
    rest = (print,) if method.startswith("add") else ()
    with pytest.raises(ValueError, match="Invalid file object"):
        getattr(loop, method)(wrong, *rest)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_a_negative_descriptor_is_refused(loop: Loop, method: str) -> None:
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        getattr(loop, method)(-1, print)


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("error", [LookupError("gone"), PermissionError("not yours")])
def test_what_a_file_object_raises_is_raised(loop: Loop, method: str, error: Exception) -> None:
    rest = (print,) if method.startswith("add") else ()
    with pytest.raises(type(error)) as raised:
        getattr(loop, method)(Fails(error), *rest)
    assert raised.value is error


def test_what_a_file_object_says_is_made_a_number(loop: Loop) -> None:
    reading, writing = os.pipe()
    seen: list[int] = []
    loop.add_reader(Names(str(reading)), seen.append, 1)
    os.write(writing, b"x")
    turns_until(loop, lambda: seen)
    assert loop.remove_reader(Names(reading + 0.5))
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("number", [1 << 31, 1 << 63, -(1 << 31) - 1, -(1 << 70)])
def test_a_number_that_no_descriptor_has_is_said_to_be_one(
    loop: Loop, number: int, is_named: bool
) -> None:
    given: Any = Names(number) if is_named else number
    for add, remove in (
        (loop.add_reader, loop.remove_reader),
        (loop.add_writer, loop.remove_writer),
    ):
        if number < 0:
            with pytest.raises(ValueError, match=f"^Invalid file descriptor: {number}$"):
                add(given, print)
            with pytest.raises(ValueError, match=f"^Invalid file descriptor: {number}$"):
                remove(given)
        else:
            with pytest.raises(OverflowError, match="too large to convert to C int"):
                add(given, print)
            assert not remove(given)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_a_closed_descriptor_is_refused(loop: Loop, method: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        getattr(loop, method)(reading, print)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_a_regular_file_is_refused_as_epoll_refuses_it(
    loop: Loop, method: str, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(PermissionError):
        getattr(loop, method)(file, print)


def test_removing_what_was_never_added_is_false(loop: Loop, pair: Pair) -> None:
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is False
    assert loop.remove_reader(999_999) is False


def test_exceptions_of_a_watcher_reach_the_handler(
    loop: Loop, pair: Pair, contexts: list[Context]
) -> None:
    ours, theirs = pair

    def failing() -> None:
        loop.remove_reader(ours)
        raise LookupError

    loop.add_reader(ours, failing)
    theirs.send(b"x")
    turns_until(loop, lambda: contexts)
    assert isinstance(contexts[0]["exception"], LookupError)
    assert contexts[0]["message"].startswith("Exception in callback")


def test_watchers_run_in_the_context_they_were_added_in(loop: Loop, pair: Pair) -> None:
    variable = contextvars.ContextVar[int]("variable", default=0)
    seen: list[int] = []
    token = variable.set(4)
    loop.add_writer(pair[0], lambda: seen.append(variable.get()))
    variable.reset(token)
    turns_until(loop, lambda: seen)
    loop.remove_writer(pair[0])
    assert set(seen) == {4}


def test_two_loops_may_watch_one_descriptor(loop: Loop, new_loop: Any, pair: Pair) -> None:
    other = new_loop()
    pair[1].send(b"x")
    seen: list[int] = []
    loop.add_reader(pair[0], seen.append, 1)
    other.add_reader(pair[0], seen.append, 2)
    turns_until(loop, lambda: 1 in seen)
    turns_until(other, lambda: 2 in seen)
    loop.remove_reader(pair[0])
    other.remove_reader(pair[0])
