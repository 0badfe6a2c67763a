"""TLS 1.3: echo at three sizes, and handshakes. Both ends on the loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from pathlib import Path
from typing import cast

from benchmarks.suite.workload import LoopFactory, LoopWorkload, Prepare, Run
from benchmarks.workloads.echo import KIB, Echo

#: Valid for a hundred years, for 127.0.0.1 and benchmarks alone: anybody has the key.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIULwxPohSwcuHsjk+DBIpdIKZKfkswCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTE1MjIzNVoYDzIxMjYxMTAx
MTUyMjM1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASP1vVBSfuYGztdPgkQ1SrtnFgj20mN9PPdSRKxNrs7dv7Gj37zOwOj
3iJYjCVNbZLOwAmu08C3K8uVBs2tp3Plo28wbTAdBgNVHQ4EFgQUG+6zoxuBbXEh
Hd1nzJ1xOF4XgNYwHwYDVR0jBBgwFoAUG+6zoxuBbXEhHd1nzJ1xOF4XgNYwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgMr0oJWVmSO+XP7q2CgY/JYZFtCBg4Bk7SOkGHaoAjn0CIA5y
qH45zEFgQrXdvSOQ0C7d13X7BWfKnOlQQEwBioCc
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg14vOf12MsdpLINeu
ZHOtLfH8wHtTXtLYiV1Az0p0Mq6hRANCAASP1vVBSfuYGztdPgkQ1SrtnFgj20mN
9PPdSRKxNrs7dv7Gj37zOwOj3iJYjCVNbZLOwAmu08C3K8uVBs2tp3Pl
-----END PRIVATE KEY-----
"""

CONNECTIONS = 8


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_text(CERTIFICATE)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(path)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(path)
    server.minimum_version = client.minimum_version = ssl.TLSVersion.TLSv1_3
    return server, client


class Asker(asyncio.Protocol):
    """Sends a message, and the next one when it has come back."""

    transport: asyncio.Transport

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.left = self.missing = 0
        self.done: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, times: int, done: asyncio.Future[None]) -> None:
        self.left, self.done = times, done
        self.missing = len(self.message)
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing:
            return
        self.left -= 1
        if self.left:
            self.missing = len(self.message)
            self.transport.write(self.message)
        else:
            self.done.set_result(None)


def echo(size: int) -> Prepare:
    """Messages of this size there and back over `CONNECTIONS` connections."""

    def prepare(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
        server_side, client_side = contexts()
        listener = socket.create_server(("127.0.0.1", 0))
        host, port = listener.getsockname()
        askers = [Asker(b"x" * size) for _ in range(CONNECTIONS)]

        async def connect() -> None:
            await loop.create_server(Echo, sock=listener, ssl=server_side)
            for asker in askers:
                await loop.create_connection(lambda a=asker: a, host, port, ssl=client_side)  # type: ignore[misc]

        async def ask(times: int) -> None:
            waits = [loop.create_future() for _ in askers]
            for asker, done in zip(askers, waits, strict=True):
                asker.ask(times // CONNECTIONS, done)
            await asyncio.gather(*waits)

        loop.run_until_complete(connect())
        return lambda times: loop.run_until_complete(ask(times))

    return prepare


class Greeter(asyncio.Protocol):
    """Says when the server's end of a connection has shaken hands, too."""

    met: asyncio.Future[None]

    def connection_made(self, _: asyncio.BaseTransport) -> None:
        self.met.set_result(None)


def handshakes(loop: asyncio.AbstractEventLoop, _: LoopFactory) -> Run:
    """Connections that are made and closed.

    A client has done its part before its last flight has reached the server. Were it to close then,
    a loop that keeps that flight back would be spared half of the server's work.
    """
    server_side, client_side = contexts()
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    host, port = listener.getsockname()
    greeter = Greeter()
    loop.run_until_complete(loop.create_server(lambda: greeter, sock=listener, ssl=server_side))

    async def shake(times: int) -> None:
        for _ in range(times):
            greeter.met = loop.create_future()
            transport, _ = await loop.create_connection(
                asyncio.Protocol, host, port, ssl=client_side
            )
            await greeter.met
            transport.abort()

    return lambda times: loop.run_until_complete(shake(times))


WORKLOADS = (
    *(
        LoopWorkload(
            f"tls-echo-{size}k",
            f"TLS 1.3 echo, {size} KiB, 8 conn., both ends",
            "message",
            echo(size * KIB),
            batch=CONNECTIONS,
        )
        for size in (1, 16, 128)
    ),
    LoopWorkload("tls-handshake", "TLS 1.3 handshakes, both ends", "handshake", handshakes),
)
