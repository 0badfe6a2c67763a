"""Protocols that note what is called, and let a test wait for it."""

from __future__ import annotations

import asyncio
from typing import cast

from .types import Loop


class Recorder(asyncio.Protocol):
    """Notes every call of a stream transport; futures tell of the first, the end and the last."""

    def __init__(self, loop: Loop) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.made: asyncio.Future[asyncio.Transport] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self.keep_open: bool | None = None
        self._more = asyncio.Event()

    @property
    def transport(self) -> asyncio.Transport:
        """Return the transport, which must have been made."""
        return self.made.result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.calls.append("connection_made")
        self.made.set_result(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Keep the bytes."""
        self.calls.append("data_received")
        assert type(data) is bytes
        self.data += data
        self._more.set()

    def eof_received(self) -> bool | None:
        """Note the end, and answer as the test wants."""
        self.calls.append("eof_received")
        self.ended.set_result(None)
        return self.keep_open

    def pause_writing(self) -> None:
        """Note it."""
        self.calls.append("pause_writing")

    def resume_writing(self) -> None:
        """Note it."""
        self.calls.append("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note the end; a second call would raise."""
        self.calls.append("connection_lost")
        self.lost.set_result(exc)
        self._more.set()

    async def received(self, count: int) -> bytes:
        """Wait until so many bytes came, and take all that came."""
        while len(self.data) < count:
            if self.lost.done():
                raise AssertionError(f"connection lost after {len(self.data)} of {count} bytes")
            self._more.clear()
            await self._more.wait()
        taken = bytes(self.data)
        self.data.clear()
        return taken


class Echo(Recorder):
    """Sends back what it receives, and half-closes when the peer has."""

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)

    def eof_received(self) -> bool | None:
        """Close once all is sent."""
        self.calls.append("eof_received")
        return False


class Buffered(asyncio.BufferedProtocol):
    """Lends one buffer of a fixed size, and keeps what came in it."""

    def __init__(self, loop: Loop, size: int = 65536) -> None:
        self.calls: list[str] = []
        self.hints: list[int] = []
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.made: asyncio.Future[asyncio.Transport] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self._more = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.calls.append("connection_made")
        self.made.set_result(cast("asyncio.Transport", transport))

    def get_buffer(self, sizehint: int) -> bytearray:
        """Lend the buffer."""
        self.calls.append("get_buffer")
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what was written to the buffer."""
        self.calls.append("buffer_updated")
        self.data += self.buffer[:nbytes]
        self._more.set()

    def eof_received(self) -> bool | None:
        """Note it."""
        self.calls.append("eof_received")
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note the end."""
        self.calls.append("connection_lost")
        self.lost.set_result(exc)
        self._more.set()

    async def received(self, count: int) -> bytes:
        """Wait until so many bytes came, and take all that came."""
        while len(self.data) < count:
            assert not self.lost.done(), f"lost after {len(self.data)} of {count} bytes"
            self._more.clear()
            await self._more.wait()
        taken = bytes(self.data)
        self.data.clear()
        return taken
