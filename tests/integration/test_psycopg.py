"""psycopg's asyncio side against a real PostgreSQL: it waits by `add_reader` and `add_writer`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .conftest import Run
from .postgresql_server import USER, PostgresqlServer

psycopg = pytest.importorskip("psycopg", reason="psycopg has no wheel for this Python")

MIB = 1024 * 1024

transports = pytest.mark.parametrize("transport", ["tcp", "unix"])


@asynccontextmanager
async def connect(server: PostgresqlServer, transport: str = "tcp") -> AsyncIterator[Any]:
    """A connection in which each statement is a transaction."""
    host = "127.0.0.1" if transport == "tcp" else server.directory
    where = {"host": host, "port": server.port, "user": USER, "dbname": "postgres"}
    connection = await psycopg.AsyncConnection.connect(**where, autocommit=True)
    async with connection:
        yield connection


async def value(connection: Any, query: str, *arguments: Any) -> Any:
    """The first column of the first row."""
    cursor = await connection.execute(query, arguments)
    return (await cursor.fetchone())[0]


@transports
def test_values_come_back(run: Run, postgresql: PostgresqlServer, transport: str) -> None:
    big = bytes(range(256)) * (4 * MIB // 256)

    async def main() -> None:
        async with connect(postgresql, transport) as connection:
            assert await value(connection, "select 1") == 1
            assert await value(connection, "select %b::bytea", big) == big
            numbers = "select n from generate_series(1, 5000) n"
            cursor = await connection.execute(numbers)
            assert [row[0] async for row in cursor] == list(range(1, 5001))

    run(main())


def test_a_pipeline_answers_in_order(run: Run, postgresql: PostgresqlServer) -> None:
    async def main() -> None:
        async with connect(postgresql) as connection, connection.pipeline():
            cursors = [await connection.execute("select %s::int", (n,)) for n in range(500)]
            answers = [(await cursor.fetchone())[0] for cursor in cursors]
            assert answers == list(range(500))

    run(main())


def test_a_copy_goes_in_and_out_again_whole(run: Run, postgresql: PostgresqlServer) -> None:
    rows = [(number, f"leaf {number}") for number in range(20_000)]

    async def main() -> None:
        async with connect(postgresql) as connection:
            await connection.execute("create temporary table leaves (n int, name text)")
            cursor = connection.cursor()
            async with cursor.copy("copy leaves from stdin") as copy:
                for row in rows:
                    await copy.write_row(row)
            async with cursor.copy("copy (select * from leaves order by n) to stdout") as copy:
                copy.set_types(["int4", "text"])
                assert [row async for row in copy.rows()] == rows

    run(main())


@transports
def test_a_cancelled_query_leaves_the_connection_usable(
    run: Run, postgresql: PostgresqlServer, transport: str
) -> None:
    async def main() -> None:
        async with (
            connect(postgresql, transport) as connection,
            connect(postgresql) as watching,
        ):
            for number in range(5):
                sleeping = asyncio.create_task(value(connection, "select pg_sleep(60)"))
                await queries_at_sleep_are(1, watching)
                sleeping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sleeping
                await queries_at_sleep_are(0, watching)
                assert await value(connection, "select %s::int", number) == number

    run(main())


async def queries_at_sleep_are(count: int, connection: Any) -> None:
    """Returns once the server counts so many; only the server can tell, so it is asked again."""
    query = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    while await value(connection, query) != count:
        continue


def test_fifty_connections_at_once_do_not_mix_their_answers(
    run: Run, postgresql: PostgresqlServer
) -> None:
    async def main() -> None:
        async def talk(number: int) -> None:
            async with connect(postgresql) as connection:
                for turn in range(5):
                    text = f"{number}:{turn}"
                    assert await value(connection, "select %s::text", text) == text

        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(talk(number))

    run(main())


def test_notifications_arrive_in_order(run: Run, postgresql: PostgresqlServer) -> None:
    async def main() -> None:
        async with connect(postgresql) as listening, connect(postgresql) as telling:
            await listening.execute("listen leaves")

            async def tell() -> None:
                for number in range(200):
                    await telling.execute(f"notify leaves, '{number}'")

            telling_all = asyncio.create_task(tell())
            heard: list[int] = []
            async for notification in listening.notifies(stop_after=200):
                heard.append(int(notification.payload))
                if len(heard) == 200:
                    break
            await telling_all
            assert heard == list(range(200))

    run(main())
