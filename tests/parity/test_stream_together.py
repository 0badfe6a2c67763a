"""Answers of many connections in one turn: complete, in order, and sent singly or together."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable

import pytest

from .harness.crowds import COUNT, Crowd, Member, crowd, exactly, waiting
from .harness.links import everything, narrow_pair, tcp_pair
from .harness.turns import until
from .harness.types import Loop


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
async def test_order_each_peer_gets_its_own_answers_in_order(
    loop: Loop, pair: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    async with crowd(loop, pair) as many:
        for lap in range(30):
            for number, member in enumerate(many.members):
                pieces = [b"%d of %d in %d;" % (n, number, lap) for n in range(1 + lap % 4)]
                pieces.append(bytes([number]) * (lap * 200))
                member.calls.clear()
                member.answer = lambda it, pieces=pieces: [  # type: ignore[misc]
                    it.transport.write(piece) for piece in pieces
                ]
            many.ask()
            await many.asked()
            for number, peer in enumerate(many.peers):
                wanted = b"".join(b"%d of %d in %d;" % (n, number, lap) for n in range(1 + lap % 4))
                wanted += bytes([number]) * (lap * 200)
                assert exactly(peer, len(wanted)) == wanted


async def test_large_and_small_answers_to_one_event_arrive_in_order(loop: Loop) -> None:
    pieces = [b"a", b"b" * 4096, b"c" * 4097, b"d", b"e" * 70_000, b"f", b"g" * 4000] * 8

    def answer(member: Member) -> None:
        for piece in pieces:
            member.transport.write(piece)
        member.transport.writelines([b"x", b"", b"y" * 3000])
        loop.call_soon(member.transport.close)

    async with crowd(loop) as many:
        many.ask(answer)
        received = await asyncio.gather(
            *(loop.run_in_executor(None, everything, peer) for peer in many.peers)
        )
        assert set(received) == {b"".join(pieces) + b"x" + b"y" * 3000}


async def test_one_that_has_no_room_holds_up_nobody_and_loses_nothing(loop: Loop) -> None:
    pieces = [bytes([number]) * 1000 for number in range(40)]

    def much(member: Member) -> None:
        for piece in pieces:
            member.transport.write(piece)

    async with crowd(loop, narrow_pair) as many:
        many.members[2].answer = much
        for member in many.members[:2] + many.members[3:]:
            member.answer = lambda it: it.transport.write(b"little")
        many.ask()
        await many.asked()
        full = many.members[2].transport
        assert full.get_write_buffer_size() > 0
        for number, peer in enumerate(many.peers):
            if number != 2:
                assert exactly(peer, 6) == b"little"
        # Answers that follow wait behind it, and others do not.
        many.ask(lambda it: it.transport.write(b"more"))
        await until(lambda: all(len(member.data) == 2 for member in many.members))
        for number, peer in enumerate(many.peers):
            if number != 2:
                assert exactly(peer, 4) == b"more"
        full.close()
        received = await loop.run_in_executor(None, everything, many.peers[2])
        assert received == b"".join(pieces) + b"more"


async def test_a_short_send_pauses_the_protocol_as_its_limits_say(loop: Loop) -> None:
    sizes: list[int] = []

    def until_paused(member: Member) -> None:
        while "pause_writing" not in member.calls:
            member.transport.write(bytes(500))
        sizes.append(member.transport.get_write_buffer_size())

    async with crowd(loop, narrow_pair) as many:
        for member in many.members:
            member.transport.set_write_buffer_limits(high=2000)
        many.ask(until_paused)
        await many.asked()
        assert len(sizes) == COUNT
        assert all(2000 < size <= 2500 for size in sizes)


async def test_a_lost_peer_is_told_of_and_costs_the_others_nothing(loop: Loop) -> None:
    def lose_the_fourth(member: Member) -> None:
        gone = many.peers[3]
        if gone.fileno() >= 0:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
        member.transport.write(b"one")
        member.transport.write(b"two")

    async with crowd(loop) as many:
        many.ask(lose_the_fourth)
        assert isinstance(await many.members[3].lost, ConnectionError)
        for number, (member, peer) in enumerate(zip(many.members, many.peers, strict=True)):
            if number != 3:
                await until(lambda member=member: member.data)  # type: ignore[misc]
                assert exactly(peer, 6) == b"onetwo"
                assert not member.lost.done()


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
async def test_what_another_protocol_ends_has_sent_what_it_wrote(loop: Loop, end: str) -> None:
    async with crowd(loop) as many:

        def answer(member: Member) -> None:
            member.transport.write(b"answer")
            if member is many.members[-1]:
                for other in many.members:
                    getattr(other.transport, end)()

        many.ask(answer)
        for peer in many.peers:
            assert await loop.run_in_executor(None, everything, peer) == b"answer"


async def test_what_is_asked_for_of_another_transport_is_up_to_date(loop: Loop) -> None:
    sizes: list[int] = []
    async with crowd(loop) as many:

        def answer(member: Member) -> None:
            member.transport.write(b"answer")
            if member is many.members[-1]:
                sizes.extend(each.transport.get_write_buffer_size() for each in many.members)
                with member.transport.get_extra_info("socket").dup() as duplicate:
                    duplicate.sendall(b" behind")
                with many.members[0].transport.get_extra_info("socket").dup() as duplicate:
                    duplicate.sendall(b" behind")

        many.ask(answer)
        await many.asked()
        assert sizes == [0] * COUNT
        for number, peer in enumerate(many.peers):
            wanted = b"answer behind" if number in (0, COUNT - 1) else b"answer"
            assert exactly(peer, len(wanted)) == wanted


async def test_other_callbacks_find_every_answer_sent(loop: Loop) -> None:
    found: list[tuple[list[bytes], list[bytes]]] = []

    def look() -> None:
        answered = [b"!" if member.data else b"" for member in many.members]
        found.append((answered, [waiting(peer) for peer in many.peers]))

    watched, other = socket.socketpair()
    with watched, other:
        async with crowd(loop) as many:

            def write_and_look(member: Member) -> None:
                member.transport.write(b"!")
                loop.call_soon(look)

            def on_readable() -> None:
                watched.recv(1)
                look()

            loop.add_reader(watched, on_readable)
            for number, (member, peer) in enumerate(zip(many.members, many.peers, strict=True)):
                if number == 5:
                    other.sendall(b"?")
                member.answer = lambda it: it.transport.write(b"!")
                peer.sendall(b"?")
            many.members[3].answer = write_and_look
            await many.asked()
            await until(lambda: len(found) == 2)
            loop.remove_reader(watched)
    for answered, arrived in found:
        assert arrived == answered


async def test_a_failing_protocol_fails_alone(loop: Loop) -> None:
    loop.set_exception_handler(lambda _loop, _context: None)
    async with crowd(loop) as many:

        def answer(member: Member) -> None:
            member.transport.write(b"answer")
            if member is many.members[3]:
                raise LookupError("on purpose")

        many.ask(answer)
        assert isinstance(await many.members[3].lost, LookupError)
        await many.asked()
        assert everything(many.peers[3]) == b"answer"
        for number, peer in enumerate(many.peers):
            if number != 3:
                assert exactly(peer, 6) == b"answer"


def test_what_ends_the_loop_holds_nobodys_answer_back(loop: Loop) -> None:
    def answer(member: Member) -> None:
        member.transport.write(b"answer")
        if sum(bool(each.data) for each in crowds[0].members) == 5:
            raise SystemExit(3)

    crowds: list[Crowd] = []
    go_on = loop.create_future()

    async def main() -> None:
        async with crowd(loop) as many:
            crowds.append(many)
            many.ask(answer)
            await go_on

    task = loop.create_task(main())
    with pytest.raises(SystemExit):
        loop.run_until_complete(task)
    [many] = crowds
    answered = [member for member in many.members if member.data]
    assert len(answered) == 5
    for member in answered:
        assert member.peer is not None
        assert exactly(member.peer, 6) == b"answer"
    go_on.set_result(None)
    loop.run_until_complete(task)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the child does nothing
def test_a_forked_child_sends_nothing_again(loop: Loop) -> None:
    parent = os.getpid()

    def answer(member: Member) -> None:
        member.transport.write(b"one")
        member.transport.write(b"two")
        if sum(bool(each.data) for each in crowds[0].members) == 5:
            child = os.fork()
            if child == 0:
                raise SystemExit(3)
            os.waitpid(child, 0)

    crowds: list[Crowd] = []

    async def main() -> None:
        async with crowd(loop) as many:
            crowds.append(many)
            many.ask(answer)
            await many.asked()
            for peer in many.peers:
                assert exactly(peer, 6) == b"onetwo"

    try:
        loop.run_until_complete(main())
    finally:
        if os.getpid() != parent:
            os._exit(0)


@pytest.mark.only("cloverleaf")  # asyncio has sent already what it would send
@pytest.mark.parametrize("how", ["close", "detach"])
async def test_a_number_that_the_program_took_back_is_not_written_to(loop: Loop, how: str) -> None:
    loop.set_exception_handler(lambda _loop, _context: None)
    socks: list[socket.socket] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        ours, theirs = tcp_pair()
        socks.append(ours)
        return ours, theirs

    strangers, watching = socket.socketpair()
    with strangers, watching:
        async with crowd(loop, pair) as many:

            def answer(member: Member) -> None:
                member.transport.write(b"answer")
                if member is many.members[-1]:
                    # Nothing else may run now: the number of each is at once a stranger's.
                    for sock in socks[:-1]:
                        number = sock.fileno()
                        if how == "close":
                            sock.close()
                        else:
                            os.close(sock.detach())
                        os.dup2(strangers.fileno(), number)
                        numbers.append(number)

            numbers: list[int] = []
            many.ask(answer)
            await many.asked()
            await asyncio.sleep(0)
            assert waiting(watching) == b""
            assert exactly(many.peers[-1], 6) == b"answer"
            for number in numbers:
                os.close(number)
            for member in many.members[:-1]:
                member.transport.abort()
