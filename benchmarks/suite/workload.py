"""What a workload is: something that one loop does, and how much of it.

A `ServerWorkload` is a server on the loop, driven from outside by the load generator. A
`LoopWorkload` is work inside the loop's own process, and a `ClientWorkload` asks a server that is
no loop's. All count operations, and the figure that
matters is the CPU time of the loop's process, over all of its threads, for one operation.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.suite.services import Service

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

#: Starts a server on a listening socket and returns what must stay alive for it to serve.
Serve = Callable[[asyncio.AbstractEventLoop, socket.socket], Awaitable[object]]

#: Does as many operations as it is told, a multiple of the workload's batch.
Run = Callable[[int], None]

#: Readies a loop, outside the measured time. It may make further loops with the factory.
Prepare = Callable[[asyncio.AbstractEventLoop, LoopFactory], Run]


#: Asks a server for one answer, and checks it.
Ask = Callable[[], Awaitable[None]]

#: Connects to the server at HOST:PORT.
Connect = Callable[[str], Awaitable[Ask]]


@dataclass(frozen=True)
class Traffic:
    """What the load generator does to a server."""

    mode: Literal["echo", "http", "websocket", "churn"] = "echo"
    connections: int = 64
    depth: int = 1
    size: int = 1024
    lines: bool = False
    body: str = ""
    most: int | None = None
    #: What another generator does meanwhile. The latency is that of this traffic, the CPU time and
    #: the operations are those of both.
    beside: Traffic | None = None

    def arguments(self, address: str) -> list[str]:
        """The generator's command line against a server at `address`."""
        words = [self.mode, address, "--connections", str(self.connections)]
        if self.mode == "http":
            words += ["--depth", str(self.depth), "--body", self.body]
        else:
            words += ["--depth", str(self.depth), "--size", str(self.size)]
        if self.lines:
            words.append("--lines")
        if self.most is not None:
            words += ["--most", str(self.most)]
        return words


@dataclass(frozen=True)
class ServerWorkload:
    """A server on the loop and the traffic that it gets."""

    name: str
    title: str
    operation: str
    serve: Serve
    traffic: Traffic
    transport: Literal["tcp", "unix"] = "tcp"
    #: Whether the plain epoll echo server answers the same traffic, as the floor.
    floor: bool = True


#: What does a `LoopWorkload` with nothing but what every loop must do: the bare queue of
#: `cloverleaf-floor`, or the load generator with these words.
Floor = Literal["queue"] | tuple[str, ...]


@dataclass(frozen=True)
class LoopWorkload:
    """Work inside the loop's process."""

    name: str
    title: str
    operation: str
    prepare: Prepare
    #: `run` is asked for multiples of this many operations.
    batch: int = 1
    #: Whether the process may use every core, because its threads are what is measured.
    threads: bool = False
    #: Whether the work is done by children, whose CPU time is then what counts.
    children: bool = False
    floor: Floor | None = None


@dataclass(frozen=True)
class ClientWorkload:
    """A client on the loop, whose connections each ask a server as soon as they have an answer."""

    name: str
    title: str
    operation: str
    service: Service
    connect: Connect
    connections: int


Workload = ServerWorkload | LoopWorkload | ClientWorkload
