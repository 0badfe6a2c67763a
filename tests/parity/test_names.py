"""``getaddrinfo`` and ``getnameinfo``: numbers, names, errors, and programs that patch them."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from typing import Any

import pytest

from .harness.types import Loop


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1", 80),
        ("127.0.0.1", "80"),
        ("127.0.0.1", 0),
        ("127.0.0.1", None),
        ("::1", 443),
        (b"127.0.0.1", 80),
        ("localhost", 80),
        ("localhost", None),
        (None, 8080),
    ],
)
async def test_getaddrinfo_answers_as_the_socket_module(loop: Loop, host: Any, port: Any) -> None:
    expected = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    assert await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM) == expected


@pytest.mark.parametrize("host", [5, 1.5, [], ("localhost",), object()])
async def test_getaddrinfo_refuses_a_host_of_another_type_as_the_socket_module(
    loop: Loop, host: Any
) -> None:
    with pytest.raises(TypeError) as expected:
        socket.getaddrinfo(host, 80)
    with pytest.raises(TypeError) as found:
        await loop.getaddrinfo(host, 80)
    assert str(found.value) == str(expected.value)


@pytest.mark.only("cloverleaf")  # asyncio takes a thread of the executor
@pytest.mark.parametrize("host", ["localhost", b"localhost", None])
@pytest.mark.parametrize("port", [80, "80", b"80", None])
async def test_a_plain_name_takes_no_thread_of_the_executor(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, host: Any, port: Any
) -> None:
    def refuse(*_args: Any) -> None:
        raise AssertionError("a job for the executor")

    monkeypatch.setattr(type(loop), "run_in_executor", refuse)
    if host is None and port is None:
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo(host, port)
    else:
        assert await loop.getaddrinfo(host, port) == socket.getaddrinfo(host, port)


@pytest.mark.parametrize("family", [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("kind_of_socket", [0, socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_getaddrinfo_of_numbers_honours_every_argument(
    loop: Loop, family: int, kind_of_socket: int
) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    options: dict[str, Any] = {"family": family, "type": kind_of_socket, "proto": 0, "flags": 0}
    answers = await loop.getaddrinfo(host, 80, **options)
    assert answers == socket.getaddrinfo(host, 80, **options)
    for answer, expected in zip(answers, socket.getaddrinfo(host, 80, **options), strict=True):
        assert [type(each) for each in answer] == [type(each) for each in expected]


@pytest.mark.parametrize("host", ["localhost.", "LOCALHOST", "a" * 63, "127.1", "0x7f.1", ""])
async def test_getaddrinfo_of_odd_names_answers_as_the_socket_module(loop: Loop, host: str) -> None:
    options: dict[str, Any] = {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICSERV}
    for _ in range(3):  # a server of names, where one is asked, may have no answer now and then
        try:
            expected: Any = socket.getaddrinfo(host, 80, **options)
        except socket.gaierror as error:
            expected = error.args
        try:
            found: Any = await loop.getaddrinfo(host, 80, **options)
        except socket.gaierror as error:
            found = error.args
        if found == expected:
            break
    assert found == expected


@pytest.mark.parametrize("port", [-1, 65536, 1 << 40, True, "80", b"80", "", "http"])
async def test_getaddrinfo_of_odd_ports_answers_as_the_socket_module(loop: Loop, port: Any) -> None:
    options: dict[str, Any] = {"type": socket.SOCK_STREAM}
    try:
        expected: Any = socket.getaddrinfo("127.0.0.1", port, **options)
    except OSError as error:
        expected = error.args
    try:
        found: Any = await loop.getaddrinfo("127.0.0.1", port, **options)
    except OSError as error:
        found = error.args
    assert found == expected


@pytest.mark.parametrize("flags", [socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_CANONNAME])
async def test_getaddrinfo_honours_flags(loop: Loop, flags: int) -> None:
    options: dict[str, Any] = {"type": socket.SOCK_STREAM, "flags": flags}
    expected = socket.getaddrinfo("127.0.0.1", 80, **options)
    assert await loop.getaddrinfo("127.0.0.1", 80, **options) == expected


@pytest.mark.parametrize("scoped", ["::1%1", "fe80::1%lo"])
async def test_getaddrinfo_knows_scopes(loop: Loop, scoped: str) -> None:
    options: dict[str, Any] = {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}
    try:
        expected: Any = socket.getaddrinfo(scoped, 80, **options)
    except socket.gaierror as error:
        expected = error.errno
    try:
        found: Any = await loop.getaddrinfo(scoped, 80, **options)
    except socket.gaierror as error:
        found = error.errno
    assert found == expected


@pytest.mark.parametrize(
    ("host", "port", "options"),
    [
        ("not a number", 80, {"flags": socket.AI_NUMERICHOST}),
        ("127.0.0.1", 80, {"family": socket.AF_INET6, "flags": socket.AI_NUMERICHOST}),
        ("::1", 80, {"family": socket.AF_INET}),
        ("127.0.0.1", "no-such-service", {}),
        ("256.256.256.256", 80, {"flags": socket.AI_NUMERICHOST}),
        (None, None, {}),
        ("127.0.0.1", 80, {"type": 12345}),
    ],
)
async def test_getaddrinfo_raises_gaierror(
    loop: Loop, host: Any, port: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(socket.gaierror) as expected:
        socket.getaddrinfo(host, port, **options)
    with pytest.raises(socket.gaierror) as raised:
        await loop.getaddrinfo(host, port, **options)
    assert raised.value.args == expected.value.args


@pytest.mark.parametrize(
    "host", ["a" * 300 + ".example", "a" * 64, "x." + "a" * 64, "a..b", ".b", "\ud800", 42]
)
async def test_getaddrinfo_refuses_what_is_no_host(loop: Loop, host: Any) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011 - the kind is what is compared
        socket.getaddrinfo(host, 80)
    with pytest.raises(type(expected.value)):
        await loop.getaddrinfo(host, 80)


async def test_a_patched_getaddrinfo_is_looked_up_when_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]

    def patched(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((host, port))
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", patched)
    assert await loop.getaddrinfo("some.example", 9) == answer
    assert seen == [("some.example", 9)]


async def test_a_slow_getaddrinfo_does_not_block_the_loop(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [free.wait(60)])
    future = asyncio.ensure_future(loop.getaddrinfo("slow.example", 1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not future.done()
    free.set()
    answer: object = await future
    assert answer == [True]


async def test_completions_many_lookups_end_once_each(loop: Loop) -> None:
    lookups = [loop.getaddrinfo("localhost", n, type=socket.SOCK_STREAM) for n in range(1, 40)]
    answers = await asyncio.gather(*lookups)
    assert [answer[0][4][1] for answer in answers] == list(range(1, 40))


async def test_completions_a_cancelled_lookup_ends_cancelled(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [free.wait(60)])
    future = asyncio.ensure_future(loop.getaddrinfo("slow.example", 1))
    await asyncio.sleep(0)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    free.set()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_closed_loop_looks_nothing_up(loop: Loop, host: str) -> None:
    loop.close()
    asked = loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        asked.send(None)


async def test_getaddrinfo_can_be_made_a_task(loop: Loop) -> None:
    coroutine = loop.getaddrinfo("127.0.0.1", 80)
    assert asyncio.iscoroutine(coroutine)
    assert await loop.create_task(coroutine)


@pytest.mark.parametrize("address", [("127.0.0.1", 80), ("::1", 80, 0, 0)])
async def test_getnameinfo_answers_as_the_socket_module(loop: Loop, address: Any) -> None:
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert await loop.getnameinfo(address, flags) == socket.getnameinfo(address, flags)
    for _ in range(3):  # a server of names, where one is asked, may have no answer now and then
        try:
            expected: Any = socket.getnameinfo(address, 0)
        except socket.gaierror as error:
            expected = error.args
        try:
            found: Any = await loop.getnameinfo(address)
        except socket.gaierror as error:
            found = error.args
        if found == expected:
            break
    assert found == expected


async def test_getnameinfo_raises_gaierror(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.getnameinfo(("localhost", 80), 0)


async def test_a_patched_getnameinfo_is_looked_up_when_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getnameinfo", lambda *args: ("patched", args))
    found: Any = await loop.getnameinfo(("127.0.0.1", 1), 2)
    assert found == ("patched", (("127.0.0.1", 1), 2))


def test_audit_hooks_hear_of_a_look_up_as_of_the_socket_modules(program: Any) -> None:
    program.output(
        """
        import asyncio, socket, sys
        heard = []
        refused = False
        def hear(name, args):
            if name == "socket.getaddrinfo":
                heard.append(args)
                if refused:
                    raise ValueError("refused")
        sys.addaudithook(hear)
        async def main():
            global refused
            loop = asyncio.get_running_loop()
            for host in ("127.0.0.1", "::1", "localhost"):
                await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
                [(asked, port, family, kind, proto)] = heard
                assert (asked, port, family, kind, proto) == (host, 80, 0, socket.SOCK_STREAM, 0)
                assert [type(number) for number in (family, kind, proto)] == [int] * 3
                heard.clear()
            refused = True
            for host in ("127.0.0.1", "localhost"):
                try:
                    await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
                except ValueError as error:
                    assert error.args == ("refused",)
                else:
                    raise AssertionError("nobody has refused it")
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        """
    )


async def test_debug_mode_reports_a_look_up_of_an_address(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 3600.0
    with caplog.at_level("DEBUG", logger="asyncio"):
        found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert found == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    texts = [record.getMessage() for record in caplog.records]
    asked = "127.0.0.1:80, type=<SocketKind.SOCK_STREAM: 1>"
    assert f"Get address info {asked}" in texts
    assert any(text.startswith(f"Getting address info {asked} took ") for text in texts)


async def test_getaddrinfo_is_a_coroutine_function(loop: Loop) -> None:
    assert inspect.iscoroutinefunction(loop.getaddrinfo)
    asked = loop.getaddrinfo("127.0.0.1", 80)
    assert inspect.iscoroutine(asked)
    asked.close()
