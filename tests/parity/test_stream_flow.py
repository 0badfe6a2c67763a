"""Flow control: reading paused and resumed, and exact water marks for writing."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from .harness.kinds import spares_asyncio
from .harness.links import both_ends, linked, tcp_pair
from .harness.protocols import Recorder
from .harness.turns import turns, until
from .harness.types import Loop

MEBIBYTE = 1 << 20


def fill(transport: asyncio.Transport) -> None:
    """Write until the kernel takes no more, so that every further byte waits with us."""
    while transport.get_write_buffer_size() == 0 and not transport.is_closing():
        transport.write(bytes(MEBIBYTE))


async def test_a_paused_transport_reads_nothing(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.pause_reading()
        peer.sendall(b"waits")
        await turns(10)
        assert ours.data == b""
        ours.transport.resume_reading()
        assert await ours.received(5) == b"waits"


# Until 3.11.4 asyncio began to read all the same (gh-103607).
@spares_asyncio(sys.version_info < (3, 11, 4))
async def test_pause_reading_in_connection_made_holds(loop: Loop) -> None:
    class Pausing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async with linked(loop, Pausing) as (ours, peer):
        peer.sendall(b"waits")
        await turns(10)
        assert ours.data == b""
        assert not ours.transport.is_reading()
        ours.transport.resume_reading()
        assert await ours.received(5) == b"waits"


async def test_pause_reading_in_data_received_holds(loop: Loop) -> None:
    class Pausing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async with linked(loop, Pausing) as (ours, peer):
        peer.sendall(b"first")
        assert await ours.received(5) == b"first"
        peer.sendall(b"second")
        await turns(10)
        assert ours.data == b""
        ours.transport.resume_reading()
        assert await ours.received(6) == b"second"


async def test_is_reading_tells_the_state(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        transport = ours.transport
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.close()
        assert not transport.is_reading()


async def test_pause_and_resume_after_close_are_ignored(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.close()
        ours.transport.pause_reading()
        ours.transport.resume_reading()
        await ours.lost
        ours.transport.pause_reading()
        ours.transport.resume_reading()
        assert not ours.transport.is_reading()


async def test_a_paused_transport_does_not_see_the_peers_end(loop: Loop) -> None:
    async with linked(loop, Recorder, tcp_pair) as (ours, peer):
        ours.transport.pause_reading()
        peer.close()
        await turns(10)
        assert ours.calls == ["connection_made"]
        ours.transport.resume_reading()
        assert await ours.lost is None


async def test_the_default_limits_are_64_and_16_kibibytes(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        assert ours.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (16 * 1024, 64 * 1024)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 1000, "low": 10}, (10, 1000)),
        ({"high": 0}, (0, 0)),
        ({"high": 0, "low": 0}, (0, 0)),
        ({"high": 3}, (0, 3)),
        ({"high": 100, "low": 100}, (100, 100)),
        ({"low": 0}, (0, 0)),
    ],
)
async def test_limits_can_be_set(
    loop: Loop, arguments: dict[str, Any], expected: tuple[int, int]
) -> None:
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.set_write_buffer_limits(**arguments)
        assert ours.transport.get_write_buffer_limits() == expected


@pytest.mark.parametrize(("high", "low"), [(10, 11), (-1, None), (10, -1), (-2, -1), (0, 1)])
async def test_limits_that_make_no_sense_are_refused(
    loop: Loop, high: int, low: int | None
) -> None:
    async with linked(loop, Recorder) as (ours, _):
        text = r"^high \(.*\) must be >= low \(.*\) must be >= 0$"
        with pytest.raises(ValueError, match=text):
            ours.transport.set_write_buffer_limits(high=high, low=low)


async def test_the_write_buffer_size_counts_what_waits(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        transport = ours.transport
        assert transport.get_write_buffer_size() == 0
        transport.write(b"sent at once")
        assert transport.get_write_buffer_size() == 0
        fill(transport)
        before = transport.get_write_buffer_size()
        transport.write(bytes(100))
        assert transport.get_write_buffer_size() == before + 100
        transport.write(bytearray(11))
        transport.writelines([bytes(5), bytes(6)])
        assert transport.get_write_buffer_size() == before + 122
        peer.close()


async def test_writing_pauses_just_above_the_high_mark(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        transport = ours.transport
        transport.set_write_buffer_limits(high=1 << 30)
        fill(transport)
        waiting = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=waiting + 100, low=0)
        transport.write(bytes(100))
        assert ours.calls == ["connection_made"]
        transport.write(b"x")
        assert ours.calls == ["connection_made", "pause_writing"]
        transport.write(bytes(1000))
        assert ours.calls == ["connection_made", "pause_writing"]


# asyncio forgot to from 3.12.0 on, until 3.12.9 and 3.13.2 (gh-127655).
FORGETFUL = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)


@spares_asyncio(FORGETFUL)
async def test_writelines_pauses_writing_too(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.set_write_buffer_limits(high=100)
        ours.transport.writelines([bytes(4 * MEBIBYTE), bytes(4 * MEBIBYTE)])
        assert ours.calls == ["connection_made", "pause_writing"]


async def test_a_lower_high_mark_pauses_at_once(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        ours.transport.set_write_buffer_limits(high=1 << 30)
        fill(ours.transport)
        assert ours.calls == ["connection_made"]
        ours.transport.set_write_buffer_limits(high=10)
        assert ours.calls == ["connection_made", "pause_writing"]


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_pause_writing_may_end_the_connection(loop: Loop, end: str) -> None:
    class Ending(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            getattr(self.transport, end)()

    async with linked(loop, Ending) as (ours, peer):
        ours.transport.set_write_buffer_limits(high=0)
        fill(ours.transport)
        peer.close()
        await asyncio.wait([ours.lost])
        assert ours.calls.count("connection_lost") == 1
        assert ours.calls[-1] == "connection_lost"


async def test_writing_resumes_at_the_low_mark(loop: Loop) -> None:
    sizes: list[int] = []

    class Looking(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            sizes.append(self.transport.get_write_buffer_size())

    async with linked(loop, Looking) as (ours, peer):
        transport = ours.transport
        transport.set_write_buffer_limits(high=100_000, low=50_000)
        fill(transport)
        assert ours.calls == ["connection_made", "pause_writing"]
        while "resume_writing" not in ours.calls:
            assert transport.get_write_buffer_size() > 50_000
            peer.recv(20_000)
            await turns(2)
        assert sizes[0] <= 50_000
        assert ours.calls == ["connection_made", "pause_writing", "resume_writing"]


async def test_high_mark_zero_pauses_as_soon_as_anything_waits(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        ours.transport.set_write_buffer_limits(high=0)
        ours.transport.write(b"sent at once")
        assert ours.calls == ["connection_made"]
        fill(ours.transport)
        assert ours.calls == ["connection_made", "pause_writing"]
        while "resume_writing" not in ours.calls:
            peer.recv(MEBIBYTE)
            await turns(2)
        assert ours.transport.get_write_buffer_size() == 0


async def test_pause_and_resume_alternate(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        ends.client.transport.set_write_buffer_limits(high=0)
        for _ in range(5):
            fill(ends.client.transport)
            await until(lambda: ends.client.transport.get_write_buffer_size() == 0)
        pairs = ends.client.calls[1:]
        assert pairs == ["pause_writing", "resume_writing"] * 5


async def test_resume_writing_may_write_again(loop: Loop) -> None:
    class Pumping(Recorder):
        left = 20

        def resume_writing(self) -> None:
            super().resume_writing()
            while self.left and not self.transport.get_write_buffer_size():
                self.left -= 1
                self.transport.write(bytes(MEBIBYTE))
            if not self.left:
                loop.call_soon(self.transport.close)

    async with both_ends(loop, client=Pumping) as ends:
        ends.client.transport.set_write_buffer_limits(high=0)
        fill(ends.client.transport)
        assert await ends.server.lost is None
        assert len(ends.server.data) >= 20 * MEBIBYTE
        assert await ends.client.lost is None


@pytest.mark.only("cloverleaf")  # asyncio calls connection_lost twice, and the second call fails
async def test_endings_connection_lost_comes_once_when_resume_writing_closes(loop: Loop) -> None:
    class Closing(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.close()

    async with both_ends(loop, client=Closing) as ends:
        ends.client.transport.set_write_buffer_limits(high=0)
        fill(ends.client.transport)
        assert await ends.client.lost is None
        await turns(3)
        assert ends.client.calls.count("connection_lost") == 1


async def test_close_does_not_resume_writing_before_all_is_sent(loop: Loop) -> None:
    async with both_ends(loop) as ends:
        fill(ends.client.transport)
        size = ends.client.transport.get_write_buffer_size()
        assert size > 0
        ends.client.transport.close()
        assert await ends.client.lost is None
        assert ends.client.calls[-1] == "connection_lost"
        assert ends.client.calls.count("connection_lost") == 1


async def test_abort_does_not_resume_writing(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        fill(ours.transport)
        ours.transport.abort()
        await ours.lost
        assert ours.calls == ["connection_made", "pause_writing", "connection_lost"]


def empty(peer: Any) -> None:
    """Read all that is there, so that there is room for everything at once."""
    peer.setblocking(False)
    try:
        while peer.recv(MEBIBYTE):
            pass
    except BlockingIOError:
        return


async def drained(loop: Loop, peer: Any) -> bytes:
    """Return everything that the peer gets until the end."""
    peer.setblocking(False)
    received = bytearray()
    while piece := await loop.sock_recv(peer, MEBIBYTE):
        received += piece
    return bytes(received)


async def test_what_resume_writing_writes_after_close_is_sent(loop: Loop) -> None:
    class Farewell(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.write(b"ONE")
            self.transport.write(b"TWO")

    async with linked(loop, Farewell) as (ours, peer):
        fill(ours.transport)
        ours.transport.close()
        assert (await drained(loop, peer)).endswith(b"ONETWO")
        assert await ours.lost is None


async def test_writelines_behind_what_waits_keeps_the_order_and_resumes(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, peer):
        fill(ours.transport)
        assert ours.calls[-1] == "pause_writing"
        empty(peer)
        ours.transport.writelines([b"ONE", b"TWO"])
        ours.transport.close()
        assert (await drained(loop, peer)).endswith(b"ONETWO")
        assert ours.calls[-2:] == ["resume_writing", "connection_lost"]
