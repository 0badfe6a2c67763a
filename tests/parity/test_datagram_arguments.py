"""`create_datagram_endpoint` and `sendto` refuse what is wrong, in asyncio's words."""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from .harness.datagrams import LOCALHOST, Mailbox, endpoint, plain_udp
from .harness.types import Loop

# gh-114887
TAKES_RAW_SOCKETS = sys.version_info >= (3, 12, 2) or (3, 11, 8) <= sys.version_info < (3, 12)


async def refused(loop: Loop, error: type[BaseException], text: str, **arguments: Any) -> None:
    """Expect that no endpoint is made, and that no protocol is asked for."""

    def factory() -> Any:
        raise AssertionError("no protocol is needed")

    with pytest.raises(error, match=text):
        await loop.create_datagram_endpoint(factory, **arguments)


def test_the_parameters_are_asyncios(loop: Loop) -> None:
    ours = inspect.signature(type(loop).create_datagram_endpoint)
    theirs = inspect.signature(asyncio.BaseEventLoop.create_datagram_endpoint)
    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]


@pytest.mark.parametrize("name", ["reuse_address", "unknown"])
async def test_unknown_parameters_are_refused(loop: Loop, name: str) -> None:
    await refused(loop, TypeError, name, local_addr=LOCALHOST, **{name: True})


async def test_some_address_or_family_is_needed(loop: Loop) -> None:
    await refused(loop, ValueError, "^unexpected address family$")


async def test_a_family_is_enough(loop: Loop) -> None:
    async with endpoint(loop, family=socket.AF_INET) as box:
        assert box.transport.get_extra_info("sockname") == ("0.0.0.0", 0)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", ["127.0.0.1", 0], ("127.0.0.1",), ("::1", 0, 0, 0)]
)
@pytest.mark.parametrize("name", ["local_addr", "remote_addr"])
async def test_an_address_must_be_a_pair(loop: Loop, name: str, address: Any) -> None:
    await refused(loop, TypeError, "^2-tuple is expected$", **{name: address})


@pytest.mark.parametrize("address", [b"/path", ("127.0.0.1", 0), 7])
async def test_a_unix_address_must_be_a_string(loop: Loop, address: Any) -> None:
    await refused(
        loop, TypeError, "^string is expected$", family=socket.AF_UNIX, local_addr=address
    )


async def test_addresses_must_be_of_one_family(loop: Loop) -> None:
    await refused(
        loop,
        ValueError,
        "^can not get address information$",
        local_addr=("127.0.0.1", 0),
        remote_addr=("::1", 1),
    )


async def test_an_empty_answer_of_the_resolver_is_an_error(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_args: Any, **_named: Any) -> list[Any]:
        return []

    monkeypatch.setattr(loop, "getaddrinfo", nothing)
    await refused(
        loop, OSError, r"^getaddrinfo\(\) returned empty list$", local_addr=("localhost", 0)
    )


async def test_the_next_address_is_tried_and_the_first_error_told(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain_udp() as taken:
        port = taken.getsockname()[1]
        kind = socket.SOCK_DGRAM
        answers = [
            (socket.AF_INET, kind, 17, "", ("127.0.0.1", port)),
            (socket.AF_INET6, kind, 17, "", ("::1", port, 0, 0)),
        ]

        async def some(*_args: Any, **_named: Any) -> list[Any]:
            return answers

        monkeypatch.setattr(loop, "getaddrinfo", some)
        async with endpoint(loop, ("localhost", port)) as box:
            assert box.transport.get_extra_info("sockname")[0] == "::1"
        del answers[1]
        with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
            await loop.create_datagram_endpoint(
                lambda: Mailbox(loop), local_addr=("localhost", port)
            )


async def test_modifiers_do_not_go_with_a_socket(loop: Loop) -> None:
    with plain_udp() as sock:
        text = re.escape(
            "socket modifier keyword arguments can not be used when sock is specified. "
            "(local_addr=('127.0.0.1', 0), family=2, reuse_port=True)"
        )
        await refused(
            loop,
            ValueError,
            f"^{text}$",
            sock=sock,
            local_addr=LOCALHOST,
            family=2,
            reuse_port=True,
            allow_broadcast=False,
        )
        assert sock.fileno() != -1


async def test_a_stream_socket_is_refused(loop: Loop) -> None:
    expected = "A datagram socket was expected, got " if TAKES_RAW_SOCKETS else "A UDP Socket was "
    with socket.socket() as sock:
        await refused(loop, ValueError, f"^{expected}", sock=sock)


@pytest.mark.skipif(not TAKES_RAW_SOCKETS, reason="refused by this Python")
async def test_any_other_socket_is_taken(loop: Loop) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        async with endpoint(loop, sock=ours) as box:
            theirs.send(b"in")
            assert await box.received(1) == [b"in"]


async def test_an_adopted_socket_becomes_non_blocking(loop: Loop) -> None:
    sock = plain_udp()
    async with endpoint(loop, sock=sock):
        assert sock.gettimeout() == 0
    assert sock.fileno() == -1


async def test_a_factory_that_raises_reaches_the_caller(loop: Loop) -> None:
    def factory() -> Any:
        raise RuntimeError("no protocol today")

    with plain_udp() as sock:
        with pytest.raises(RuntimeError, match="no protocol today"):
            await loop.create_datagram_endpoint(factory, sock=sock)
        assert sock.fileno() != -1


@pytest.mark.only("cloverleaf")  # asyncio's leaves the socket to the collector
async def test_a_factory_that_raises_leaves_no_socket(loop: Loop) -> None:
    def factory() -> Any:
        raise RuntimeError("no protocol today")

    with pytest.raises(RuntimeError, match="no protocol today"):
        await loop.create_datagram_endpoint(factory, local_addr=LOCALHOST)


async def test_a_path_that_is_too_long_is_refused(loop: Loop, tmp_path: Path) -> None:
    await refused(
        loop,
        OSError,
        "AF_UNIX path too long",
        family=socket.AF_UNIX,
        remote_addr=str(tmp_path / ("x" * 200)),
    )


async def test_sending_to_a_path_that_is_too_long_is_told(loop: Loop) -> None:
    async with endpoint(loop, family=socket.AF_UNIX) as box:
        for path in ("x" * 108, b"x" * 108, "\0" + "x" * 108):
            box.transport.sendto(b"data", path)
        assert [str(error) for error in box.errors] == ["AF_UNIX path too long"] * 3


@pytest.mark.parametrize("data", ["text", None, 7, [1, 2]])
async def test_only_bytes_can_be_sent(loop: Loop, data: Any) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        text = f"data argument must be a bytes-like object, not '{type(data).__name__}'"
        with pytest.raises(TypeError, match=f"^{text}$"):
            box.transport.sendto(data, ("127.0.0.1", 9))


async def test_the_arguments_of_sendto(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        sendto = box.transport.sendto
        for arguments, named in (((), {}), ((b"", None, 1), {}), ((b"",), {"data": b""})):
            with pytest.raises(TypeError, match=r"sendto\(\)"):
                sendto(*arguments, **named)
        with pytest.raises(TypeError, match="unexpected keyword argument 'to'"):
            sendto(b"", to=None)


async def test_only_the_peer_can_be_sent_to(loop: Loop) -> None:
    with plain_udp() as peer:
        async with endpoint(loop, remote_addr=peer.getsockname()) as box:
            for address in (("127.0.0.1", 9), "127.0.0.1", 0):
                text = f"Invalid address: must be None or {peer.getsockname()}"
                with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
                    box.transport.sendto(b"data", address)
            box.transport.sendto(b"data", peer.getsockname())
            assert peer.recv(10) == b"data"


@pytest.mark.parametrize(
    ("address", "error"),
    [(("127.0.0.1", 65536), OverflowError), (("127.0.0.1", -1), OverflowError)],
)
async def test_a_port_out_of_range_ends_the_endpoint(
    loop: Loop, contexts: list[Any], address: Any, error: type[Exception]
) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        box.transport.sendto(b"data", address)
        assert isinstance(await asyncio.shield(box.lost), error)
        assert contexts


@pytest.mark.parametrize("port", [True, 9])
async def test_ports_may_be_any_integer(loop: Loop, port: Any) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        box.transport.sendto(b"data", ("127.0.0.1", port))
        assert box.errors == []
        assert not box.transport.is_closing()


async def test_a_descriptor_of_an_endpoint_cannot_be_watched(loop: Loop) -> None:
    async with endpoint(loop, LOCALHOST) as box:
        fd = box.transport.get_extra_info("socket").fileno()
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(fd, print)


def test_a_closed_loop_makes_no_endpoint(new_loop: Any) -> None:
    loop = new_loop()
    with plain_udp() as sock:
        coroutine = loop.create_datagram_endpoint(lambda: Mailbox(loop), sock=sock)
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            coroutine.send(None)


async def test_an_endpoint_that_cannot_be_made_closes_its_socket(
    loop: Loop, recwarn: pytest.WarningsRecorder
) -> None:
    with plain_udp() as taken:
        await refused(loop, OSError, "in use", local_addr=taken.getsockname())
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
