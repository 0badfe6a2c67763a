"""Messages of many lengths: each comes whole with its record, and is the program's to keep."""

from __future__ import annotations

import ssl

from .harness.certificates import client_context, server_context
from .harness.links import end
from .harness.protocols import Recorder
from .harness.tls import socket_pair, tls_linked
from .harness.types import Loop


class Keeper(Recorder):
    """Keeps a third of what comes, views of another third, and the hashes of all."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.kept: list[bytes | memoryview | None] = []
        self.hashes: list[int] = []

    def data_received(self, data: bytes) -> None:
        """Keep it or not."""
        ways = (data, memoryview(data), None)
        self.kept.append(ways[len(self.kept) % 3])
        self.hashes.append(hash(data))
        super().data_received(data)


def messages(length: int, count: int) -> list[bytes]:
    """Return messages of one length, no two of which are alike."""
    return [bytes([number]) * length for number in range(count)]


def check(protocol: Keeper, sent: list[bytes]) -> None:
    """See that what was kept is what was sent."""
    assert len(protocol.kept) == len(sent)
    for kept, message in zip(protocol.kept, sent, strict=True):
        assert kept is None or bytes(kept) == message
    assert protocol.hashes == [hash(message) for message in sent]


async def lengths_come_whole(loop: Loop, lengths: list[int], ciphers: str | None = None) -> None:
    ours, theirs = client_context(), server_context()
    if ciphers is not None:
        ours.maximum_version = ssl.TLSVersion.TLSv1_2
        for context in (ours, theirs):
            context.set_ciphers(ciphers)
    async with tls_linked(loop, Recorder, ours, theirs) as (protocol, peer):
        for number, length in enumerate(lengths):
            message = bytes([number % 251]) * length
            await peer.send(message)
            # Nothing follows that could bring what is missing.
            assert await protocol.received(length) == message
            protocol.data.clear()
        assert protocol.calls.count("data_received") == len(lengths)


async def test_a_message_comes_whole_whatever_its_record_has_beside_it(loop: Loop) -> None:
    """Up to 16 lengths make records of one length here, so their lengths do not tell."""
    ciphers = "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
    lengths = [*range(1, 70), 1000, 1001, 1003, 1009, 1100, 16_384, 16_383, 1, 16_384]
    await lengths_come_whole(loop, lengths, ciphers)


async def test_a_message_comes_whole_at_every_length(loop: Loop) -> None:
    lengths = [1, 2, 1, 999, 1000, 1001, 16_000, 16_382, 16_383, 16_384, 1]
    await lengths_come_whole(loop, lengths)


async def test_what_tls_brings_is_the_programs_to_keep(loop: Loop) -> None:
    sent = [*messages(1200, 12), *messages(5000, 12), *messages(16_384, 6), *messages(1200, 6)]
    async with tls_linked(loop, Keeper) as (protocol, peer):
        assert isinstance(protocol, Keeper)
        for message in sent:
            await peer.send(message)
            await protocol.received(len(message))
            protocol.data.clear()
        check(protocol, sent)


async def test_what_a_socket_brings_is_the_programs_to_keep(loop: Loop) -> None:
    sent = [*messages(1200, 12), *messages(3000, 12), *messages(1200, 6)]
    ours, theirs = socket_pair()
    with theirs:
        protocol = Keeper(loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        for message in sent:
            await loop.sock_sendall(theirs, message)
            await protocol.received(len(message))
            protocol.data.clear()
        check(protocol, sent)
        end(transport, protocol)
        await protocol.lost
