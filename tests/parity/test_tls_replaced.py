"""Methods of ssl's objects that a program has replaced: they are called, whenever that was."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from .harness.certificates import client_context
from .harness.program import Program
from .harness.tls import tls_ends
from .harness.types import Loop


async def test_a_method_in_the_place_of_ssls_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_ends(loop):
        pass
    seen: list[bytes] = []
    original = ssl.SSLObject.write

    def write(self: ssl.SSLObject, data: Any) -> int:
        seen.append(bytes(data))
        return original(self, data)

    monkeypatch.setattr(ssl.SSLObject, "write", write)
    async with tls_ends(loop) as ends:
        ends.client.transport.write(b"seen")
        assert await ends.server.received(4) == b"seen"
    assert seen == [b"seen"]


def test_a_method_that_was_replaced_before_any_connection_is_called(program: Program) -> None:
    said = program.output(
        """
        import asyncio, ssl
        from parity.harness.certificates import HOST, client_context, server_context

        seen = []
        original = ssl.SSLObject.write

        def write(self, data):
            seen.append(bytes(data))
            return original(self, data)

        ssl.SSLObject.write = write

        async def echo(reader, writer):
            writer.write(await reader.read(100))
            writer.close()

        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_context(), server_hostname=HOST
            )
            writer.write(b"seen")
            assert await reader.read(100) == b"seen"
            writer.close()
            server.close()

        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main())
        loop.close()
        print(seen)
        """,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert said == "[b'seen', b'seen']"


async def test_a_method_of_the_objects_own_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    context = client_context()
    wrap_bio = ssl.SSLContext.wrap_bio

    def wrapped(self: ssl.SSLContext, *args: Any, **keywords: Any) -> ssl.SSLObject:
        made = wrap_bio(self, *args, **keywords)
        if self is context:
            write = made.write

            def noting(data: Any) -> int:
                seen.append(bytes(data))
                return write(data)

            monkeypatch.setattr(made, "write", noting)
        return made

    monkeypatch.setattr(ssl.SSLContext, "wrap_bio", wrapped)
    async with tls_ends(loop, client_ssl=context) as ends:
        ends.client.transport.write(b"seen")
        assert await ends.server.received(4) == b"seen"
    assert seen == [b"seen"]
