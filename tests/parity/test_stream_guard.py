"""Answers reach their peers although a callback blocks before the loop can go on."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import select
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from .harness import garbage
from .harness.backends import loop_on
from .harness.crowds import COUNT, Crowd, Member, clients, exactly, in_full, waiting
from .harness.leaks import guards
from .harness.links import accepted
from .harness.program import Program
from .harness.protocols import Recorder
from .harness.turns import until
from .harness.types import Loop
from .test_stream_answers import Answering, answering

WATCHERS = 400
LIBC = ctypes.PyDLL(None, use_errno=True)  # its functions are called with the GIL held


def blocked_in_c(peer: socket.socket, count: int) -> bytes:
    """Receive while the GIL is held, for 60 s at most each time."""
    room = ctypes.create_string_buffer(count)
    peer.setblocking(True)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 60, 0))
    received = b""
    # The kernel ends a wait early, with some of it or with EINTR, once for each ring of an earlier
    # loop that it takes apart.
    while len(received) < count:
        more = LIBC.recv(peer.fileno(), room, count - len(received), socket.MSG_WAITALL)
        if more == 0 or (more < 0 and ctypes.get_errno() != errno.EINTR):
            break
        received += room.raw[: max(more, 0)]
    peer.settimeout(60)
    return received


@pytest.mark.parametrize("blocked", [blocked_in_c, in_full])
async def test_a_protocol_that_blocks_for_its_own_answer_gets_it(
    loop: Loop, blocked: Callable[[socket.socket, int], bytes]
) -> None:
    received: list[bytes] = []
    async with answering(loop) as (ours, peer):

        def answer(transport: asyncio.Transport) -> None:
            for number in range(3):
                transport.write(b"one%d" % number)
                transport.write(b"two")
                transport.writelines([b"thr", b"ee"])
                received.append(blocked(peer, 12))
            transport.write(b"large" * 20_000)
            transport.write(b"end")
            received.append(blocked(peer, 1000))

        ours.answer = answer
        peer.sendall(b"?")
        await until(lambda: len(received) == 4 or ours.error is not None)
        assert ours.error is None
        assert received[:3] == [b"one%dtwothree" % number for number in range(3)]
        rest = await loop.run_in_executor(None, in_full, peer, 99_003)
        assert received[3] + rest == b"large" * 20_000 + b"end"


async def blocks_for_the_others(loop: Loop) -> None:
    """Let each of many block for what those before it in the turn, and it itself, have written."""
    async with clients(loop) as many:
        for lap in range(20):
            before: list[Member] = []
            seen: list[bytes] = []

            def answer(member: Member) -> None:
                member.transport.write(b"answer")
                before.append(member)  # noqa: B023 - called in this lap only
                if len(before) % 3 == 0:  # noqa: B023
                    for each in before:  # noqa: B023
                        assert each.peer is not None
                        seen.append(in_full(each.peer, 6))  # noqa: B023
                    before.clear()  # noqa: B023

            for member in many.members:
                member.calls.clear()
            many.ask(answer, b"%d" % lap)
            await many.asked()
            for member in before:
                assert member.peer is not None
                seen.append(in_full(member.peer, 6))
            assert seen == [b"answer"] * COUNT


async def test_protocols_may_block_for_what_others_have_just_written(loop: Loop) -> None:
    await blocks_for_the_others(loop)


@pytest.mark.only("cloverleaf")
def test_they_may_where_answers_are_sent_together() -> None:
    with loop_on("io_uring") as loop:
        loop.run_until_complete(blocks_for_the_others(loop))


async def test_a_long_callback_delays_no_answer_of_before(loop: Loop) -> None:
    """It computes and never lets go of Python by itself."""
    came: list[bool] = []

    def answer(member: Member) -> None:
        member.transport.write(b"one")
        member.transport.write(b"two")
        assert member.peer is not None
        ends = time.monotonic() + 60
        member.peer.setblocking(False)
        while len(waiting(member.peer)) < 6 and time.monotonic() < ends:
            pass
        came.append(waiting(member.peer) == b"onetwo")
        member.peer.settimeout(60)

    async with clients(loop) as many:
        many.ask(answer)
        await many.asked()
        assert came == [True] * COUNT


async def test_what_fails_meanwhile_is_told_when_the_loop_goes_on(loop: Loop) -> None:
    async with accepted(loop, Answering) as (ours, peer):

        def answer(transport: asyncio.Transport) -> None:
            transport.write(b"one")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            transport.write(b"two")
            # Long enough for whoever sends it in the loop's place.
            threading.Event().wait(0.02)
            transport.write(b"three")

        ours.answer = answer
        peer.sendall(b"?")
        error = await ours.lost
        assert ours.error is None
        assert isinstance(error, ConnectionError)


async def test_a_full_socket_takes_the_rest_in_order_when_the_loop_goes_on(loop: Loop) -> None:
    async with answering(loop) as (ours, peer):
        pieces = [bytes([number]) * 4000 for number in range(256)] * 12
        held = [b"a" * 900, b"b" * 900]

        def answer(transport: asyncio.Transport) -> None:
            for piece in pieces:
                transport.write(piece)

        def then_little(transport: asyncio.Transport) -> None:
            for piece in held:
                transport.write(piece)
            threading.Event().wait(0.005)
            transport.write(b"c")

        ours.answer = answer
        peer.sendall(b"?")
        await until(lambda: ours.data)
        ours.answer = then_little
        peer.sendall(b"!")
        wanted = b"".join(pieces + held) + b"c"
        received = await loop.run_in_executor(None, in_full, peer, len(wanted))
        assert received == wanted


class Own:
    """Something that can be seen to go."""


class Kept(Recorder):
    """Has something that nobody else has."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.own = Own()


@pytest.mark.only("cloverleaf")  # asyncio has sent all of it before anybody could collect
async def test_what_only_a_transport_holds_is_no_garbage_while_its_answer_is_sent(
    loop: Loop,
) -> None:
    """The collector looks at everything twice, and must find the same each time."""
    garbage.set_aside()
    protocols: list[Kept] = []

    def made() -> Kept:
        protocols.append(Kept(loop))
        return protocols[-1]

    server = await loop.create_server(made, "127.0.0.1", 0)
    async with answering(loop) as (ours, asking):
        with socket.create_connection(server.sockets[0].getsockname()) as peer, ExitStack() as many:
            await until(lambda: protocols)
            await protocols[0].made
            transport, own = protocols[0].transport, weakref.ref(protocols[0].own)
            protocols.clear()
            # So many are told of what arrives that sending takes longer than collecting.
            for _ in range(WATCHERS):
                watcher = many.enter_context(select.epoll())
                watcher.register(peer, select.EPOLLIN)
            collections: list[int] = []

            def answer(_: asyncio.Transport) -> None:
                transport.write(b"one")
                transport.write(b"two")
                ends = time.monotonic() + 60
                while len(waiting(peer)) < 6 and time.monotonic() < ends:
                    collections.append(gc.collect())
                assert in_full(peer, 6) == b"onetwo"

            ours.answer = answer
            for lap in range(100):
                asking.sendall(b"?")
                await until(lambda: len(ours.data) > lap)  # noqa: B023 - it is of this lap
                assert ours.error is None
                assert own() is not None
            assert collections
            transport.abort()
    server.close()


FORKING = """
import asyncio, os, socket, threading

def recv(peer, count):
    received = b""
    while len(received) < count:
        received += peer.recv(count - len(received))
    return received

def forked(peer):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"%d" % len(os.listdir("/proc/self/task")))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return said

class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        peer = peers[self.transport.get_extra_info("peername")]
        self.transport.write(b"one")
        self.transport.write(b"two")
        threads.add(forked(peer))
        self.transport.write(b"three")
        received.append(recv(peer, 11))
        self.transport.write(b"four")
        self.transport.write(b"five")
        received.append(recv(peer, 8))

peers, received, threads = {}, [], set()

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0)
    for _ in range(5):
        peer = socket.create_connection(server.sockets[0].getsockname())
        peer.settimeout(60)
        peers[peer.getsockname()] = peer
    for lap in range(3):
        for peer in peers.values():
            peer.sendall(b"?")
        while len(received) < 10 * (lap + 1):
            await asyncio.sleep(0)
    server.close()

loop = new_event_loop()
loop.run_until_complete(main())
print(set(received), threads)
loop.close()
"""


@pytest.mark.parametrize("backend", ["auto", "io_uring"])
def test_a_fork_meanwhile_sends_all_once_and_meets_no_other_thread(
    program: Program, backend: str
) -> None:
    with loop_on(backend):
        pass
    # A fork beside another thread warns, from Python 3.12 on.
    out = program.output(FORKING, "-W", "error", env={"CLOVERLEAF_BACKEND": backend})
    assert out in (
        "{b'onetwothree', b'fourfive'} {b'1'}",
        "{b'fourfive', b'onetwothree'} {b'1'}",
    )


def status(thread: int, name: str) -> str:
    """Return what the kernel says of a thread."""
    lines = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(name + ":"))


@pytest.mark.only("cloverleaf")
async def test_the_guard_hears_no_signal_and_sleeps_when_nothing_is_held(loop: Loop) -> None:
    def answer(member: Member) -> None:
        member.transport.write(b"one")
        member.transport.write(b"two")

    async with clients(loop) as many:
        many.ask(answer)
        await many.asked()
        for peer in many.peers:
            assert exactly(peer, 6) == b"onetwo"
        await until(guards)  # its thread takes its name when it begins
        (guard,) = guards()
        # All but those that nobody can block: SIGKILL, SIGSTOP, and two of the C library's own.
        assert int(status(guard, "SigBlk"), 16) | 0x1_8004_0100 == (1 << 64) - 1

        def looks() -> int:
            return int(status(guard, "voluntary_ctxt_switches"))

        async def is_at_rest() -> bool:
            before = looks()
            await asyncio.sleep(0.05)
            return looks() == before

        # If it never sleeps, the test's deadline ends this.
        while not await is_at_rest():
            pass


@pytest.mark.only("cloverleaf")
async def test_a_transport_that_is_closed_while_its_answer_is_held_has_sent_it(loop: Loop) -> None:
    crowd: list[Crowd] = []

    def answer(member: Member) -> None:
        member.transport.write(b"one")
        member.transport.write(b"two")
        (many,) = crowd
        if member is many.members[-1]:
            for other in many.members:
                other.transport.abort()
                threading.Event().wait(0.002)

    async with clients(loop) as many:
        crowd.append(many)
        many.ask(answer)
        await many.asked()
        for peer in many.peers:
            assert in_full(peer, 6) == b"onetwo"


async def test_what_is_sent_at_once_overtakes_nothing_that_was_written_before(loop: Loop) -> None:
    """Who has seen the later finds the earlier, without a wait."""
    overtaken: list[int] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as notified:
        notified.bind(("127.0.0.1", 0))
        notified.settimeout(60)
        notifier, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=notified.getsockname()
        )
        async with clients(loop) as many:
            last = many.members[-1]

            def answer(member: Member) -> None:
                if member is last:
                    return
                assert member.peer is not None
                assert last.peer is not None
                turn = many.members.index(member)
                member.transport.write(b"one")
                member.transport.write(b"two")
                if turn % 3 == 0:
                    last.transport.write(b"x" * 5000)
                    in_full(last.peer, 5000)
                elif turn % 3 == 1:
                    last.transport.writelines([b"x" * 3000, b"x" * 3000])
                    in_full(last.peer, 6000)
                else:
                    notifier.sendto(b"notify")
                    notified.recv(100)
                if waiting(member.peer) != b"onetwo":
                    overtaken.append(turn)
                assert in_full(member.peer, 6) == b"onetwo"

            for _ in range(5):
                for member in many.members:
                    member.calls.clear()
                many.ask(answer)
                await many.asked()
        notifier.close()
    assert overtaken == []
