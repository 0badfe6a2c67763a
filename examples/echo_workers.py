"""An echo server with a loop on each core: threads where Python has no GIL, or else processes.

python examples/echo_workers.py --port 8888 --workers 2
Then, elsewhere: nc 127.0.0.1 8888
"""

import argparse
import asyncio
import functools
import os
import socket

import cloverleaf


def say(line: str) -> None:
    """Prints a line in one piece, though others print, too."""
    print(line + "\n", end="", flush=True)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what it receives."""
    while received := await reader.read(1 << 16):
        writer.write(received)
        await writer.drain()
    writer.close()


async def serve(worker: cloverleaf.Worker, *, host: str, port: int) -> None:
    """Serves until the worker is cancelled, by SIGINT, SIGTERM or another worker's failure."""
    # A listener of its own for each worker, among which the kernel shares the connections out.
    server = await asyncio.start_server(answer, host, port, reuse_port=True)
    async with server:
        say(f"Worker {worker.index} of {worker.count} serves in process {os.getpid()}")
        try:
            await server.serve_forever()
        finally:
            say(f"Worker {worker.index} stops")


def main() -> None:
    parser = argparse.ArgumentParser(description="An echo server with a loop on each core.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8888, help="0 takes a free one")
    parser.add_argument("--workers", type=int, help="as many as there are cores, if not given")
    parser.add_argument("--kind", choices=("auto", "threads", "processes"), default="auto")
    arguments = parser.parse_args()
    # Bound, but never listening: it takes a free port for all, and keeps it from others.
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((arguments.host, arguments.port))
        port = kept.getsockname()[1]
        say(f"Serving on {arguments.host}:{port}")
        worker_main = functools.partial(serve, host=arguments.host, port=port)
        cloverleaf.run_workers(worker_main, arguments.workers, kind=arguments.kind)


if __name__ == "__main__":
    main()
