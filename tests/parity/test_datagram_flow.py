"""Datagrams that have to wait: reading paused in a burst, water marks, and how an endpoint ends.

The kernel refuses a datagram for a Unix socket whose queue is full, so that is where the tests
for waiting send to.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .harness.complaints import Complaints
from .harness.datagrams import LOCALHOST, Mailbox, endpoint, fill, plain_udp, plain_unix
from .harness.kinds import Kind
from .harness.turns import turns, until
from .harness.types import Context, Loop

# What a datagram counts for beside its bytes.
HEADER = 8 if sys.version_info >= (3, 13) else 0


def miscounts(kind: Kind) -> bool:
    """Tell whether the loop forgets to take the header off again (gh-135444)."""
    return kind.name == "asyncio" and (3, 13) <= sys.version_info < (3, 13, 6)


def send_burst(box: Mailbox, count: int) -> list[bytes]:
    """Send so many datagrams to an endpoint before its loop looks."""
    expected = [b"%d" % number for number in range(count)]
    with plain_udp() as peer:
        for data in expected:
            peer.sendto(data, box.transport.get_extra_info("sockname"))
    return expected


async def warm_up(box: Mailbox) -> None:
    """Let an endpoint learn that bursts come, and forget what came."""
    expected = send_burst(box, 40)
    assert await box.received(40) == expected
    box.mail.clear()


async def test_a_paused_endpoint_reads_nothing(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        box.transport.pause_reading()
        assert not box.transport.is_reading()
        expected = send_burst(box, 3)
        await turns(10)
        assert box.data == []
        box.transport.resume_reading()
        assert box.transport.is_reading()
        assert await box.received(3) == expected


async def test_pausing_in_connection_made_holds(loop: Loop) -> None:
    class Pausing(Mailbox):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async with endpoint(loop, LOCALHOST, mailbox=Pausing) as box:
        expected = send_burst(box, 3)
        await turns(10)
        assert box.data == []
        box.transport.resume_reading()
        assert await box.received(3) == expected


async def test_pausing_in_a_burst_holds_the_rest_back_and_loses_nothing(loop: Loop) -> None:
    class Pausing(Mailbox):
        pauses = False

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if self.pauses:
                self.transport.pause_reading()

    async with endpoint(loop, LOCALHOST, mailbox=Pausing) as box:
        await warm_up(box)
        box.pauses = True  # type: ignore[attr-defined]
        expected = send_burst(box, 40)
        for count in range(1, 41):
            await box.received(count)
            await turns(3)
            assert box.data == expected[:count]
            box.transport.resume_reading()
        more = send_burst(box, 1)
        assert await box.received(41) == expected + more


async def test_resuming_at_once_changes_nothing(loop: Loop) -> None:
    class Nervous(Mailbox):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.pause_reading()
            self.transport.resume_reading()

    async with endpoint(loop, LOCALHOST, mailbox=Nervous) as box:
        for _ in range(4):
            await warm_up(box)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_ending_in_a_burst_is_the_end(loop: Loop, end: str) -> None:
    class Ending(Mailbox):
        limit = 1000

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.mail) == self.limit:
                getattr(self.transport, end)()

    async with endpoint(loop, LOCALHOST, mailbox=Ending) as box:
        await warm_up(box)
        box.limit = 7  # type: ignore[attr-defined]
        expected = send_burst(box, 40)
        assert await asyncio.shield(box.lost) is None
        await turns(5)
        assert box.data == expected[:7]
        assert box.calls == ["connection_made", "connection_lost"]


async def test_exchanging_the_protocol_in_a_burst_holds(loop: Loop) -> None:
    second = Mailbox(loop)

    class Leaving(Mailbox):
        limit = 1000

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.mail) == self.limit:
                self.transport.set_protocol(second)

    async with endpoint(loop, LOCALHOST, mailbox=Leaving) as box:
        await warm_up(box)
        box.limit = 7  # type: ignore[attr-defined]
        expected = send_burst(box, 40)
        assert await second.received(33) == expected[7:]
        assert box.data == expected[:7]
        box.transport.set_protocol(box)


@pytest.mark.parametrize("call", ["pause_reading", "resume_reading"])
async def test_pause_and_resume_after_close_are_ignored(loop: Loop, call: str) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        box.transport.close()
        getattr(box.transport, call)()
        await asyncio.shield(box.lost)
        assert not box.transport.is_reading()


async def test_what_waits_is_sent_in_order(loop: Loop, kind: Kind, tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            sent = fill(box, path, b"first")
            assert sent > 0
            rest = [b"rest %d" % number for number in range(100)]
            for data in rest:
                box.transport.sendto(data, path)
            size = 5 + HEADER + sum(len(data) + HEADER for data in rest)
            assert box.transport.get_write_buffer_size() == size
            received = await loop.run_in_executor(
                None, lambda: [peer.recv(99) for _ in range(sent + 101)]
            )
            assert received == [b"first"] * (sent + 1) + rest
            if not miscounts(kind):
                await until(lambda: box.transport.get_write_buffer_size() == 0)
            assert box.errors == []


async def test_what_waits_for_a_connected_peer_is_sent_in_order(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, remote_addr=path, family=socket.AF_UNIX) as box:
            sent = 0
            while not box.transport.get_write_buffer_size():
                box.transport.sendto(b"%d" % sent)
                sent += 1
            for number in range(sent, sent + 100):
                box.transport.sendto(b"%d" % number, path)
            for number in range(sent + 100):
                assert await loop.run_in_executor(None, peer.recv, 99) == b"%d" % number


async def test_what_waits_cannot_be_changed_any_more(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            sent = fill(box, path)
            data = bytearray(b"before")
            box.transport.sendto(data, path)
            data[:] = b"after!"
            for _ in range(sent + 1):
                await loop.run_in_executor(None, peer.recv, 9999)
            assert await loop.run_in_executor(None, peer.recv, 99) == b"before"


async def test_a_datagram_for_nobody_in_the_queue_is_told_and_the_rest_goes(
    loop: Loop, tmp_path: Path
) -> None:
    path, nowhere = str(tmp_path / "full"), str(tmp_path / "nowhere")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            sent = fill(box, path)
            for address in (nowhere, path, nowhere, path):
                box.transport.sendto(b"later", address)
            assert box.errors == []
            for _ in range(sent + 1):
                await loop.run_in_executor(None, peer.recv, 9999)
            for _ in range(2):
                assert await loop.run_in_executor(None, peer.recv, 99) == b"later"
            await box.until(lambda: len(box.errors) == 2)
            assert [type(error) for error in box.errors] == [FileNotFoundError] * 2


async def test_a_wrong_address_in_the_queue_ends_the_endpoint(
    loop: Loop, tmp_path: Path, contexts: list[Context]
) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            sent = fill(box, path)
            box.transport.sendto(b"later", 7)
            for _ in range(sent + 1):
                await loop.run_in_executor(None, peer.recv, 9999)
            assert isinstance(await asyncio.shield(box.lost), TypeError)
            assert contexts[0]["message"] == "Fatal write error on datagram transport"


async def test_the_protocol_is_paused_above_high_water_and_resumed_at_low_water(
    loop: Loop, kind: Kind, tmp_path: Path
) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            box.transport.set_write_buffer_limits(high=3000, low=0)
            sent = fill(box, path)
            box.transport.sendto(bytes(1000), path)
            assert box.calls == ["connection_made"]
            box.transport.sendto(bytes(1000), path)
            box.transport.sendto(bytes(1000), path)
            assert box.calls == ["connection_made", "pause_writing"]
            box.transport.sendto(bytes(1000), path)
            assert box.calls == ["connection_made", "pause_writing"]
            for _ in range(sent + 5):
                await loop.run_in_executor(None, peer.recv, 9999)
            if not miscounts(kind):
                await until(lambda: "resume_writing" in box.calls)
                assert box.calls == ["connection_made", "pause_writing", "resume_writing"]


async def test_setting_limits_below_what_waits_pauses_at_once(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path):
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            fill(box, path)
            assert box.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            box.transport.set_write_buffer_limits(high=10)
            assert box.transport.get_write_buffer_limits() == (2, 10)
            assert box.calls == ["connection_made", "pause_writing"]
            box.transport.abort()


async def test_wrong_limits_are_refused(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            box.transport.set_write_buffer_limits(high=1, low=2)


async def test_closing_sends_what_waits_and_then_ends(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            sent = fill(box, path)
            for number in range(3):
                box.transport.sendto(b"%d" % number, path)
            box.transport.close()
            assert box.transport.is_closing()
            box.transport.sendto(b"afterwards", path)
            await turns(5)
            assert not box.lost.done()
            for _ in range(sent + 1):
                await loop.run_in_executor(None, peer.recv, 9999)
            for data in (b"0", b"1", b"2", b"afterwards"):
                assert await loop.run_in_executor(None, peer.recv, 99) == data
            assert await asyncio.shield(box.lost) is None
            assert box.transport.get_extra_info("socket").fileno() == -1


async def test_closing_ends_though_the_last_datagram_is_refused(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            sent = fill(box, path)
            box.transport.sendto(b"x", str(tmp_path / "nowhere"))
            box.transport.close()
            for _ in range(sent + 1):
                await loop.run_in_executor(None, peer.recv, 9999)
            assert await asyncio.shield(box.lost) is None
            assert [type(error) for error in box.errors] == [FileNotFoundError]


async def test_aborting_sends_nothing_more(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX) as box:
            sent = fill(box, path)
            box.transport.abort()
            assert box.transport.is_closing()
            assert await asyncio.shield(box.lost) is None
            for _ in range(sent):
                peer.recv(9999)
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(9999)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_connection_lost_comes_once_and_later(loop: Loop, end: str) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        getattr(box.transport, end)()
        assert box.calls == ["connection_made"]
        box.transport.close()
        box.transport.abort()
        assert await asyncio.shield(box.lost) is None
        await turns(3)
        assert box.calls == ["connection_made", "connection_lost"]
        assert box.transport.get_protocol() is None


async def test_an_endpoint_with_many_peers_still_sends_before_connection_lost(loop: Loop) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, LOCALHOST) as box:
            box.transport.close()
            box.transport.sendto(b"farewell", peer.getsockname())
            assert peer.recv(10) == b"farewell"


async def test_sending_on_after_the_end_is_logged(loop: Loop, logged: Complaints) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, remote_addr=peer.getsockname()) as box:
            box.transport.close()
            for _ in range(10):
                box.transport.sendto(b"too late")
            await asyncio.shield(box.lost)
            messages = logged.take()
            assert set(messages) == {"socket.send() raised exception."}
            assert 5 <= len(messages) <= 6
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(10)


@pytest.mark.only("cloverleaf")  # asyncio's raises AttributeError about None
async def test_sending_after_connection_lost_is_ignored(loop: Loop, logged: Complaints) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        box.transport.close()
        await asyncio.shield(box.lost)
        for _ in range(6):
            box.transport.sendto(b"too late", ("127.0.0.1", 9))
        assert logged.take() == ["socket.send() raised exception."] * 2


async def test_what_connection_lost_raises_is_reported(loop: Loop, contexts: list[Context]) -> None:
    class Strict(Mailbox):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise RuntimeError("not with me")

    async with endpoint(loop, LOCALHOST, mailbox=Strict) as box:
        box.transport.close()
        await asyncio.shield(box.lost)
        (context,) = contexts
        assert set(context) == {"message", "exception", "handle"}
        assert re.match(r"Exception in callback \w+\._call_connection_lost\(", context["message"])
        assert isinstance(context["exception"], RuntimeError)
        assert box.transport.get_extra_info("socket").fileno() == -1


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
async def test_what_flow_control_raises_is_reported(
    loop: Loop, kind: Kind, contexts: list[Context], tmp_path: Path, name: str
) -> None:
    if name == "resume_writing" and miscounts(kind):
        pytest.skip("this asyncio does not resume")

    class Strict(Mailbox):
        pass

    def refuse(_self: Mailbox) -> None:
        raise RuntimeError("not with me")

    setattr(Strict, name, refuse)
    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX, mailbox=Strict) as box:
            box.transport.set_write_buffer_limits(high=0)
            sent = fill(box, path)
            for _ in range(sent + 1):
                await loop.run_in_executor(None, peer.recv, 9999)
            await until(lambda: contexts)
            [context] = contexts
            assert context["message"] == f"protocol.{name}() failed"
            assert context["transport"] is box.transport
            assert context["protocol"] is box


async def test_waiting_datagrams_are_sent_in_the_senders_context(
    loop: Loop, tmp_path: Path
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    class Curious(Mailbox):
        def error_received(self, exc: Exception) -> None:
            seen.append(variable.get("unset"))
            super().error_received(exc)

    path = str(tmp_path / "full")
    with plain_unix(path) as peer:
        async with endpoint(loop, family=socket.AF_UNIX, mailbox=Curious) as box:
            variable.set("sender")
            sent = fill(box, path)
            box.transport.sendto(b"x", str(tmp_path / "nowhere"))
            variable.set("later")
            for _ in range(sent + 1):
                await loop.run_in_executor(None, peer.recv, 9999)
            await box.failed()
            assert seen == ["sender"]


def test_a_loop_can_close_with_datagrams_on_their_way(
    new_loop: Callable[[], Loop], tmp_path: Path
) -> None:
    loop = new_loop()
    path = str(tmp_path / "full")

    async def begin() -> tuple[Any, Mailbox]:
        box = Mailbox(loop)
        await loop.create_datagram_endpoint(lambda: box, family=socket.AF_UNIX)
        fill(box, path)
        other = Mailbox(loop)
        await loop.create_datagram_endpoint(lambda: other, local_addr=LOCALHOST)
        send_burst(other, 40)
        return box, other

    with plain_unix(path):
        boxes = loop.run_until_complete(begin())
        loop.close()
        del boxes
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            gc.collect()


async def test_a_socket_that_its_program_closes_is_not_used_any_more(loop: Loop) -> None:
    sock = plain_udp()
    async with endpoint(loop, sock=sock) as box, endpoint(loop, LOCALHOST) as other:
        await turns(2)
        sock.close()
        with plain_udp() as reuser:
            box.transport.sendto(b"lost", other.transport.get_extra_info("sockname"))
            assert [type(error) for error in box.errors] == [OSError]
            assert box.errors[0].errno == errno.EBADF  # type: ignore[attr-defined]
            box.transport.close()
            await asyncio.shield(box.lost)
            assert reuser.fileno() != -1
            reuser.getsockname()


async def test_a_paused_endpoint_and_its_protocol_go_together(loop: Loop) -> None:
    def forget() -> Any:
        box = Mailbox(loop)
        return box, loop.create_datagram_endpoint(lambda: box, local_addr=LOCALHOST)

    box, coroutine = forget()
    await coroutine
    await turns(2)
    box.transport.pause_reading()
    sock = box.transport.get_extra_info("socket")
    del box, coroutine
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        gc.collect()
    assert sock.fileno() == -1
