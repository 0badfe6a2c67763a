"""uvicorn as people run it: its command, in a process of its own, with `--loop` naming the loop."""

import http.client
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.sync.client import connect

from .programs import Program, Programs

MIB = 1024 * 1024
LOOP_ARGUMENT = {"asyncio": "asyncio", "cloverleaf": "cloverleaf:new_event_loop"}
HTTP_IMPLEMENTATIONS = ("h11", "httptools")
TIMEOUT_S = 60


def start(programs: Programs, loop_name: str, http_name: str, *more: str) -> Program:
    return programs.python(
        *("-m", "uvicorn", "asgi_app:app", "--loop", LOOP_ARGUMENT[loop_name]),
        *("--http", http_name, "--ws", "websockets-sansio", *more),
        # A client that stands still meanwhile has kept its connection.
        *("--timeout-keep-alive", "60", "--ws-ping-timeout", "60"),
    )


def start_on_tcp(programs: Programs, loop_name: str, http_name: str) -> tuple[Program, int]:
    program = start(programs, loop_name, http_name, "--port", "0")
    return program, int(program.wait_for_line(r"running on http://127\.0\.0\.1:(\d+)")[1])


@pytest.fixture(scope="module", params=HTTP_IMPLEMENTATIONS)
def port(programs: Programs, loop_name: str, request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of one server that several tests talk to."""
    program, port = start_on_tcp(programs, loop_name, request.param)
    yield port
    program.signal(signal.SIGTERM)
    program.wait()


def read_responses(client: socket.socket, count: int) -> list[bytes]:
    """The bodies of the next `count` responses, which all have a Content-Length."""
    bodies = []
    with client.makefile("rb") as file:
        for _ in range(count):
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := file.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            bodies.append(file.read(length))
    return bodies


def test_it_really_runs_on_the_loop_asked_for(port: int, loop_name: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    client.request("GET", "/loop")
    module = client.getresponse().read().decode()
    client.close()
    assert module.partition(".")[0] == loop_name


def test_keep_alive_serves_many_requests_on_one_connection(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    client.connect()
    first = client.sock
    for number in range(200):
        client.request("GET", f"/number/{number}")
        response = client.getresponse()
        assert (response.status, response.read()) == (200, f"/number/{number}".encode())
    assert client.sock is first
    client.close()


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
        paths = [f"/pipelined/{number}".encode() for number in range(50)]
        client.sendall(b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths))
        assert read_responses(client, 50) == paths


def test_a_request_that_comes_byte_by_byte_is_answered(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello":
            client.sendall(bytes([byte]))
        assert read_responses(client, 1) == [b"hello"]


def test_eight_mebibytes_are_echoed(port: int) -> None:
    body = bytes(range(256)) * (8 * MIB // 256)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    client.request("POST", "/echo", body=body)
    assert client.getresponse().read() == body
    client.close()


def test_a_streamed_response_arrives_whole(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    client.request("GET", "/stream")
    response = client.getresponse()
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.read() == b"".join(b"%d\n" % number * 1000 for number in range(100))
    client.close()


def test_sixteen_clients_at_once_each_get_their_own(port: int) -> None:
    def talk(number: int) -> list[bytes]:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        bodies = []
        for turn in range(20):
            client.request("POST", "/echo", body=f"{number}:{turn}" * (number * 50 + 1))
            bodies.append(client.getresponse().read())
        client.close()
        return bodies

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(talk, range(16)))
    for number, bodies in enumerate(answers):
        assert bodies == [f"{number}:{turn}".encode() * (number * 50 + 1) for turn in range(20)]


def test_a_websocket_echoes(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/", max_size=2 * MIB, open_timeout=TIMEOUT_S) as ws:
        for message in ("hello", bytes(MIB), "again"):
            ws.send(message)
            assert ws.recv(TIMEOUT_S) == message


def test_a_client_that_leaves_mid_response_harms_nobody(port: int) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            client.recv(100)
    client2 = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    client2.request("GET", "/still/there")
    assert client2.getresponse().read() == b"/still/there"
    client2.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)],
    ids=["SIGTERM", "SIGINT"],
)
@pytest.mark.parametrize("http_name", HTTP_IMPLEMENTATIONS)
def test_a_signal_stops_it_after_the_request_in_flight(
    programs: Programs, loop_name: str, http_name: str, number: signal.Signals, code: int
) -> None:
    program, port = start_on_tcp(programs, loop_name, http_name)
    assert any("lifespan startup" in line for line in program.lines)
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as idle,
        socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as busy,
    ):
        idle.sendall(b"GET /idle HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_responses(idle, 1) == [b"/idle"]
        busy.sendall(b"POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
        program.wait_for_line("request held")
        program.signal(number)
        program.wait_for_line("Shutting down")
        assert idle.recv(100) == b""
        busy.sendall(b"later")
        assert read_responses(busy, 1) == [b"firstlater"]
        assert busy.recv(100) == b""
    assert program.wait() == code, program.text()
    assert any("lifespan shutdown" in line for line in program.lines)
    assert not any(re.search("Traceback|Error", line) for line in program.lines), program.text()


def test_it_serves_a_unix_socket(programs: Programs, loop_name: str, socket_path: str) -> None:
    program = start(programs, loop_name, "httptools", "--uds", socket_path)
    program.wait_for_line("running on")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(socket_path)
        client.sendall(b"GET /loop HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_responses(client, 1)[0].decode().partition(".")[0] == loop_name
    program.signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM, program.text()
