"""redis-py's asyncio client against a real redis-server: pipelines, pub/sub, cancelled commands."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from .conftest import Run
from .programs import Programs
from .redis_server import PROGRAM, RedisServer, start_redis

MIB = 1024 * 1024

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="redis-server is not installed: apt-get install redis-server"
)
# Its own is 5 s, for which a machine may stand still.
PATIENCE: dict[str, Any] = {"socket_timeout": 100, "socket_connect_timeout": 100}

transports = pytest.mark.parametrize("transport", ["tcp", "unix"])


@pytest.fixture(scope="module")
def server(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    program, server = start_redis(programs, tmp_path_factory.mktemp("r"))
    yield server
    program.signal(signal.SIGTERM)
    assert program.wait() == 0, program.text()


def connect(server: RedisServer, transport: str = "tcp") -> Redis:
    if transport == "unix":
        return Redis(unix_socket_path=server.path, **PATIENCE)
    return Redis(host="127.0.0.1", port=server.port, **PATIENCE)


@transports
def test_values_come_back(run: Run, server: RedisServer, transport: str) -> None:
    big = bytes(range(256)) * (4 * MIB // 256)

    async def main() -> None:
        async with connect(server, transport) as redis:
            assert await redis.ping()
            await redis.set("small", "leaf")
            await redis.set("big", big)
            assert await redis.get("small") == b"leaf"
            assert await redis.get("big") == big
            assert await redis.get("none") is None
            await redis.flushall()

    run(main())


@transports
def test_a_pipeline_of_ten_thousand_answers_in_order(
    run: Run, server: RedisServer, transport: str
) -> None:
    async def main() -> None:
        async with connect(server, transport) as redis:
            async with redis.pipeline(transaction=False) as pipeline:
                for number in range(10_000):
                    pipeline.set(f"key {number % 100}", number)
                    pipeline.get(f"key {number % 100}")
                answers = await pipeline.execute()
            assert [int(answer) for answer in answers[1::2]] == list(range(10_000))
            await redis.flushall()

    run(main())


def test_a_transaction_counts_exactly_under_contention(run: Run, server: RedisServer) -> None:
    async def main() -> None:
        async with connect(server) as redis:

            async def count_up() -> None:
                for _ in range(20):
                    async with redis.pipeline(transaction=True) as pipeline:
                        pipeline.incr("counter")
                        pipeline.incr("counter")
                        await pipeline.execute()

            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(count_up())
            assert await redis.get("counter") == b"800"
            await redis.flushall()

    run(main())


def test_published_messages_arrive_in_order(run: Run, server: RedisServer) -> None:
    async def main() -> None:
        async with connect(server) as redis, redis.pubsub() as pubsub:
            await pubsub.subscribe("leaves")
            first = await pubsub.get_message(timeout=60)
            assert first is not None
            assert first["type"] == "subscribe"

            async def publish() -> None:
                for number in range(500):
                    await redis.publish("leaves", number)

            publishing = asyncio.create_task(publish())
            heard: list[int] = []
            while len(heard) < 500:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=60)
                assert message is not None, f"no message after {len(heard)}"
                heard.append(int(message["data"]))
            await publishing
            assert heard == list(range(500))

    run(main())


@transports
def test_a_cancelled_blocking_pop_takes_nothing_and_mixes_no_answers(
    run: Run, server: RedisServer, transport: str
) -> None:
    async def main() -> None:
        async with connect(server, transport) as redis:
            for number in range(10):
                popping = asyncio.create_task(pop(redis, timeout_s=100))
                await blocked_clients_are(1, redis)
                popping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await popping
                await blocked_clients_are(0, redis)
                await redis.rpush("queue", number)
                assert await redis.lpop("queue") == str(number).encode()
                assert await redis.echo(f"answer {number}") == f"answer {number}".encode()
            await redis.flushall()

    run(main())


async def pop(redis: Redis, timeout_s: float) -> list[bytes | str]:
    return list(await redis.blpop(["queue"], timeout=timeout_s) or [])


async def blocked_clients_are(count: int, redis: Redis) -> None:
    """Returns once the server counts so many; only the server can tell, so it is asked again."""
    while True:
        clients = await redis.info("clients")
        if int(clients["blocked_clients"]) == count:
            return


def test_a_blocking_pop_is_woken_by_a_push(run: Run, server: RedisServer) -> None:
    async def main() -> None:
        async with connect(server) as redis:
            popping = asyncio.create_task(pop(redis, timeout_s=100))
            await blocked_clients_are(1, redis)
            await redis.rpush("queue", "woken")
            assert await popping == [b"queue", b"woken"]
            assert await pop(redis, timeout_s=0.01) == []

    run(main())


def test_a_pool_of_five_serves_a_hundred_tasks(run: Run, server: RedisServer) -> None:
    async def main() -> None:
        pool = BlockingConnectionPool(
            max_connections=5, timeout=100, host="127.0.0.1", port=server.port, **PATIENCE
        )
        async with Redis.from_pool(pool) as redis:

            async def talk(number: int) -> None:
                for turn in range(5):
                    message = f"{number}:{turn}".encode()
                    assert await redis.echo(message.decode()) == message

            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(talk(number))

    run(main())


def test_a_killed_client_hears_it_and_connects_again(run: Run, server: RedisServer) -> None:
    async def main() -> None:
        async with connect(server) as admin, connect(server) as redis:
            async with redis.pubsub() as pubsub:
                await pubsub.subscribe("leaves")
                assert await pubsub.get_message(timeout=60) is not None
                await admin.client_kill_filter(_type="pubsub")
                with pytest.raises(RedisConnectionError):
                    await listen_without_reconnecting(pubsub.connection)
            assert await redis.echo("again") == b"again"

    run(main())


async def listen_without_reconnecting(connection: object) -> None:
    read_response = getattr(connection, "read_response", None)
    assert read_response is not None
    await read_response()


def test_a_connection_refused_is_a_connection_error(run: Run, socket_path: str) -> None:
    async def main() -> None:
        async with Redis(unix_socket_path=socket_path, retry=Retry(NoBackoff(), 0)) as redis:
            with pytest.raises(RedisConnectionError):
                await redis.ping()

    run(main())
