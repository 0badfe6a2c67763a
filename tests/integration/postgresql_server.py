"""A real PostgreSQL on a TCP port and a Unix socket of its own, in a cluster made for it.

It refuses to run as root, and runs then as the user that its package made, or as nobody.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .programs import Program, Programs

DEBIAN = Path("/usr/lib/postgresql")
USER = "leaf"
READY = "database system is ready to accept connections"
MAKE_DEADLINE_S = 120
START_DEADLINE_S = 120


class PostgresqlServer(NamedTuple):
    """Where it listens; the socket is in the directory."""

    port: int
    directory: str


def find_programs() -> Path | None:
    """Where `initdb` and `postgres` are: on the PATH, or the newest that Debian keeps beside it."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    found_here = [each.parent for each in DEBIAN.glob("*/bin/initdb")]
    return max(found_here, key=lambda each: float(each.parent.name), default=None)


def as_somebody(directory: Path) -> tuple[str, ...]:
    """What a command begins with so that it ends with us and is not root's.

    Gives the directory to whom it runs as.
    """
    if os.geteuid() != 0:
        return ("setpriv", "--pdeathsig=KILL") if shutil.which("setpriv") else ()
    known = {entry.pw_name for entry in pwd.getpwall()}
    somebody = pwd.getpwnam("postgres" if "postgres" in known else "nobody")
    os.chown(directory, somebody.pw_uid, somebody.pw_gid)
    identity = (f"--reuid={somebody.pw_uid}", f"--regid={somebody.pw_gid}", "--clear-groups")
    return ("setpriv", "--pdeathsig=KILL", *identity)


@contextmanager
def serve_postgresql(programs: Programs) -> Iterator[PostgresqlServer]:
    """Serves for as long as the block lasts, then ends it in good order."""
    # Not below pytest's own folder, which another user cannot enter.
    directory = Path(tempfile.mkdtemp(prefix="cloverleaf-postgresql-"))
    try:
        program, server = start_postgresql(programs, directory)
        yield server
        program.signal(signal.SIGINT)
        assert program.wait() == 0, program.text()
    finally:
        shutil.rmtree(directory)


def start_postgresql(programs: Programs, directory: Path) -> tuple[Program, PostgresqlServer]:
    """Makes a cluster and serves it, again if another program takes the free port first."""
    found = find_programs()
    assert found is not None
    somebody = as_somebody(directory)
    data = str(directory / "data")
    subprocess.run(
        [
            *(*somebody, str(found / "initdb"), "-D", data, "-U", USER, "-A", "trust"),
            *("-E", "UTF8", "--no-locale", "--no-sync"),
        ],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        timeout=MAKE_DEADLINE_S,
    )
    for attempt in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        program = programs.start(
            *(*somebody, str(found / "postgres"), "-D", data, "-k", str(directory)),
            *("-h", "127.0.0.1", "-p", str(port), "-F"),
            env={"LC_ALL": "C"},
        )
        try:
            program.wait_for_line(READY, START_DEADLINE_S)
        except AssertionError:
            program.kill()
            if attempt == 4 or "could not create any TCP/IP sockets" not in program.text():
                raise
        else:
            return program, PostgresqlServer(port, str(directory))
    raise AssertionError("unreachable: the last attempt returns or raises")
