"""Servers that are no loop's: PostgreSQL and Redis, for the workloads whose loop is the client.

Each is started when a workload first needs it, on a free port of the loopback, with a directory of
its own that goes with it. Both keep nothing: what is measured is the client. PostgreSQL refuses to
run as root, and then runs as the user that its package made, or as nobody.
"""

from __future__ import annotations

import os
import pwd
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.suite import processor

Service = Literal["postgresql", "redis"]

#: A server is given this long to say that it is ready, and to end.
PATIENCE = 60.0

#: So often another port is tried when somebody else takes the one that was free.
ATTEMPTS = 5

#: Debian keeps PostgreSQL's programs out of the PATH, in a directory for each version.
POSTGRESQL = "/usr/lib/postgresql"


class NoServiceError(Exception):
    """The server is not installed, or does not start; the text tells which, and what helps."""


class Services:
    """The servers that were asked for. Close it, or use it in a `with` statement."""

    def __init__(self, cores: frozenset[int]) -> None:
        self._cores = cores
        self._stack = ExitStack()
        self._addresses: dict[Service, str | NoServiceError] = {}

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the servers and removes what they kept."""
        self._stack.close()

    def address(self, service: Service) -> str:
        """Where that server listens, as HOST:PORT. Raises NoServiceError, the same each time."""
        if service not in self._addresses:
            try:
                self._addresses[service] = self._start(service)
            except NoServiceError as problem:
                self._addresses[service] = problem
        found = self._addresses[service]
        if isinstance(found, NoServiceError):
            raise found
        return found

    def _start(self, service: Service) -> str:
        place = tempfile.TemporaryDirectory(prefix=f"cloverleaf-bench-{service}-")
        directory = Path(self._stack.enter_context(place))
        start = {"postgresql": postgresql, "redis": redis}[service]
        with processor.on(self._cores):
            server, port = start(directory)
        self._stack.enter_context(server)
        return f"127.0.0.1:{port}"


class Identity(NamedTuple):
    """Whom a child runs as, in the words of `Popen`."""

    user: int | None = None
    group: int | None = None
    groups: list[int] | None = None

    @classmethod
    def of(cls, name: str | None) -> Identity:
        """That user, without the groups that we are in; None is who we are."""
        if name is None:
            return cls()
        entry = pwd.getpwnam(name)
        return cls(entry.pw_uid, entry.pw_gid, [])


class Server:
    """One server in a process of its own, that ends with us in any case."""

    def __init__(self, command: list[str], ending: signal.Signals, user: str | None = None) -> None:
        self._ending = ending
        identity = Identity.of(user)
        self._process = subprocess.Popen(
            ending_with_us(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
            user=identity.user,
            group=identity.group,
            extra_groups=identity.groups,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it, by force if it does not hear, and waits for it."""
        self._process.send_signal(self._ending)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ready(self, words: str) -> str | None:
        """Waits until it says these words. If it ends before, the last of what it said."""
        deadline, last = time.monotonic() + PATIENCE, ""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return f"not ready within {PATIENCE:.0f} s"
            if line is None:
                return last or "ended without a word"
            if words in line:
                return None
            last = line.strip() or last

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(None)


def ending_with_us(command: list[str]) -> list[str]:
    """The command, killed by the kernel when we die before it, where util-linux is installed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


def redis(directory: Path) -> tuple[Server, int]:
    """redis-server without persistence."""
    program = shutil.which("redis-server")
    if program is None:
        raise NoServiceError("redis-server is not installed: apt-get install redis-server")
    command = [program, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    command += ["--daemonize", "no", "--dir", str(directory), "--port"]
    return on_a_free_port(
        lambda port: Server([*command, str(port)], signal.SIGTERM),
        "eady to accept connections",
    )


def postgresql(directory: Path) -> tuple[Server, int]:
    """A new PostgreSQL cluster that trusts everybody on the loopback."""
    programs = postgresql_programs()
    if programs is None:
        raise NoServiceError("PostgreSQL is not installed: apt-get install postgresql")
    user = unprivileged()
    if user is not None:
        shutil.chown(directory, user)
    data = str(directory / "data")
    make = [str(programs / "initdb"), "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8"]
    identity = Identity.of(user)
    try:
        made = subprocess.run(
            ending_with_us([*make, "--no-locale", "--no-sync"]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=PATIENCE,
            user=identity.user,
            group=identity.group,
            extra_groups=identity.groups,
        )
    except subprocess.TimeoutExpired:
        raise NoServiceError(f"initdb is not done within {PATIENCE:.0f} s") from None
    if made.returncode:
        lines = (made.stdout + made.stderr).strip().splitlines() or ["no output"]
        raise NoServiceError(f"initdb failed: {lines[-1]}")
    command = [str(programs / "postgres"), "-D", data, "-k", str(directory)]
    command += ["-h", "127.0.0.1", "-F", "-c", "autovacuum=off", "-p"]
    return on_a_free_port(
        lambda port: Server([*command, str(port)], signal.SIGINT, user),
        "database system is ready to accept connections",
    )


def postgresql_programs() -> Path | None:
    """Where `initdb` and `postgres` are: on the PATH, or the newest that Debian installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = [each.parent for each in Path(POSTGRESQL).glob("*/bin/initdb")]
    return max(versions, key=lambda each: float(each.parent.name), default=None)


def unprivileged() -> str | None:
    """Whom a server runs as that refuses to be root; None where we are not."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def on_a_free_port(start: Callable[[int], Server], ready: str) -> tuple[Server, int]:
    """Starts it, again on another port if it does not come up."""
    problem = None
    for _ in range(ATTEMPTS):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = start(port)
        problem = server.ready(ready)
        if problem is None:
            return server, port
        server.close()
    raise NoServiceError(f"the server does not start: {problem}")
