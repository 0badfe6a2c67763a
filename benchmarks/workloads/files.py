"""Files: sent to a peer in a process of its own, which throws them away."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Run

MIB = 1024 * 1024
SENT_MIB = 64


def throw_away(peer: socket.socket) -> None:
    """Receives in a child until the end, and ends."""
    room = bytearray(MIB)
    while peer.recv_into(room):
        pass
    os._exit(0)


def sendfile(loop: asyncio.AbstractEventLoop, factory: LoopFactory) -> Run:
    """Sends a file of 64 MiB by `loop.sendfile`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    if os.fork() == 0:
        ours.close()
        throw_away(theirs)
    theirs.close()
    file = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process
    file.truncate(SENT_MIB * MIB)

    async def send(times: int) -> None:
        for _ in range(times // SENT_MIB):
            if await loop.sendfile(transport, file) != SENT_MIB * MIB:
                raise RuntimeError("not all of the file was sent")

    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    return lambda times: loop.run_until_complete(send(times))


WORKLOADS = (LoopWorkload("sendfile", "loop.sendfile of 64 MiB", "MiB", sendfile, batch=SENT_MIB),)
