"""An echo server: an asyncio protocol on Cloverleaf, with flow control and an orderly end.

python examples/echo_server.py --port 8888
Then, elsewhere: nc 127.0.0.1 8888
"""

import argparse
import asyncio
import signal
from typing import cast


class Echo(asyncio.Protocol):
    """Sends back what it receives, and reads no faster than its peer does."""

    def __init__(self, open_transports: set[asyncio.Transport]) -> None:
        self._open_transports = open_transports
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_transports.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_transports.discard(self._transport)


async def serve(host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM, then closes the listener and every connection."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)

    open_transports: set[asyncio.Transport] = set()
    server = await loop.create_server(lambda: Echo(open_transports), host, port)
    for sock in server.sockets:
        print("Serving on {}:{}".format(*sock.getsockname()[:2]), flush=True)
    await stopping.wait()

    server.close()
    for transport in open_transports:
        transport.close()
    await server.wait_closed()
    print("Stopped", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="An echo server on Cloverleaf.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8888, help="0 takes a free one")
    parser.add_argument("--loop", choices=("cloverleaf", "asyncio"), default="cloverleaf")
    arguments = parser.parse_args()
    serving = serve(arguments.host, arguments.port)
    if arguments.loop == "asyncio":
        asyncio.run(serving)
    else:
        import cloverleaf

        cloverleaf.run(serving)


if __name__ == "__main__":
    main()
