"""Database clients as people run them: asyncpg with PostgreSQL, redis-py with Redis."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.suite.workload import Ask, ClientWorkload, Connect

#: The commands of one pipeline, half of them SET and half GET.
COMMANDS = 100

#: What redis-py calls its parsers: its own, in Python, and the one of the C library hiredis.
PYTHON, HIREDIS = "_AsyncRESP2Parser", "_AsyncHiredisParser"


async def ask_postgresql(address: str) -> Ask:
    """A connection of asyncpg's that asks for 1 again and again."""
    asyncpg = importlib.import_module("asyncpg")
    host, _, port = address.rpartition(":")
    connection = await asyncpg.connect(host=host, port=int(port), user="bench", database="postgres")
    fetchval = connection.fetchval

    async def ask() -> None:
        if await fetchval("select 1") != 1:
            raise RuntimeError("1 is something else")

    return ask


def ask_redis(parser: str) -> Connect:
    """Connections of redis-py's that set and get 50 keys in one pipeline, by that parser."""

    async def connect(address: str) -> Ask:
        redis = importlib.import_module("redis.asyncio")
        parsers = importlib.import_module("redis._parsers")
        host, _, port = address.rpartition(":")
        pool = redis.ConnectionPool(
            host=host, port=int(port), protocol=2, parser_class=getattr(parsers, parser)
        )
        client: Any = redis.Redis(connection_pool=pool, single_connection_client=True)
        await client.initialize()
        values = [b"%d" % number for number in range(COMMANDS // 2)]
        expected = [answer for value in values for answer in (True, value)]

        async def ask() -> None:
            pipeline = client.pipeline(transaction=False)
            for value in values:
                pipeline.set(value, value)
                pipeline.get(value)
            if await pipeline.execute() != expected:
                raise RuntimeError("Redis answered something else")

        return ask

    return connect


WORKLOADS = (
    ClientWorkload(
        "asyncpg-select-1",
        "asyncpg `select 1`, 10 conn.",
        "query",
        "postgresql",
        ask_postgresql,
        connections=10,
    ),
    ClientWorkload(
        "redis-pipeline",
        "redis-py pipeline of 100, 4 conn.",
        "pipeline",
        "redis",
        ask_redis(PYTHON),
        connections=4,
    ),
    ClientWorkload(
        "redis-pipeline-hiredis",
        "redis-py with hiredis, pipeline of 100, 4 conn.",
        "pipeline",
        "redis",
        ask_redis(HIREDIS),
        connections=4,
    ),
)
