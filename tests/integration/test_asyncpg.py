"""asyncpg against a real PostgreSQL: queries, copies, cancelled queries, listeners, TLS refused."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from .conftest import Run
from .postgresql_server import USER, PostgresqlServer

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg has no wheel for this Python")

MIB = 1024 * 1024

transports = pytest.mark.parametrize("transport", ["tcp", "unix"])


def where(server: PostgresqlServer, transport: str = "tcp") -> dict[str, Any]:
    """How to reach the server."""
    host = "127.0.0.1" if transport == "tcp" else server.directory
    return {"host": host, "port": server.port, "user": USER, "database": "postgres", "timeout": 60}


@transports
def test_values_come_back(run: Run, postgresql: PostgresqlServer, transport: str) -> None:
    big = bytes(range(256)) * (4 * MIB // 256)

    async def main() -> None:
        connection = await asyncpg.connect(**where(postgresql, transport))
        try:
            assert await connection.fetchval("select 1") == 1
            assert await connection.fetchval("select $1::bytea", big) == big
            assert await connection.fetchval("select repeat('leaf', 100000)") == "leaf" * 100_000
            rows = await connection.fetch(
                "select n, n * n as square from generate_series(1, 5000) n"
            )
            assert [tuple(row) for row in rows] == [(n, n * n) for n in range(1, 5001)]
        finally:
            await connection.close()

    run(main())


def test_a_pool_of_five_serves_a_hundred_tasks(run: Run, postgresql: PostgresqlServer) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**where(postgresql), min_size=5, max_size=5) as pool:

            async def talk(number: int) -> None:
                for turn in range(5):
                    text = f"{number}:{turn}"
                    assert await pool.fetchval("select $1::text", text) == text

            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(talk(number))

    run(main())


def test_a_copy_goes_in_and_out_again_whole(run: Run, postgresql: PostgresqlServer) -> None:
    rows = 50_000

    async def lines() -> AsyncIterator[bytes]:
        for number in range(rows):
            yield b"%d\tleaf %d\n" % (number, number)

    async def main() -> None:
        connection = await asyncpg.connect(**where(postgresql))
        try:
            await connection.execute("create temporary table leaves (n int, name text)")
            assert await connection.copy_to_table("leaves", source=lines()) == f"COPY {rows}"
            back = io.BytesIO()
            query = "select * from leaves order by n"
            assert await connection.copy_from_query(query, output=back) == f"COPY {rows}"
            expected = b"".join(b"%d\tleaf %d\n" % (number, number) for number in range(rows))
            assert back.getvalue() == expected
        finally:
            await connection.close()

    run(main())


@transports
def test_a_query_that_is_cancelled_or_times_out_leaves_the_connection_usable(
    run: Run, postgresql: PostgresqlServer, transport: str
) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**where(postgresql, transport))
        watching = await asyncpg.connect(**where(postgresql))
        try:
            for number in range(5):
                sleeping = asyncio.create_task(connection.fetchval("select pg_sleep(60)"))
                await queries_at_sleep_are(1, watching)
                sleeping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sleeping
                await queries_at_sleep_are(0, watching)
                assert await connection.fetchval("select $1::int", number) == number
                with pytest.raises(TimeoutError):
                    await connection.fetchval("select pg_sleep(60)", timeout=0.05)
                assert await connection.fetchval("select $1::int", -number) == -number
        finally:
            await watching.close()
            await connection.close()

    run(main())


async def queries_at_sleep_are(count: int, connection: Any) -> None:
    """Returns once the server counts so many; only the server can tell, so it is asked again."""
    query = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    while await connection.fetchval(query) != count:
        continue


def test_a_transaction_that_fails_leaves_nothing_and_one_that_ends_is_seen_by_others(
    run: Run, postgresql: PostgresqlServer
) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**where(postgresql), min_size=2, max_size=4) as pool:
            await pool.execute("create table counters (n int)")
            await pool.execute("insert into counters values (0)")

            async def fail() -> None:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("update counters set n = 7")
                    await connection.execute("select 1 / 0")

            with pytest.raises(asyncpg.DivisionByZeroError):
                await fail()

            async def count_up() -> None:
                for _ in range(10):
                    async with pool.acquire() as connection, connection.transaction():
                        await connection.execute("update counters set n = n + 1")

            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(count_up())
            assert await pool.fetchval("select n from counters") == 100
            await pool.execute("drop table counters")

    run(main())


def test_notifications_arrive_in_order(run: Run, postgresql: PostgresqlServer) -> None:
    async def main() -> None:
        listening = await asyncpg.connect(**where(postgresql))
        telling = await asyncpg.connect(**where(postgresql))
        heard: asyncio.Queue[str] = asyncio.Queue()
        try:
            await listening.add_listener("leaves", lambda *words: heard.put_nowait(words[3]))
            for number in range(200):
                await telling.execute(f"notify leaves, '{number}'")
            assert [int(await heard.get()) for _ in range(200)] == list(range(200))
        finally:
            await telling.close()
            await listening.close()

    run(main())


def test_a_terminated_backend_is_heard_of_and_nothing_hangs(
    run: Run, postgresql: PostgresqlServer
) -> None:
    async def main() -> None:
        victim = await asyncpg.connect(**where(postgresql))
        killer = await asyncpg.connect(**where(postgresql))
        try:
            ended = asyncio.Event()
            victim.add_termination_listener(lambda _: ended.set())
            sleeping = asyncio.create_task(victim.fetchval("select pg_sleep(60)"))
            await queries_at_sleep_are(1, killer)
            assert await killer.fetchval("select pg_terminate_backend($1)", victim.get_server_pid())
            with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                await sleeping
            await ended.wait()
            assert victim.is_closed()
        finally:
            await killer.close()

    run(main())


def test_a_server_without_tls_is_used_in_the_clear_or_refused_as_asked(
    run: Run, postgresql: PostgresqlServer
) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**where(postgresql), ssl="prefer")
        assert await connection.fetchval("select 1") == 1
        await connection.close()
        with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
            await asyncpg.connect(**where(postgresql), ssl="require")

    run(main())
