"""Several datagrams sent in answer to one: all arrive, in order, nobody can tell how they went."""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from .harness.datagrams import LOCALHOST, Mailbox, endpoint, plain_udp
from .harness.turns import until
from .harness.types import Loop

# Python's socket module does not name it; see ip(7).
IP_RECVTTL = 12

Answer = Callable[["Answering", Any], None]


class Answering(Mailbox):
    """Does as it is told when a datagram comes."""

    answer: Answer

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.answer(self, addr)


def answering(answer: Answer) -> Callable[[Loop], Answering]:
    def make(loop: Loop) -> Answering:
        box = Answering(loop)
        box.answer = answer
        return box

    return make


def take_all(peer: socket.socket, count: int) -> list[bytes]:
    """What a plain socket has received already."""
    peer.setblocking(False)
    return [peer.recv(65536) for _ in range(count)]


MANY = [
    pytest.param([b"%d" % (number % 10) for number in range(200)], id="one size"),
    pytest.param([bytes(number % 7) for number in range(1, 200)], id="all sizes"),
    pytest.param([b"ab", b"cd", b"ef", b"gh", b"i", b"jk", b"lm", b"no", b"pq"], id="a short one"),
    pytest.param([b"x", *[b"four"] * 30, b"y", b"", *[b"sixsix"] * 30, b""], id="runs"),
    pytest.param([bytes([number]) * 4000 for number in range(12)], id="long ones"),
    pytest.param([b"s", b"s", b"l" * 9000, b"s", b"s"], id="one too long to wait"),
]


@pytest.mark.parametrize("answers", MANY)
@pytest.mark.parametrize("is_connected", [False, True], ids=["to an address", "to the peer"])
async def test_all_answers_come_in_order(
    loop: Loop, answers: list[bytes], is_connected: bool
) -> None:
    # Before Python 3.13, asyncio does not send what is empty.
    expected = [data for data in answers if data or sys.version_info >= (3, 13)]

    def answer(box: Answering, addr: Any) -> None:
        for data in answers:
            box.transport.sendto(data, None if is_connected else addr)

    with plain_udp() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        remote = peer.getsockname() if is_connected else None
        async with endpoint(loop, LOCALHOST, remote_addr=remote, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.received(1)
            assert take_all(peer, len(expected)) == expected


@pytest.mark.parametrize("singles", [0, 1, 3])
async def test_what_is_sent_after_a_while_does_not_wait(loop: Loop, singles: int) -> None:
    """Also where nothing but single answers had gone before."""
    arrived: list[list[bytes]] = []

    def answer(box: Answering, addr: Any) -> None:
        if len(box.mail) <= singles:
            box.transport.sendto(b"single", addr)
            return
        for number in range(3):
            box.transport.sendto(b"%d" % number, addr)
            arrived.append(take_all(peer, 1))
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass

    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            for number in range(singles + 1):
                peer.sendto(b"?", box.transport.get_extra_info("sockname"))
                await box.received(number + 1)
                if number < singles:
                    assert take_all(peer, 1) == [b"single"]
    assert arrived == [[b"0"], [b"1"], [b"2"]]


@pytest.mark.parametrize("counts", [[1, 5, 1, 5], [1, 1, 1, 200, 200, 1], [5, 1, 2, 1, 3]])
async def test_answers_come_in_order_however_many_there_were_before(
    loop: Loop, counts: list[int]
) -> None:
    def answer(box: Answering, addr: Any) -> None:
        for number in range(counts[len(box.mail) - 1]):
            box.transport.sendto(b"%d" % number, addr)

    with plain_udp() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            for number, count in enumerate(counts):
                peer.sendto(b"?", box.transport.get_extra_info("sockname"))
                await box.received(number + 1)
                assert take_all(peer, count) == [b"%d" % number for number in range(count)]


async def test_answers_to_many_go_each_to_its_own(loop: Loop) -> None:
    peers = [plain_udp() for _ in range(5)]

    def answer(box: Answering, addr: Any) -> None:
        for number in range(40):
            box.transport.sendto(b"%d" % number, peers[number % 5].getsockname())

    try:
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            peers[0].sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.received(1)
            for place, peer in enumerate(peers):
                assert take_all(peer, 8) == [b"%d" % number for number in range(place, 40, 5)]
    finally:
        for peer in peers:
            peer.close()


async def test_a_burst_after_many_single_ones_comes_in_order(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        address = box.transport.get_extra_info("sockname")
        with plain_udp() as peer:
            for number in range(300):
                peer.sendto(b"%d" % number, address)
                await box.received(number + 1)
            for number in range(300, 500):
                peer.sendto(b"%d" % number, address)
                # Fifty of them wait at once, as the loop does not run in between.
                if number % 50 == 49:
                    await box.received(number + 1)
        assert box.data == [b"%d" % number for number in range(500)]


async def test_each_datagram_of_a_burst_is_answered(loop: Loop) -> None:
    async with endpoint(
        loop, LOCALHOST, mailbox=answering(lambda box, addr: box.transport.sendto(b"!", addr))
    ) as box:
        with plain_udp() as peer:
            for _ in range(5):
                for number in range(50):
                    peer.sendto(b"%d" % number, box.transport.get_extra_info("sockname"))
                box.mail.clear()
                await box.received(50)
                assert take_all(peer, 50) == [b"!"] * 50


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_what_was_answered_before_the_end_goes(loop: Loop, end: str) -> None:
    def answer(box: Answering, addr: Any) -> None:
        for number in range(30):
            box.transport.sendto(b"%d" % number, addr)
        getattr(box.transport, end)()

    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.lost
        assert take_all(peer, 30) == [b"%d" % number for number in range(30)]


async def test_what_was_answered_before_an_exception_goes(
    loop: Loop, contexts: list[dict[str, Any]]
) -> None:
    def answer(box: Answering, addr: Any) -> None:
        for number in range(30):
            box.transport.sendto(b"%d" % number, addr)
        raise RuntimeError("after the answers")

    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await until(lambda: bool(contexts))
            assert take_all(peer, 30) == [b"%d" % number for number in range(30)]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_was_answered_before_an_interrupt_goes(
    loop: Loop, ending: type[BaseException]
) -> None:
    def answer(box: Answering, addr: Any) -> None:
        for number in range(30):
            box.transport.sendto(b"%d" % number, addr)
        raise ending

    box = answering(answer)(loop)
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: box, local_addr=LOCALHOST)
    )
    with plain_udp() as peer:
        peer.sendto(b"?", transport.get_extra_info("sockname"))
        with pytest.raises(ending):
            loop.run_forever()
        assert take_all(peer, 30) == [b"%d" % number for number in range(30)]
    transport.close()
    loop.run_until_complete(box.lost)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_what_is_sent_behind_the_end_goes_until_the_end_is_told(loop: Loop, end: str) -> None:
    def answer(box: Answering, addr: Any) -> None:
        for data in b"1", b"2":
            box.transport.sendto(data, addr)
        getattr(box.transport, end)()
        for data in b"3", b"4":
            box.transport.sendto(data, addr)

    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.lost
        assert take_all(peer, 4) == [b"1", b"2", b"3", b"4"]


def to_nobody(box: Answering, addr: Any) -> None:
    """Send eight answers, the fourth to a port that there is not."""
    for number in range(8):
        box.transport.sendto(b"%d" % number, (addr[0], addr[1] if number != 3 else 0))


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_an_error_that_ends_the_endpoint_loses_no_other_answer(loop: Loop, end: str) -> None:
    class Ending(Answering):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            getattr(self.transport, end)()

    def make(loop: Loop) -> Ending:
        box = Ending(loop)
        box.answer = to_nobody
        return box

    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, mailbox=make) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.lost
            assert [type(error) for error in box.errors] == [OSError]
        assert take_all(peer, 7) == [b"%d" % number for number in (0, 1, 2, 4, 5, 6, 7)]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="empty datagrams are sent from 3.13 on")
async def test_an_empty_datagram_of_an_errors_is_sent(loop: Loop) -> None:
    class Telling(Answering):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.sendto(b"", self.mail[0][1])

    def answer(box: Answering, addr: Any) -> None:
        box.transport.sendto(b"first", addr)
        box.transport.sendto(b"lost", (addr[0], 0))
        box.transport.get_write_buffer_size()  # tells of what was not sent

    def make(loop: Loop) -> Telling:
        box = Telling(loop)
        box.answer = answer
        return box

    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, mailbox=make) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.failed()
            assert take_all(peer, 2) == [b"first", b""]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_error_that_ends_the_run_loses_no_datagram_of_the_burst(
    loop: Loop, ending: type[BaseException]
) -> None:
    class Interrupted(Answering):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise ending

    def answer(box: Answering, addr: Any) -> None:
        # Bursts come in one call only once one was seen, so the first ones are not answered.
        if len(box.mail) != 203:
            return
        box.transport.sendto(b"sent at once", addr)
        box.transport.sendto(b"lost", (addr[0], 0))
        began = time.perf_counter()
        while time.perf_counter() - began < 0.001:
            pass  # so long that what is held is overdue when this returns

    box = Interrupted(loop)
    box.answer = answer
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: box, local_addr=LOCALHOST)
    )
    with plain_udp() as peer:
        for burst in range(1, 5):
            for number in range(50):
                peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
            loop.run_until_complete(box.received(50 * burst))
        for number in range(50):
            peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        with pytest.raises(ending):
            loop.run_forever()
        loop.run_until_complete(box.received(250))
        assert box.data == [b"%d" % number for number in range(50)] * 5
    transport.close()
    loop.run_until_complete(box.lost)


async def test_an_answer_cannot_be_changed_any_more(loop: Loop) -> None:
    def answer(box: Answering, addr: Any) -> None:
        data = bytearray(b"0")
        for number in range(10):
            data[:] = b"%d" % number
            box.transport.sendto(data, addr)
        data[:] = b"x"

    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.received(1)
            assert take_all(peer, 10) == [b"%d" % number for number in range(10)]


async def test_whoever_asks_for_the_buffer_finds_the_answers_sent(loop: Loop) -> None:
    with plain_udp() as peer:
        seen: list[list[bytes]] = []

        def answer(box: Answering, addr: Any) -> None:
            for number in range(10):
                box.transport.sendto(b"%d" % number, addr)
            assert box.transport.get_write_buffer_size() == 0
            seen.append(take_all(peer, 10))

        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.received(1)
            assert seen == [[b"%d" % number for number in range(10)]]


async def test_options_are_for_what_is_sent_after_them(loop: Loop) -> None:
    def answer(box: Answering, addr: Any) -> None:
        box.transport.sendto(b"first", addr)
        box.transport.sendto(b"second", addr)
        sock = box.transport.get_extra_info("socket")
        for ttl in (7, 8, 9):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            box.transport.sendto(b"%d" % ttl, addr)

    with plain_udp() as peer:
        peer.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.received(1)
            peer.setblocking(False)
            for expected in (b"first", b"second", b"7", b"8", b"9"):
                data, ancillary, _, _ = peer.recvmsg(100, 100)
                ttl = int.from_bytes(ancillary[0][2], "little")
                assert data == expected
                assert (ttl in (7, 8, 9)) == data.isdigit()
                assert not data.isdigit() or data == b"%d" % ttl


async def test_options_of_a_socket_of_the_program_are_for_what_is_sent_after_them(
    loop: Loop,
) -> None:
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(LOCALHOST)

    def answer(box: Answering, addr: Any) -> None:
        for ttl in (7, 8, 9):
            own.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            box.transport.sendto(b"%d" % ttl, addr)

    with plain_udp() as peer:
        peer.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        async with endpoint(loop, sock=own, mailbox=answering(answer)) as box:
            peer.sendto(b"?", own.getsockname())
            await box.received(1)
            peer.setblocking(False)
            for ttl in (7, 8, 9):
                data, ancillary, _, _ = peer.recvmsg(100, 100)
                assert (data, int.from_bytes(ancillary[0][2], "little")) == (b"%d" % ttl, ttl)


async def test_an_answer_to_nobody_is_told_and_the_rest_goes(loop: Loop) -> None:
    def answer(box: Answering, addr: Any) -> None:
        for number in range(10):
            port = 0 if number == 5 else addr[1]
            box.transport.sendto(b"%d" % number, (addr[0], port))

    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            await box.received(1)
            assert take_all(peer, 9) == [b"%d" % number for number in range(10) if number != 5]
            assert [getattr(error, "errno", None) for error in box.errors] == [errno.EINVAL]


async def test_a_peer_that_is_gone_is_told(loop: Loop) -> None:
    def answer(box: Answering, addr: Any) -> None:
        for _ in range(20):
            box.transport.sendto(b"answer")

    with plain_udp() as peer:
        remote = peer.getsockname()
        async with endpoint(loop, LOCALHOST, remote_addr=remote, mailbox=answering(answer)) as box:
            peer.sendto(b"?", box.transport.get_extra_info("sockname"))
            peer.close()
            await until(lambda: bool(box.errors))
            assert {type(error) for error in box.errors} == {ConnectionRefusedError}
            assert not box.transport.is_closing()
