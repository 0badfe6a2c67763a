"""TLS connections: how they are made, what they agree on, and what they tell of it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from .harness.certificates import HOST, authority, client_context, demanding_context, server_context
from .harness.complaints import Complaints
from .harness.protocols import Recorder
from .harness.tls import Peer, socket_pair, tls_ends, tls_linked
from .harness.turns import turns, until
from .harness.types import Context, Loop


async def test_tls_carries_data_both_ways(loop: Loop) -> None:
    async with tls_ends(loop) as ends:
        ends.client.transport.write(b"ping")
        assert await ends.server.received(4) == b"ping"
        ends.server.transport.write(b"pong")
        assert await ends.client.received(4) == b"pong"
        assert isinstance(ends.client.transport, asyncio.Transport)


async def test_a_certificate_that_is_asked_for_later_is_shown_at_once(loop: Loop) -> None:
    theirs, ours = demanding_context(), client_context(certificate=True)
    theirs.post_handshake_auth = ours.post_handshake_auth = True
    async with tls_linked(loop, Recorder, ours, theirs) as (protocol, peer):
        assert peer.tls.getpeercert() is None
        peer.tls.verify_client_post_handshake()
        await peer.send(b"who?")
        # It is in records that only reading has made: the protocol writes nothing.
        while peer.tls.getpeercert() is None:
            peer.incoming.write(await loop.sock_recv(peer.sock, 1 << 18))
            with pytest.raises(ssl.SSLWantReadError):
                peer.tls.read(1)
        assert protocol.data == b"who?"


async def test_tls_over_unix_sockets(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    theirs, ours = Recorder(loop), Recorder(loop)
    server = await loop.create_unix_server(lambda: theirs, path, ssl=server_context())
    transport, _ = await loop.create_unix_connection(
        lambda: ours, path, ssl=client_context(), server_hostname=HOST
    )
    transport.write(b"over unix")
    assert await theirs.received(9) == b"over unix"
    server.close()
    transport.close()
    assert await ours.lost is None
    assert await theirs.lost is None
    await server.wait_closed()


async def test_tls_on_an_accepted_socket(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with theirs:
        protocol = Recorder(loop)
        peer = Peer(loop, theirs, client_context())
        (transport, same), _ = await asyncio.gather(
            loop.connect_accepted_socket(lambda: protocol, ours, ssl=server_context()),
            peer.handshake(),
        )
        assert same is protocol
        transport.write(b"welcome")
        assert await peer.receive(7) == b"welcome"
        transport.abort()
        assert await protocol.lost is None


async def test_streams_over_tls(loop: Loop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(
        host, port, ssl=client_context(), server_hostname=HOST
    )
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    assert not writer.can_write_eof()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_protocol_is_made_after_the_handshake_only(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with theirs:
        protocol = Recorder(loop)
        connecting = loop.create_task(
            loop.create_connection(
                lambda: protocol, sock=ours, ssl=client_context(), server_hostname=HOST
            )
        )
        await turns(5)
        assert protocol.calls == []
        peer = Peer(loop, theirs, server_context())
        await peer.handshake()
        transport, _ = await connecting
        assert protocol.calls == ["connection_made"]
        assert protocol.transport is transport
        transport.abort()
        await protocol.lost


async def test_tls_extra_info(loop: Loop) -> None:
    context = client_context()
    async with tls_ends(loop, client_ssl=context) as ends:
        info = ends.client.transport.get_extra_info
        assert info("sslcontext") is context
        # Private, and yet what programs reach for.
        protocol = ends.client.transport._ssl_protocol  # type: ignore[attr-defined]
        assert protocol._sslcontext is context
        tls = info("ssl_object")
        assert isinstance(tls, ssl.SSLObject)
        assert tls.context is context
        assert tls.server_hostname == HOST
        assert info("cipher") == tls.cipher()
        assert info("compression") is None
        certificate = info("peercert")
        assert certificate == tls.getpeercert()
        assert ("DNS", HOST) in certificate["subjectAltName"]
        assert info("peername") == ends.server.transport.get_extra_info("sockname")
        assert info("socket").family == socket.AF_INET
        assert info("nothing") is None
        assert info("nothing", "else") == "else"
        assert ends.server.transport.get_extra_info("peercert") is None
        assert ends.server.transport.get_extra_info("ssl_object").server_side


async def test_extra_info_after_the_connection_is_lost(loop: Loop) -> None:
    context = client_context()
    async with tls_linked(loop, Recorder, context) as (ours, _):
        ours.transport.abort()
        assert await ours.lost is None
        await turns(2)
        info = ours.transport.get_extra_info
        assert info("sslcontext") is context
        assert info("cipher") is not None
        assert info("peername", "gone") == "gone"
        assert ours.transport.get_protocol() is None


async def test_alpn(loop: Loop) -> None:
    ours, theirs = client_context(), server_context()
    ours.set_alpn_protocols(["h2", "http/1.1"])
    theirs.set_alpn_protocols(["http/1.1"])
    async with tls_ends(loop, client_ssl=ours, server_ssl=theirs) as ends:
        for each in (ends.client, ends.server):
            tls = each.transport.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "http/1.1"


async def test_sni_callback_chooses_the_context(loop: Loop) -> None:
    names = []
    front, back = server_context("other.example"), server_context()

    def choose(tls: Any, name: str | None, _context: ssl.SSLContext) -> None:
        names.append(name)
        tls.context = back

    front.sni_callback = choose
    async with tls_ends(loop, server_ssl=front) as ends:
        assert names == [HOST]
        assert ends.server.transport.get_extra_info("ssl_object").context is back


async def test_sni_callback_refuses(loop: Loop) -> None:
    context = server_context()
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_ACCESS_DENIED
    server = await loop.create_server(lambda: Recorder(loop), "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await loop.create_connection(
            lambda: Recorder(loop), host, port, ssl=client_context(), server_hostname=HOST
        )
    server.close()
    await server.wait_closed()


async def test_client_certificate(loop: Loop) -> None:
    async with tls_ends(
        loop, client_ssl=client_context(certificate=True), server_ssl=demanding_context()
    ) as ends:
        ends.client.transport.write(b"me")
        await ends.server.received(2)
        names = ends.server.transport.get_extra_info("peercert")["subjectAltName"]
        assert ("email", "client@example.org") in names


async def test_a_missing_client_certificate_is_refused(loop: Loop) -> None:
    context = demanding_context()
    theirs = Recorder(loop)
    server = await loop.create_server(lambda: theirs, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    ours = Recorder(loop)
    transport, _ = await loop.create_connection(
        lambda: ours, host, port, ssl=client_context(), server_hostname=HOST
    )
    transport.write(b"let me in")
    await ours.lost
    assert theirs.calls == []
    server.close()
    await server.wait_closed()


async def test_renegotiation_is_refused(loop: Loop) -> None:
    """Also of a client that insists: nothing that it sends afterwards arrives."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("Python cannot renegotiate, and the openssl command is not here")
    context = server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    theirs = Recorder(loop)
    server = await loop.create_server(lambda: theirs, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    command = [openssl, "s_client", "-tls1_2", "-connect", f"{host}:{port}"]
    client = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert client.stdin is not None
    client.stdin.write(b"hello\n")
    await theirs.made
    assert await theirs.received(6) == b"hello\n"
    client.stdin.write(b"R\n")
    assert isinstance(await theirs.lost, ssl.SSLError)
    _, said = await client.communicate()
    assert b"RENEGOTIATING" in said
    assert client.returncode != 0
    assert theirs.data == b""
    server.close()
    await server.wait_closed()


async def test_session_reuse(loop: Loop) -> None:
    ours, theirs = client_context(), server_context()
    for context in (ours, theirs):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with tls_ends(loop, client_ssl=ours, server_ssl=theirs) as ends:
        tls = ends.client.transport.get_extra_info("ssl_object")
        assert not tls.session_reused
        session = tls.session

    class Reuse(ssl.SSLObject):
        def do_handshake(self) -> None:
            if self.session is None:
                self.session = session
            super().do_handshake()

    ours.sslobject_class = Reuse
    async with tls_ends(loop, client_ssl=ours, server_ssl=theirs) as ends:
        tls = ends.client.transport.get_extra_info("ssl_object")
        assert type(tls) is Reuse
        assert tls.session_reused


async def test_an_object_of_the_program_reads_and_writes(loop: Loop) -> None:
    class Counting(ssl.SSLObject):
        read_bytes = written = 0

        def read(self, *arguments: Any) -> Any:
            result: Any = super().read(*arguments)
            self.read_bytes += result if isinstance(result, int) else len(result)
            return result

        def write(self, data: Any) -> int:
            self.written += len(data)
            return super().write(data)

    ours = client_context()
    ours.sslobject_class = Counting
    async with tls_ends(loop, client_ssl=ours) as ends:
        ends.client.transport.write(b"question")
        assert await ends.server.received(8) == b"question"
        ends.server.transport.write(b"x" * 100_000)
        await ends.client.received(100_000)
        tls = ends.client.transport.get_extra_info("ssl_object")
        assert (tls.written, tls.read_bytes) == (8, 100_000)


async def test_the_contexts_own_limits_hold(loop: Loop) -> None:
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    async with tls_ends(loop, client_ssl=context) as ends:
        tls = ends.client.transport.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.2"
        assert "GCM" in tls.cipher()[0]


async def test_an_untrusted_certificate_is_refused(loop: Loop, contexts: list[Context]) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs = Recorder(loop)
    server = await loop.create_server(lambda: theirs, "127.0.0.1", 0, ssl=server_context())
    host, port = server.sockets[0].getsockname()
    ours = Recorder(loop)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        await loop.create_connection(lambda: ours, host, port, ssl=stranger, server_hostname=HOST)
    server.close()
    await server.wait_closed()
    assert ours.calls == theirs.calls == []
    assert contexts == []


async def test_a_certificate_for_another_name_is_refused(loop: Loop) -> None:
    server = await loop.create_server(lambda: Recorder(loop), "127.0.0.1", 0, ssl=server_context())
    host, port = server.sockets[0].getsockname()
    for name in (None, "other.example"):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid"):
            await loop.create_connection(
                lambda: Recorder(loop), host, port, ssl=client_context(), server_hostname=name
            )
    server.close()
    await server.wait_closed()


async def test_true_asks_for_the_default_context(loop: Loop) -> None:
    server = await loop.create_server(lambda: Recorder(loop), "127.0.0.1", 0, ssl=server_context())
    host, port = server.sockets[0].getsockname()
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        await loop.create_connection(lambda: Recorder(loop), host, port, ssl=True)
    server.close()
    await server.wait_closed()


async def test_the_default_context_checks_the_name_where_there_is_one(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "authority.pem"
    authority().cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    served = loop.create_server(lambda: Recorder(loop), "127.0.0.1", 0, ssl=server_context())
    async with await served as server:
        host, port = server.sockets[0].getsockname()
        for name in (HOST, ""):
            transport, protocol = await loop.create_connection(
                lambda: Recorder(loop), host, port, ssl=True, server_hostname=name
            )
            assert transport.get_extra_info("sslcontext").check_hostname == bool(name)
            transport.close()
            assert await protocol.lost is None
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid"):
            await loop.create_connection(
                lambda: Recorder(loop), host, port, ssl=True, server_hostname="other.example"
            )


async def test_a_peer_that_does_not_speak_tls(loop: Loop, contexts: list[Context]) -> None:
    ours, theirs = socket_pair()
    with theirs:
        await loop.sock_sendall(theirs, b"220 mail.example ready\r\n")
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version.number|record layer failure"):
            await loop.create_connection(
                asyncio.Protocol, sock=ours, ssl=client_context(), server_hostname=HOST
            )
    assert contexts == []


async def test_tls_arguments_are_checked(loop: Loop) -> None:
    context = client_context()
    connect = loop.create_connection
    with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
        await connect(asyncio.Protocol, "127.0.0.1", 1, server_hostname="x")
    with pytest.raises(ValueError, match="You must set server_hostname when using ssl without a"):
        await connect(asyncio.Protocol, sock=socket.socket(), ssl=context)
    for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
        wrong: dict[str, Any] = {name: 1}
        for method in (connect, loop.create_server):
            with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
                await method(asyncio.Protocol, "127.0.0.1", 0, **wrong)
        with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
            await loop.create_unix_connection(asyncio.Protocol, "nowhere", **wrong)
        with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
            await loop.create_unix_server(asyncio.Protocol, "nowhere", **wrong)
    with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
        await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=True)
    with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
        await loop.create_unix_server(asyncio.Protocol, "nowhere", ssl=True)
    with pytest.raises(ValueError, match="you have to pass server_hostname when using ssl"):
        await loop.create_unix_connection(asyncio.Protocol, "nowhere", ssl=context)
    with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
        await loop.create_unix_connection(asyncio.Protocol, "nowhere", server_hostname="x")


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("seconds", [0, -1.5])
async def test_tls_timeouts_are_positive(loop: Loop, name: str, seconds: float) -> None:
    ours, theirs = socket_pair()
    with ours, theirs:
        wrong: dict[str, Any] = {name: seconds}
        with pytest.raises(ValueError, match=f"{name} should be a positive number, got {seconds}"):
            await loop.create_connection(
                asyncio.Protocol, sock=ours, ssl=client_context(), server_hostname=HOST, **wrong
            )


async def test_a_server_needs_a_context(loop: Loop) -> None:
    ours, theirs = socket_pair()
    refusal = pytest.raises(ValueError, match="Server side SSL needs a valid SSLContext")
    with ours, theirs, refusal:
        await loop.connect_accepted_socket(asyncio.Protocol, ours, ssl=True)


async def test_debug_mode_tells_of_handshakes(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    with caplog.at_level("DEBUG", "asyncio"):
        async with tls_linked(loop, Recorder) as (ours, peer):
            peer.sock.close()
            await ours.lost
    text = caplog.text
    assert "starts SSL handshake" in text
    assert "SSL handshake took" in text
    assert "received EOF" in text


async def test_debug_mode_reports_a_client_that_fails(
    loop: Loop, contexts: list[Context], logged: Complaints
) -> None:
    loop.set_debug(True)
    server = await loop.create_server(lambda: Recorder(loop), "127.0.0.1", 0, ssl=server_context())
    with socket.create_connection(server.sockets[0].getsockname()):
        pass
    await until(lambda: contexts)
    assert contexts[0]["message"] == "Error on transport creation for incoming connection"
    assert isinstance(contexts[0]["exception"], ConnectionResetError)
    assert len(contexts) == 1
    server.close()
    await server.wait_closed()


async def test_a_failing_client_is_nobodys_business_else(
    loop: Loop, contexts: list[Context]
) -> None:
    theirs = Recorder(loop)
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(theirs)
        return theirs

    server = await loop.create_server(make, "127.0.0.1", 0, ssl=server_context())
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        sock.setblocking(False)
        assert await loop.sock_recv(sock, 100) == b""
    server.close()
    await server.wait_closed()
    assert len(made) == 1
    assert theirs.calls == []
    assert contexts == []


@pytest.mark.parametrize("raised", [ZeroDivisionError, asyncio.CancelledError, GeneratorExit])
async def test_an_exception_in_connection_made_ends_the_connection(
    loop: Loop, contexts: list[Context], raised: type[BaseException]
) -> None:
    class Failing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise raised

    ours, theirs = socket_pair()
    with theirs:
        protocol = Failing(loop)
        peer = Peer(loop, theirs, server_context())
        connecting = loop.create_connection(
            lambda: protocol, sock=ours, ssl=client_context(), server_hostname=HOST
        )
        results = await asyncio.gather(connecting, peer.handshake(), return_exceptions=True)
        assert isinstance(results[0], raised)
        assert isinstance(await protocol.lost, raised)
    assert [type(context["exception"]) for context in contexts] == [raised]
