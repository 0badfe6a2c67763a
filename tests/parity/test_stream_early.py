"""What many connections have received in one turn: who hears of it, when, and in which order.

With a ring, what came for the later ones has left the kernel before the first protocol is told.
None of them may see a difference, whatever they do to each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import struct
import types
from collections.abc import Callable, Generator
from typing import Any

import pytest

from .harness.certificates import HOST, client_context, server_context
from .harness.crowds import COUNT, Crowd, Member, clients, waiting
from .harness.protocols import Buffered, Recorder
from .harness.turns import turns, until
from .harness.types import Loop

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
Deed = Callable[[Member], object]


async def first_does(many: Crowd, deed: Deed, question: bytes = b"?") -> Member:
    """Make all ready; the first one that is told does something to another, which is returned."""
    others: list[Member] = []

    def answer(member: Member) -> None:
        if not others:
            [*_, other] = (each for each in many.members if each is not member)
            assert not other.data
            others.append(other)
            deed(other)

    many.ask(answer, question)
    await until(lambda: others)
    [other] = others
    await until(lambda: all(each.data for each in many.members if each is not other))
    return other


@FAMILIES
async def test_one_that_another_pauses_hears_nothing_until_it_resumes(
    loop: Loop, family: int
) -> None:
    async with clients(loop, family) as many:
        other = await first_does(many, lambda it: it.transport.pause_reading())
        assert other.peer is not None
        other.peer.sendall(b" and more")
        await turns(5)
        assert not other.data
        order: list[object] = []
        other.answer = lambda it: order.append(bytes(it.data[:1]))

        def soon() -> None:
            order.append("soon")
            loop.call_soon(order.append, "later")

        other.transport.resume_reading()
        loop.call_soon(soon)
        assert order == []
        # In the very next turn, as a socket that is readable.
        await turns(3)
        assert order[:3] == ["soon", b"?", "later"]
        assert await other.received(10) == b"? and more"


@FAMILIES
async def test_one_that_is_paused_again_before_it_is_told_still_hears_nothing(
    loop: Loop, family: int
) -> None:
    async with clients(loop, family) as many:
        other = await first_does(many, lambda it: it.transport.pause_reading())
        for _ in range(3):
            other.transport.resume_reading()
            other.transport.pause_reading()
            await turns(3)
            assert not other.data
        other.transport.resume_reading()
        assert await other.received(1) == b"?"
        assert other.peer is not None
        other.peer.sendall(b"more")
        assert await other.received(4) == b"more"


@FAMILIES
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_one_that_another_ends_hears_of_no_data(loop: Loop, family: int, end: str) -> None:
    async with clients(loop, family) as many:
        other = await first_does(many, lambda it: getattr(it.transport, end)())
        assert await other.lost is None
        assert other.calls == ["connection_made", "connection_lost"]
        assert other.peer is not None
        if family == socket.AF_INET:
            # So that the peer learns that what it has sent was not read.
            with pytest.raises(ConnectionResetError):
                other.peer.recv(1)


async def test_one_that_is_paused_and_closed_resets_what_was_not_read(loop: Loop) -> None:
    async with clients(loop) as many:
        other = await first_does(many, lambda it: it.transport.pause_reading())
        other.transport.close()
        await other.lost
        assert not other.data
        assert other.peer is not None
        with pytest.raises(ConnectionResetError):
            other.peer.recv(1)


@FAMILIES
async def test_those_that_end_after_they_were_told_reset_nothing(loop: Loop, family: int) -> None:
    async with clients(loop, family) as many:
        many.ask(lambda it: it.transport.close())
        for member in many.members:
            assert await member.lost is None
            assert member.peer is not None
            assert member.peer.recv(1) == b""


@FAMILIES
async def test_a_protocol_that_another_sets_hears_of_the_data(loop: Loop, family: int) -> None:
    async with clients(loop, family) as many:
        new = Recorder(loop)
        new.made.set_result(many.members[-1].transport)
        other = await first_does(many, lambda it: it.transport.set_protocol(new))
        assert await new.received(1) == b"?"
        assert not other.data
        assert other.peer is not None
        other.peer.sendall(b"more")
        assert await new.received(4) == b"more"
        other.transport.set_protocol(other)


@FAMILIES
@pytest.mark.parametrize("room", [1, 3, 100])
async def test_a_protocol_with_a_buffer_that_another_sets_gets_all_in_order(
    loop: Loop, family: int, room: int
) -> None:
    async with clients(loop, family) as many:
        new = Buffered(loop, room)

        def hand_over(it: Member) -> None:
            it.transport.set_protocol(new)
            assert it.peer is not None
            it.peer.sendall(b" and more")

        other = await first_does(many, hand_over, b"0123456789")
        assert await new.received(19) == b"0123456789 and more"
        assert not other.data
        other.transport.set_protocol(other)


@FAMILIES
async def test_one_whose_socket_another_asks_for_is_told_nevertheless(
    loop: Loop, family: int
) -> None:
    async with clients(loop, family) as many:
        other = await first_does(many, lambda it: it.transport.get_extra_info("socket").fileno())
        assert await other.received(1) == b"?"
        for lap in range(3):
            many.ask(question=b"%d" % lap)
            assert await other.received(1) == b"%d" % lap


async def test_one_that_another_puts_under_tls_has_its_handshake(loop: Loop) -> None:
    hello = ssl.MemoryBIO()
    answers = ssl.MemoryBIO()
    client = client_context().wrap_bio(answers, hello, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    secure = Recorder(loop)
    begun: list[tuple[Any, Any]] = []

    def upgrade(it: Member) -> None:
        upgrading = loop.start_tls(it.transport, secure, server_context(), server_side=True)
        # Its first step, now.
        begun.append((upgrading.send(None), upgrading))

    @types.coroutine
    def rest() -> Generator[Any, Any, asyncio.Transport | None]:
        [(awaited, upgrading)] = begun
        yield awaited
        upgraded: asyncio.Transport | None = yield from upgrading
        return upgraded

    def hand_shake(peer: socket.socket) -> None:
        while True:
            answers.write(peer.recv(1 << 16))
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                continue
            finally:
                peer.sendall(hello.read())
            client.write(b"under TLS")
            return peer.sendall(hello.read())

    async with clients(loop) as many:
        other = await first_does(many, upgrade, hello.read())
        assert other.peer is not None
        shaken = loop.run_in_executor(None, hand_shake, other.peer)
        upgraded = await asyncio.wait_for(rest(), 60)
        assert upgraded is not None
        await shaken
        assert await secure.received(9) == b"under TLS"
        assert not other.data
        upgraded.abort()
        # It is told in its stead.
        other.lost.set_result(await secure.lost)


@FAMILIES
@pytest.mark.parametrize("pauses", [False, True])
async def test_data_and_the_end_come_one_after_the_other(
    loop: Loop, family: int, pauses: bool
) -> None:
    async with clients(loop, family) as many:
        if pauses:
            first, *_, other = many.members
            first.answer = lambda _: other.transport.pause_reading()
        for peer in many.peers:
            peer.sendall(b"all")
            peer.shutdown(socket.SHUT_WR)
        if pauses:
            await first.lost
            await turns(5)
            assert not other.data
            other.transport.resume_reading()
        for member in many.members:
            assert await member.lost is None
            assert bytes(member.data) == b"all"
            assert member.calls[1:] == ["data_received", "eof_received", "connection_lost"]


@FAMILIES
async def test_the_end_alone_waits_while_another_has_paused_it(loop: Loop, family: int) -> None:
    async with clients(loop, family) as many:
        for peer in many.peers[:-1]:
            peer.sendall(b"?")
        last = many.members[-1]
        many.peers[-1].shutdown(socket.SHUT_WR)
        for member in many.members[:-1]:
            member.answer = lambda _: last.transport.pause_reading()
        await until(lambda: all(member.data for member in many.members[:-1]))
        await turns(5)
        assert last.calls == ["connection_made"]
        last.transport.resume_reading()
        await last.lost
        assert last.calls == ["connection_made", "eof_received", "connection_lost"]


@pytest.mark.parametrize("pauses", [False, True])
async def test_a_reset_is_told_once_and_only_when_reading(loop: Loop, pauses: bool) -> None:
    async with clients(loop) as many:
        last = many.members[-1]
        for peer in many.peers[:-1]:
            peer.sendall(b"?")
        many.peers[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        many.peers[-1].close()
        if pauses:
            for member in many.members[:-1]:
                member.answer = lambda _: last.transport.pause_reading()
        await until(lambda: all(member.data for member in many.members[:-1]))
        if pauses:
            await turns(5)
            assert last.calls == ["connection_made"]
            last.transport.resume_reading()
        assert isinstance(await last.lost, ConnectionResetError)
        assert last.calls == ["connection_made", "connection_lost"]


@FAMILIES
async def test_what_comes_between_arrives_behind(loop: Loop, family: int) -> None:
    async with clients(loop, family) as many:

        def send_more(member: Member) -> None:
            if member.calls.count("data_received") == 1:
                for each in many.peers:
                    each.sendall(b"%d" % many.members.index(member))

        many.ask(send_more)
        for member in many.members:
            received = await member.received(1 + COUNT)
            assert received[:1] == b"?"
            assert sorted(received[1:]) == sorted(b"01234567")


@FAMILIES
async def test_messages_of_all_sizes_come_whole_and_in_order(loop: Loop, family: int) -> None:
    sizes = random.Random(5)
    async with clients(loop, family) as many:
        for _ in range(60):
            messages = [
                sizes.randbytes(sizes.choice([1, 100, 4095, 4096, 4097, 10_000, 30_000]))
                for _ in many.peers
            ]
            for peer, message in zip(many.peers, messages, strict=True):
                peer.sendall(message)
            for member, message in zip(many.members, messages, strict=True):
                assert await member.received(len(message)) == message


@FAMILIES
async def test_those_that_pause_and_resume_each_other_at_random_lose_nothing(
    loop: Loop, family: int
) -> None:
    chance = random.Random(7)
    async with clients(loop, family) as many:
        paused: set[Member] = set()

        def meddle(member: Member) -> None:
            assert member not in paused
            other = chance.choice(many.members)
            if chance.random() < 0.5:
                other.transport.pause_reading()
                paused.add(other)
            else:
                other.transport.resume_reading()
                paused.discard(other)

        sent = [bytearray() for _ in many.peers]
        for member in many.members:
            member.answer = meddle
        for _ in range(100):
            for peer, all_of_it in zip(many.peers, sent, strict=True):
                message = chance.randbytes(chance.choice([1, 10, 500]))
                peer.sendall(message)
                all_of_it.extend(message)
            await turns(chance.randrange(4))
            if len(paused) == COUNT:
                last = paused.pop()
                last.transport.resume_reading()
        for member in many.members:
            member.answer = repr
            member.transport.resume_reading()
        for member, all_of_it in zip(many.members, sent, strict=True):
            assert await member.received(len(all_of_it)) == all_of_it


@FAMILIES
def test_when_the_loop_stops_in_between_all_are_told_in_that_turn(loop: Loop, family: int) -> None:
    async def begin() -> None:
        many = await stack.enter_async_context(clients(loop, family))
        crowds.append(many)
        many.ask(lambda _: loop.stop())

    crowds: list[Crowd] = []
    stack = contextlib.AsyncExitStack()
    task = loop.create_task(begin())
    loop.run_forever()
    [many] = crowds
    assert task.done()
    assert [bytes(member.data) for member in many.members] == [b"?"] * COUNT
    loop.run_until_complete(stack.aclose())


@FAMILIES
def test_when_a_protocol_ends_the_run_the_others_are_told_in_the_next(
    loop: Loop, family: int
) -> None:
    def answer(member: Member) -> None:
        if not any(each.data for each in crowds[0].members if each is not member):
            for peer in crowds[0].peers:
                peer.sendall(b"!")
            raise SystemExit(3)

    crowds: list[Crowd] = []
    go_on = loop.create_future()

    async def main() -> None:
        async with clients(loop, family) as many:
            crowds.append(many)
            many.ask(answer)
            await go_on
            for member in many.members:
                assert await member.received(2) == b"?!"

    task = loop.create_task(main())
    with pytest.raises(SystemExit):
        loop.run_until_complete(task)
    go_on.set_result(None)
    loop.run_until_complete(task)


@FAMILIES
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the child does nothing
def test_a_child_that_is_forked_in_between_takes_nothing_away(loop: Loop, family: int) -> None:
    parent = os.getpid()

    def fork(_: Member) -> None:
        child = os.fork()
        if child == 0:
            raise SystemExit(3)
        assert os.waitpid(child, 0)[1] == 0

    async def main() -> None:
        async with clients(loop, family) as many:
            await first_does(many, fork)
            for member in many.members:
                assert await member.received(1) == b"?"
            many.ask(lambda it: it.transport.write(bytes(it.data)))
            await until(lambda: all(waiting(peer) == b"?" for peer in many.peers))

    try:
        loop.run_until_complete(main())
    finally:
        if os.getpid() != parent:
            os._exit(0)
