"""Shows real HTTP servers on Cloverleaf, and what they cost beside the same servers on asyncio.

Starts examples/http_aiohttp.py and examples/asgi_uvicorn.py, each on each loop in a process of its
own; prints a response of each on the first loop; then measures them with examples/http_load.py,
turn about, and prints the table. Fails if a response was wrong or a server did not end as told.

python examples/demo.py [--loops cloverleaf,asyncio] [--seconds 16]
"""

import argparse
import asyncio
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

import aiohttp

HERE = Path(__file__).resolve().parent
KINDS = {"aiohttp": "http_aiohttp.py", "uvicorn": "asgi_uvicorn.py"}
LOOPS = ("cloverleaf", "asyncio")
BODY = "Hello, world\n"
WARM_UP_S = 0.1
STOP_DEADLINE_S = 60


@dataclass
class Round:
    """What the load client saw in one round, and the CPU time that it cost the server."""

    responses: int
    wrong: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_us: float = 0.0

    def rate(self) -> float:
        return self.responses / self.seconds


@dataclass
class Server:
    """A server in its own process, and the rounds measured on it."""

    kind: str
    loop: str
    pid: int
    url: str
    rounds: list[Round] = field(default_factory=list)

    def drive(self, connections: int, seconds: float) -> Round:
        """Drives it for one round with the load client, in a process of its own."""
        before = self._cpu_seconds()
        command = [sys.executable, str(HERE / "http_load.py"), f"{self.url}/", "--expect", BODY]
        command += ["--connections", str(connections), "--seconds", str(seconds)]
        client = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if not client.stdout:
            raise SystemExit(f"the client of {self.kind} on {self.loop} failed")
        seen = Round(**json.loads(client.stdout))
        seen.cpu_us = (self._cpu_seconds() - before) * 1e6 / seen.responses
        return seen

    def _cpu_seconds(self) -> float:
        """The CPU time of the process so far, by its clock; see clock_getcpuclockid(3)."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def middle(self, value: Callable[[Round], float]) -> float:
        return median(value(each) for each in self.rounds)

    def wrong(self) -> int:
        return sum(each.wrong for each in self.rounds)


@contextmanager
def started(kind: str, loop: str) -> Iterator[Server]:
    """Starts one of the example servers; at the end it must stop at a SIGTERM."""
    command = [sys.executable, str(HERE / KINDS[kind]), "--loop", loop, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield Server(kind, loop, process.pid, read_url(process, kind, loop))
            process.send_signal(signal.SIGTERM)
            code = process.wait(STOP_DEADLINE_S)
            if code not in (0, -signal.SIGTERM):
                raise SystemExit(f"{kind} on {loop} ended with code {code}")
        finally:
            process.kill()


def read_url(process: "subprocess.Popen[str]", kind: str, loop: str) -> str:
    """The URL that the server says it runs on; both kinds say it the same way."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if match := re.search(r"unning on (http://\S+:\d+)", line):
            return match[1]
    raise SystemExit(f"{kind} on {loop} did not start:\n{''.join(said)}")


async def show(server: Server) -> None:
    """Prints a request to the server and all of its response, and checks which loop served it."""
    url = f"{server.url}/loop"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        body = await response.text()
        print(f"  GET {url}  ({server.kind})")
        print(f"  HTTP/1.1 {response.status} {response.reason}")
        for name, value in response.headers.items():
            print(f"  {name}: {value}")
        print(f"\n  {body}\n")
    served_by = str(json.loads(body)["loop"])
    if response.status != 200 or served_by.partition(".")[0] != server.loop:
        raise SystemExit(f"{server.kind} should run on {server.loop}, and says {served_by}")


def run_client(loop: str, servers: list[Server]) -> None:
    """Shows one response of each server; the client runs on the loop too."""
    new_loop = asyncio.new_event_loop
    if loop == "cloverleaf":
        import cloverleaf

        new_loop = cloverleaf.new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for server in servers:
            runner.run(show(server))


def print_table(servers: list[Server]) -> None:
    """One line for each server, then what the first loop gives beside the others."""
    print(
        "server   loop        requests/s (lowest to highest)  CPU/request     p50      p99  wrong"
    )
    first = servers[0]
    for server in servers:
        if server.kind != first.kind:
            first = server
            print()
        rates = [each.rate() for each in server.rounds]
        print(
            f"{server.kind:<8} {server.loop:<10}"
            f" {median(rates):>11,.0f} {f'({min(rates):,.0f} to {max(rates):,.0f})':<20}"
            f" {server.middle(lambda each: each.cpu_us):>7.1f} µs"
            f" {server.middle(lambda each: each.p50_ms):>6.2f} ms"
            f" {server.middle(lambda each: each.p99_ms):>5.2f} ms"
            f" {server.wrong():>5}"
        )
        if server is not first:
            print_comparison(first, server)


def print_comparison(first: Server, other: Server) -> None:
    served = first.middle(Round.rate) / other.middle(Round.rate)
    cost = first.middle(lambda each: each.cpu_us) / other.middle(lambda each: each.cpu_us)
    print(
        f"         {first.loop} answers {served:.2f} times as many requests as {other.loop},"
        f" with {cost:.2f} of its CPU time for each"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Real HTTP servers on Cloverleaf and on asyncio.")
    parser.add_argument(
        "--loops",
        type=lambda text: text.split(","),
        default=list(LOOPS),
        help="comma-separated, of cloverleaf and asyncio (default: both)",
    )
    parser.add_argument("--seconds", type=float, default=16.0, help="for all the measuring")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    chosen = parser.parse_args()
    if not set(chosen.loops) <= set(LOOPS):
        parser.error(f"--loops takes {' and '.join(LOOPS)}")
    return chosen


def print_versions(loops: list[str]) -> None:
    names = ["cloverleaf"] * ("cloverleaf" in loops) + ["aiohttp", "uvicorn", "httptools"]
    print(", ".join(f"{name} {version(name)}" for name in names))
    print(f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs\n")


def measure(servers: list[Server], chosen: argparse.Namespace) -> None:
    """Warms every server up, then measures them round by round, each second one backwards."""
    slot_s = chosen.seconds / (len(servers) * chosen.rounds)
    print(
        f"Load: {chosen.connections} keep-alive connections; {chosen.rounds} rounds of"
        f" {slot_s:.1f} s on each server, turn about; medians\n",
        flush=True,
    )
    for server in servers:
        server.drive(chosen.connections, WARM_UP_S)
    for number in range(chosen.rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            server.rounds.append(server.drive(chosen.connections, slot_s))


def main() -> int:
    chosen = arguments()
    print_versions(chosen.loops)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(started(kind, loop)) for kind in KINDS for loop in chosen.loops
        ]
        run_client(chosen.loops[0], servers[:: len(chosen.loops)])
        measure(servers, chosen)
        print_table(servers)
    wrong = sum(server.wrong() for server in servers)
    print(f"\n{wrong} responses were WRONG." if wrong else "\nEvery response was right.")
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    print(f"Serve it yourself: {python} examples/http_aiohttp.py (or asgi_uvicorn.py)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
