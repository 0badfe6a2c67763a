"""The programs in examples/ do what they say, on the loop asked for, and fail when they should."""

import json
import signal
import socket

import pytest

from .programs import ROOT, Programs

EXAMPLES = ROOT / "examples"
MIB = 1024 * 1024


def test_the_echo_server_echoes_and_stops_in_order(loop_name: str, programs: Programs) -> None:
    program = programs.python(str(EXAMPLES / "echo_server.py"), "--loop", loop_name, "--port", "0")
    port = int(program.wait_for_line(r"Serving on 127\.0\.0\.1:(\d+)")[1])
    message = bytes(range(256)) * (MIB // 256)
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(message[:1000])
        with client.makefile("rb") as file:
            assert file.read(1000) == message[:1000]
            program.signal(signal.SIGTERM)
            assert file.read() == b""
    assert program.wait() == 0, program.text()
    assert program.lines[-1] == "Stopped"


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_the_echo_server_with_workers_echoes_and_stops_in_order(
    loop_name: str, programs: Programs, kind: str
) -> None:
    if loop_name != "cloverleaf":
        pytest.skip("workers run on Cloverleaf's loops")
    program = programs.python(
        str(EXAMPLES / "echo_workers.py"), "--port", "0", "--workers", "2", "--kind", kind
    )
    port = int(program.wait_for_line(r"Serving on 127\.0\.0\.1:(\d+)")[1])
    for _ in range(2):
        program.wait_for_line(r"Worker [01] of 2 serves")
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as file:
                assert file.read() == b"hello"
    program.signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM, program.text()
    assert sorted(program.lines[-2:]) == ["Worker 0 stops", "Worker 1 stops"]


def test_the_demo_serves_measures_and_says_so(loop_name: str, programs: Programs) -> None:
    program = programs.python(
        str(EXAMPLES / "demo.py"), "--loops", loop_name, "--seconds", "0.4", "--rounds", "1"
    )
    assert program.wait(90) == 0, program.text()
    text = program.text()
    assert text.count("HTTP/1.1 200 OK") == 2
    assert text.count(f'"loop": "{loop_name}.') == 2
    assert "Every response was right." in text


@pytest.mark.parametrize(
    ("path", "expected", "code"),
    [("/", "Hello, world\n", 0), ("/", "Hello, moon\n", 1), ("/nowhere", "Hello, world\n", 1)],
    ids=["right", "wrong-body", "wrong-status"],
)
def test_the_load_client_tells_right_from_wrong(
    loop_name: str, programs: Programs, path: str, expected: str, code: int
) -> None:
    server = programs.python(str(EXAMPLES / "asgi_uvicorn.py"), "--loop", loop_name, "--port", "0")
    url = server.wait_for_line(r"running on (http://\S+)")[1]
    client = programs.python(
        str(EXAMPLES / "http_load.py"), url + path, "--expect", expected, "--seconds", "0.1"
    )
    assert client.wait() == code, client.text()
    report = json.loads(client.lines[-1])
    assert report["responses"] > 0
    assert report["wrong"] == (report["responses"] if code else 0)
    server.signal(signal.SIGTERM)
    server.wait()
