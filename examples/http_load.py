"""A small HTTP/1.1 load client: keep-alive connections on plain epoll, every response checked.

It uses no event loop at all, so that what it measures is the server. Each connection has one
request under way; a response is right when its status is 200 and its body is the one expected.

python examples/http_load.py http://127.0.0.1:8080/ --connections 16 --seconds 2
"""

import argparse
import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

LAST_ANSWER_S = 60  # How long a request under way at the end may still take.


@dataclass
class Report:
    """What a run of the client saw."""

    responses: int
    wrong: int
    seconds: float
    p50_ms: float
    p99_ms: float


@dataclass
class Connection:
    """One keep-alive connection, and what has come of the response under way."""

    sock: socket.socket
    sent_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def send(self, request: bytes) -> None:
        self.received.clear()
        self.sent_at = time.perf_counter()
        self.sock.sendall(request)

    def take_response(self) -> tuple[int, bytes] | None:
        """Reads what is there; the status and the body once they are whole."""
        data = self.sock.recv(256 * 1024)
        if not data:
            raise ConnectionError("the server closed a keep-alive connection")
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        if not blank:
            return None
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r")[0])
        if len(body) < length:
            return None
        return int(head[9:12]), bytes(body)


def run(url: str, connections: int, seconds: float, expected: bytes | None) -> Report:
    """Asks for `url` on every connection, again and again, for so long."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    poll = select.epoll()
    by_fd: dict[int, Connection] = {}
    for _ in range(connections):
        sock = socket.create_connection((parts.hostname, parts.port), timeout=LAST_ANSWER_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        by_fd[sock.fileno()] = Connection(sock)
        poll.register(sock.fileno(), select.EPOLLIN)

    latencies: list[float] = []
    wrong = 0
    start = now = time.perf_counter()
    for connection in by_fd.values():
        connection.send(request)
    under_way = len(by_fd)
    while under_way:
        ready = poll.poll(LAST_ANSWER_S)
        if not ready:
            raise TimeoutError(f"{under_way} requests got no answer in {LAST_ANSWER_S} s")
        for fd, _ in ready:
            connection = by_fd[fd]
            response = connection.take_response()
            if response is None:
                continue
            now = time.perf_counter()
            latencies.append(now - connection.sent_at)
            status, body = response
            wrong += status != 200 or (expected is not None and body != expected)
            if now - start < seconds:
                connection.send(request)
            else:
                under_way -= 1
    for connection in by_fd.values():
        connection.sock.close()
    poll.close()
    return summarize(latencies, wrong, now - start)


def summarize(latencies: list[float], wrong: int, seconds: float) -> Report:
    """The report of a run with these latencies, in seconds."""
    latencies.sort()
    count = len(latencies)
    return Report(
        responses=count,
        wrong=wrong,
        seconds=seconds,
        p50_ms=latencies[count // 2] * 1e3,
        p99_ms=latencies[count * 99 // 100] * 1e3,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="A keep-alive HTTP load client.")
    parser.add_argument("url", help="http://host:port/path")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--expect", help="the body that every response must have")
    arguments = parser.parse_args()
    expected = None if arguments.expect is None else arguments.expect.encode()
    report = run(arguments.url, arguments.connections, arguments.seconds, expected)
    print(json.dumps(asdict(report)))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
