"""A real redis-server on a TCP port and a Unix socket of its own, that keeps nothing on disk."""

import shutil
import socket
from pathlib import Path
from typing import NamedTuple

from .programs import Program, Programs

PROGRAM = shutil.which("redis-server")


class RedisServer(NamedTuple):
    """Where it listens."""

    port: int
    path: str


def start_redis(programs: Programs, directory: Path) -> tuple[Program, RedisServer]:
    """Starts redis-server, again if another program takes the free port first."""
    assert PROGRAM is not None
    path = str(directory / "redis.sock")
    for attempt in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        program = programs.start(
            *(PROGRAM, "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", path),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(directory)),
        )
        try:
            program.wait_for_line("The server is now ready to accept connections at")
        except AssertionError:
            program.kill()
            if attempt == 4 or "Address already in use" not in program.text():
                raise
        else:
            return program, RedisServer(port, path)
    raise AssertionError("unreachable: the last attempt returns or raises")
