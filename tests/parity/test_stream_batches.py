"""When many connections are served by one call: where a ring was asked for and is there."""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from pathlib import Path

import pytest

from .harness.backends import loop_on
from .harness.crowds import Answer, Member, clients, exactly, waiting
from .harness.program import Program
from .harness.types import Loop

LAPS_UNTIL_REFUSED = """
import asyncio, socket, sys
sys.path.insert(0, TOOLS)
from refuse_io_uring import refuse_io_uring
import cloverleaf

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
        self.transport.write(b"!")

async def main():
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(8)]
    for ours, peer in pairs:
        peer.setblocking(False)
        await loop.create_connection(Echo, sock=ours)
    for lap in range(60):
        if lap == REFUSED_IN:
            refuse_io_uring()
        asked = [b"%d to %d" % (lap, number) for number in range(len(pairs))]
        for (_, peer), each in zip(pairs, asked):
            peer.sendall(each)
        for (_, peer), each in zip(pairs, asked):
            received = b""
            while len(received) <= len(each):
                received += await loop.sock_recv(peer, 100)
            assert received == each + b"!", received
    print("all laps")

try:
    loop = cloverleaf.new_event_loop(backend="io_uring")
except OSError as error:
    print("no ring:", error)
else:
    loop.run_until_complete(main())
"""


async def waits_seen(loop: Loop, laps: int) -> int:
    """Count answers that waited for the next protocol, in so many laps or until there is one."""
    seen = 0
    before: list[socket.socket] = []
    async with clients(loop) as many:

        def answer(member: Member) -> None:
            # Quickly: what a slow protocol writes does not wait.
            nonlocal seen
            if before:
                seen += not waiting(before.pop())
            assert member.peer is not None
            before.append(member.peer)
            member.transport.write(b"answer")

        while laps > 0 and seen == 0:
            laps -= 1
            before.clear()
            for member in many.members:
                member.calls.clear()
                member.data.clear()
            many.ask(answer)
            await many.asked()
            for peer in many.peers:
                assert exactly(peer, 6) == b"answer"
    return seen


@pytest.mark.only("cloverleaf")  # a choice that asyncio does not offer
def test_answers_wait_for_each_other_where_a_ring_was_asked_for() -> None:
    with loop_on("io_uring") as loop:
        assert loop.run_until_complete(waits_seen(loop, 10_000)) > 0


@pytest.mark.only("cloverleaf")
def test_answers_are_sent_at_once_where_it_was_not() -> None:
    for backend in ("auto", "epoll"):
        with loop_on(backend) as loop:
            assert loop.run_until_complete(waits_seen(loop, 50)) == 0


@pytest.mark.only("cloverleaf")
def test_a_ring_that_is_refused_later_loses_no_answer(program: Program) -> None:
    tools = str(Path(__file__).parents[2] / "tools")
    for lap in (0, 30):
        out = program.output(f"TOOLS, REFUSED_IN = {tools!r}, {lap}\n" + LAPS_UNTIL_REFUSED)
        if out.startswith("no ring:"):
            pytest.skip(out)
        assert out == "all laps"


def not_read(peer: socket.socket | None) -> int:
    """Return how many bytes, the kernel's own included, wait at the other end of a Unix socket."""
    assert peer is not None
    waiting = bytearray(4)
    fcntl.ioctl(peer, termios.TIOCOUTQ, waiting)
    return int.from_bytes(waiting, sys.byteorder)


async def taken_before_told(loop: Loop, prepare: Answer, questions: list[bytes]) -> bool:
    """Tell whether the last question had left the kernel for some before they were told."""
    async with clients(loop, socket.AF_UNIX) as many:
        taken: list[bool] = []

        def look(_: Member) -> None:
            unread = [member for member in many.members if not member.data]
            taken.extend(not_read(member.peer) == 0 for member in unread)

        for member in many.members:
            prepare(member)
        for question in questions:
            taken.clear()
            many.ask(look, question)
            for member in many.members:
                assert await member.received(len(question)) == question
        return any(taken)


@pytest.mark.only("cloverleaf")
def test_what_came_for_all_is_taken_before_the_first_is_told_where_a_ring_was_asked_for() -> None:
    with loop_on("io_uring") as loop:
        assert loop.run_until_complete(taken_before_told(loop, repr, [b"small"]))
        assert loop.run_until_complete(taken_before_told(loop, repr, [b"small", b"small again"]))


@pytest.mark.only("cloverleaf")
def test_nothing_is_taken_before_its_turn_where_it_was_not() -> None:
    for backend in ("auto", "epoll"):
        with loop_on(backend) as loop:
            assert not loop.run_until_complete(taken_before_told(loop, repr, [b"small"]))


def look(member: Member) -> None:
    sock = member.transport.get_extra_info("socket")
    assert sock.family == socket.AF_UNIX
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)


def learn_the_number(member: Member) -> None:
    look(member)
    assert member.transport.get_extra_info("socket").fileno() >= 0


@pytest.mark.only("cloverleaf")
def test_a_socket_upon_which_somebody_could_act_is_read_when_its_turn_has_come() -> None:
    with loop_on("io_uring") as loop:
        assert loop.run_until_complete(taken_before_told(loop, look, [b"small"]))
        assert not loop.run_until_complete(taken_before_told(loop, learn_the_number, [b"small"]))


@pytest.mark.only("cloverleaf")
def test_large_messages_are_read_in_place_when_their_turn_has_come() -> None:
    with loop_on("io_uring") as loop:
        large = [b"large" * 1000] * 2
        assert not loop.run_until_complete(taken_before_told(loop, repr, large))


async def tellings(loop: Loop, message: bytes, laps: int) -> list[int]:
    """Return in how many pieces all protocols have heard of a message, for each of so many."""
    pieces: list[int] = []
    async with clients(loop) as many:
        for _ in range(laps):
            for member in many.members:
                member.calls.clear()
            many.ask(repr, message)
            for member in many.members:
                assert await member.received(len(message)) == message
            pieces.append(sum(len(member.calls) for member in many.members))
    return pieces


@pytest.mark.only("cloverleaf")
def test_large_messages_are_told_whole_once_one_has_been_seen() -> None:
    """A piece of them that fills a room, or is left over, makes nobody read in rooms again."""
    with loop_on("io_uring") as loop:
        assert loop.run_until_complete(tellings(loop, b"x" * 16_406, 12))[6:] == [8] * 6
