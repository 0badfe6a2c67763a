"""Many sockets of the program's own, their operations given up at random: every byte comes."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from parity.harness.types import Loop

PAIRS = 40
BYTES = 200_000


async def send(loop: Loop, sock: socket.socket, data: bytes, chance: random.Random) -> None:
    """Send all in pieces of any size."""
    with sock:
        at = 0
        while at < len(data):
            size = chance.choice([1, 100, 5000, 70_000])
            await loop.sock_sendall(sock, data[at : at + size])
            at += size
            if chance.random() < 0.2:
                await asyncio.sleep(0)


async def receive(loop: Loop, sock: socket.socket, chance: random.Random) -> bytes:
    """Receive to the end, by tasks of which many are cancelled in some turn or other."""
    received = bytearray()
    with sock:
        while True:
            receiving = loop.create_task(loop.sock_recv(sock, chance.choice([1, 512, 65_536])))
            if chance.random() < 0.5:
                for _ in range(chance.randrange(5)):
                    await asyncio.sleep(0)
                receiving.cancel()
            try:
                piece = await receiving
            except asyncio.CancelledError:
                continue
            if not piece:
                return bytes(received)
            received += piece


# asyncio loses what it received just before the cancellation.
@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("seed", range(3))
async def test_no_byte_is_lost_to_cancellations_at_random(loop: Loop, seed: int) -> None:
    chance = random.Random(seed)
    sending, receiving, expected = [], [], []
    for _ in range(PAIRS):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        expected.append(chance.randbytes(BYTES))
        sending.append(send(loop, theirs, expected[-1], random.Random(chance.random())))
        receiving.append(receive(loop, ours, random.Random(chance.random())))
    received, _ = await asyncio.gather(asyncio.gather(*receiving), asyncio.gather(*sending))
    assert received == expected


async def test_numbers_are_used_again_without_a_mix_up(loop: Loop) -> None:
    """Sockets come and go, waited for and cancelled; no byte reaches the wrong one."""
    chance = random.Random(7)

    async def visit(name: bytes) -> None:
        for _ in range(30):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            with ours, theirs:
                receiving = loop.create_task(loop.sock_recv(ours, 100))
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                if chance.random() < 0.3:
                    receiving.cancel()
                    await asyncio.wait([receiving])
                    continue
                theirs.send(name)
                assert await receiving == name

    await asyncio.gather(*(visit(b"visitor %d" % number) for number in range(60)))
