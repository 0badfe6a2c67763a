"""The websockets library, server and client: echoes, pings, large messages and endings."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from websockets.asyncio import client, server
from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from .conftest import Run

MIB = 1024 * 1024

# Their own patience is short for a machine that stands still now and then.
connect = partial(client.connect, open_timeout=60, close_timeout=60, ping_timeout=60)
unix_connect = partial(client.unix_connect, open_timeout=60, close_timeout=60, ping_timeout=60)
serve = partial(server.serve, open_timeout=60, close_timeout=60, ping_timeout=60)
unix_serve = partial(server.unix_serve, open_timeout=60, close_timeout=60, ping_timeout=60)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def url(server: Server) -> str:
    host, port = next(iter(server.sockets)).getsockname()[:2]
    return f"ws://{host}:{port}"


def test_text_and_binary_come_back(run: Run) -> None:
    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server, connect(url(server)) as ws:
            for number in range(300):
                message = f"text {number}" if number % 2 else b"bytes %d" % number
                await ws.send(message)
                assert await ws.recv() == message

    run(main())


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_an_eight_mebibyte_message_comes_back(run: Run, compression: str | None) -> None:
    message = bytes(range(256)) * (8 * MIB // 256)

    async def main() -> None:
        async with (
            serve(echo, "127.0.0.1", 0, max_size=None, compression=compression) as server,
            connect(url(server), max_size=None, compression=compression) as ws,
        ):
            await ws.send(message)
            assert await ws.recv() == message

    run(main())


def test_a_message_in_fragments_comes_back_whole(run: Run) -> None:
    async def fragments() -> AsyncIterator[bytes]:
        for number in range(100):
            yield bytes([number]) * 1000
            await asyncio.sleep(0)

    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server, connect(url(server)) as ws:
            await ws.send(fragments())
            assert await ws.recv() == b"".join(bytes([number]) * 1000 for number in range(100))

    run(main())


def test_a_hundred_clients_each_hear_their_own(run: Run) -> None:
    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server:

            async def talk(number: int) -> None:
                async with connect(url(server)) as ws:
                    for turn in range(10):
                        await ws.send(f"{number}:{turn}")
                        assert await ws.recv() == f"{number}:{turn}"

            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(talk(number))

    run(main())


def test_pings_are_answered_both_ways(run: Run) -> None:
    async def main() -> None:
        server_latency: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        async def ping_then_echo(connection: ServerConnection) -> None:
            server_latency.set_result(await (await connection.ping()))
            await echo(connection)

        async with serve(ping_then_echo, "127.0.0.1", 0) as server, connect(url(server)) as ws:
            assert await (await ws.ping(b"once")) >= 0
            pongs = [await ws.ping() for _ in range(20)]
            await asyncio.gather(*pongs)
            assert await server_latency >= 0

    run(main())


def test_keepalive_notices_a_peer_that_does_not_answer(run: Run) -> None:
    async def main() -> None:
        async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            proxied, to_server = await asyncio.open_connection(*address)
            to_server.write(await reader.readuntil(b"\r\n\r\n"))
            writer.write(await proxied.readuntil(b"\r\n\r\n"))
            await ended.wait()  # The upgrade is passed on, and nothing after it.
            writer.close()
            to_server.close()

        ended = asyncio.Event()
        async with serve(echo, "127.0.0.1", 0) as server:
            address = next(iter(server.sockets)).getsockname()[:2]
            proxy = await asyncio.start_server(be_silent, "127.0.0.1", 0)
            port = proxy.sockets[0].getsockname()[1]
            ws = await connect(
                f"ws://127.0.0.1:{port}", ping_interval=0.05, ping_timeout=0.05, close_timeout=0.1
            )
            with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
                await ws.recv()
            ended.set()
            proxy.close()
            await proxy.wait_closed()

    run(main())


def test_the_closing_handshake_carries_code_and_reason(run: Run) -> None:
    async def main() -> None:
        seen: asyncio.Future[tuple[int | None, str | None]] = (
            asyncio.get_running_loop().create_future()
        )

        async def look(connection: ServerConnection) -> None:
            await connection.wait_closed()
            seen.set_result((connection.close_code, connection.close_reason))

        async with serve(look, "127.0.0.1", 0) as server:
            ws = await connect(url(server))
            await ws.close(4002, "enough")
            assert await seen == (4002, "enough")
            with pytest.raises(
                ConnectionClosedOK if ws.close_code == 1000 else ConnectionClosedError
            ):
                await ws.send("too late")

    run(main())


def test_a_closing_server_says_going_away_to_every_client(run: Run) -> None:
    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server:
            clients = [await connect(url(server)) for _ in range(10)]
            server.close()
            for client in clients:
                with pytest.raises(ConnectionClosedOK):
                    await client.recv()
                assert client.close_code == 1001
            await server.wait_closed()

    run(main())


def test_a_broken_connection_is_an_error_at_the_other_end(run: Run) -> None:
    async def main() -> None:
        seen: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def look(connection: ServerConnection) -> None:
            try:
                await connection.recv()
            except ConnectionClosedError as error:
                seen.set_result(error)

        async with serve(look, "127.0.0.1", 0) as server:
            ws = await connect(url(server))
            ws.transport.abort()
            assert isinstance(await seen, ConnectionClosedError)
            await ws.wait_closed()

    run(main())


def test_it_works_over_a_unix_socket(run: Run, socket_path: str) -> None:
    async def main() -> None:
        async with unix_serve(echo, socket_path), unix_connect(socket_path) as ws:
            for size in (1, 1000, MIB // 2):
                await ws.send(bytes(size))
                assert await ws.recv() == bytes(size)

    run(main())


def test_a_slow_reader_holds_the_writer_back(run: Run) -> None:
    async def main() -> None:
        may_read, counted = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def read_late(connection: ServerConnection) -> None:
            await may_read.wait()
            counted.set_result(len([message async for message in connection]))

        async with serve(read_late, "127.0.0.1", 0, compression=None) as server:
            async with connect(url(server), compression=None) as ws:

                async def send_all() -> None:
                    for _ in range(64):
                        await ws.send(bytes(MIB // 2))

                sending = asyncio.create_task(send_all())
                done, _ = await asyncio.wait([sending], timeout=0.1)
                assert not done, "32 MiB were sent to a peer that reads nothing"
                may_read.set()
                await sending
            assert await counted == 64

    run(main())
