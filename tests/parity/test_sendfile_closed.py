"""A file that is closed while it is sent, and whose number another file has by then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from .harness.files import BIG, file_of
from .harness.links import linked
from .harness.protocols import Recorder
from .harness.sockets import nonblocking, receive
from .harness.turns import turns
from .harness.types import Loop

OTHERS = b"not for the peer" * (len(BIG) // 16)


async def send_while_it_is_closed(loop: Loop, sending: Any, file: Any, folder: Path) -> int:
    """Close a file once a part of it has gone, and give its number away; return that."""
    await turns(3)
    assert not sending.done()
    number: int = file.fileno()
    other = os.open(folder / "other", os.O_RDWR | os.O_CREAT)
    os.write(other, OTHERS)
    os.lseek(other, 7, os.SEEK_SET)
    file.close()
    os.dup2(other, number)
    os.close(other)
    return number


@pytest.mark.only("cloverleaf")
@pytest.mark.parametrize("over", ["socket", "transport"])
async def test_another_files_bytes_are_not_sent(loop: Loop, tmp_path: Path, over: str) -> None:
    """On asyncio they are, and the other file's position is moved."""
    file = file_of(tmp_path, BIG)
    if over == "socket":
        with nonblocking() as (ours, theirs):
            sending = loop.create_task(loop.sock_sendfile(ours, file))
            number = await send_while_it_is_closed(loop, sending, file, tmp_path)
            received = loop.create_task(receive(loop, theirs, len(BIG)))
            with pytest.raises(OSError, match="Bad file descriptor"):
                await sending
            ours.close()
            got = await received
    else:
        async with linked(loop, Recorder) as (protocol, peer):
            sending = loop.create_task(loop.sendfile(protocol.transport, file))
            number = await send_while_it_is_closed(loop, sending, file, tmp_path)
            peer.setblocking(False)
            received = loop.create_task(receive(loop, peer, len(BIG)))
            with pytest.raises(OSError, match="Bad file descriptor"):
                await sending
            protocol.transport.close()
            got = await received
    try:
        assert len(got) < len(BIG)
        assert got == BIG[: len(got)]
        assert os.lseek(number, 0, os.SEEK_CUR) == 7
    finally:
        os.close(number)
