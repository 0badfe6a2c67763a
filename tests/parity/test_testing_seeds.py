"""Seeds of cloverleaf.testing: what is shuffled, what is not, and that a seed repeats its order."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cloverleaf import testing

Order = list[object]
Main = Callable[[Order], Coroutine[Any, Any, None]]


async def first_steps(order: Order) -> None:
    async def task(name: int) -> None:
        order.append(name)
        await asyncio.sleep(0)
        order.append(name)

    await asyncio.gather(*(task(name) for name in range(4)))


async def sleepers(order: Order) -> None:
    async def task(name: int) -> None:
        await asyncio.sleep(1)
        order.append(name)

    await asyncio.gather(*(task(name) for name in range(4)))


async def waiters_of_a_queue(order: Order) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def task(name: int) -> None:
        order.append((name, await queue.get()))

    tasks = [asyncio.ensure_future(task(name)) for name in range(4)]
    await asyncio.sleep(1)
    for item in range(4):
        queue.put_nowait(item)
    await asyncio.gather(*tasks)


SHUFFLED = [first_steps, sleepers, waiters_of_a_queue]


async def callbacks(order: Order) -> None:
    loop = asyncio.get_running_loop()
    for name in range(10):
        loop.call_soon(order.append, name)
    await asyncio.sleep(1)


async def timers(order: Order) -> None:
    loop = asyncio.get_running_loop()
    when = loop.time() + 1
    for name in range(10):
        loop.call_at(when, order.append, name)
    await asyncio.sleep(2)


async def waiters_of_one_future(order: Order) -> None:
    future = asyncio.get_running_loop().create_future()

    async def task(name: int) -> None:
        await future
        order.append(name)

    tasks = []
    for name in range(6):
        tasks.append(asyncio.ensure_future(task(name)))
        await asyncio.sleep(1)
    future.add_done_callback(lambda _: order.append("callback"))
    future.set_result(None)
    await asyncio.gather(*tasks)


async def steps_and_callbacks(order: Order) -> None:
    loop = asyncio.get_running_loop()

    async def task(name: int) -> None:
        order.append(name)

    tasks = []
    for name in range(10):
        tasks.append(asyncio.ensure_future(task(name)))
        loop.call_soon(order.append, name)
    await asyncio.gather(*tasks)


async def what_a_step_has_called_for(order: Order) -> None:
    async def task(name: int) -> None:
        for count in range(3):
            called: list[int] = []
            asyncio.get_running_loop().call_soon(called.append, count)
            await asyncio.sleep(0)
            # That came first, since it was called for first.
            order.append(called == [count])

    await asyncio.gather(*(task(name) for name in range(5)))


async def bytes_of_one_connection(order: Order) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order.append(await reader.read())
        writer.close()
        served.set()

    served = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for number in range(10):
        writer.write(b"%d" % number)
        await asyncio.sleep(0)
    writer.close()
    await served.wait()
    server.close()


KEPT = [
    callbacks,
    timers,
    waiters_of_one_future,
    steps_and_callbacks,
    what_a_step_has_called_for,
    bytes_of_one_connection,
]


def order_of(main: Main, seed: int | None) -> Order:
    order: Order = []
    testing.run(main(order), seed=seed)
    return order


def asyncios_order(main: Main) -> Order:
    order: Order = []
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main(order))
    return order


@pytest.mark.parametrize("main", [*SHUFFLED, callbacks, steps_and_callbacks])
def test_without_a_seed_the_order_is_asyncios(main: Main) -> None:
    assert order_of(main, None) == asyncios_order(main)


@pytest.mark.parametrize("main", SHUFFLED)
def test_seeds_bring_up_every_order_of_the_tasks(main: Main) -> None:
    orders = {tuple(order_of(main, seed)[:4]) for seed in range(300)}
    assert len(orders) == 24


@pytest.mark.parametrize("main", KEPT)
def test_no_seed_changes_what_is_promised(main: Main) -> None:
    expected = order_of(main, None)
    for seed in range(50):
        assert order_of(main, seed) == expected


PROGRAM = """
import asyncio, random
from cloverleaf import testing

async def task(name, order, lock, queue):
    chance = random.Random(name)
    for _ in range(5):
        order.append(name)
        await asyncio.sleep(chance.choice([0, 1]))
        async with lock:
            order.append(-name)
        queue.put_nowait(name)
        order.append((name, await queue.get()))

async def main(order):
    lock, queue = asyncio.Lock(), asyncio.Queue()
    await asyncio.gather(*(task(name, order, lock, queue) for name in range(20)))

for seed in range(10):
    order = []
    testing.run(main(order), seed=seed)
    print(order)
"""


def test_a_seed_means_the_same_order_in_every_process() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | env,
        ).stdout.splitlines()
        for env in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 10


async def race() -> None:
    """Do well as long as the task that was made first goes on first."""
    settings: dict[str, int] = {}

    async def prepare() -> None:
        await asyncio.sleep(1)
        settings["limit"] = 5

    async def use() -> None:
        await asyncio.sleep(1)
        assert settings["limit"] == 5

    await asyncio.gather(prepare(), use())


def test_a_seed_finds_a_race_and_is_named() -> None:
    testing.run(race())
    failures: list[tuple[int, KeyError]] = []
    for seed in testing.seeds(50):
        try:
            testing.run(race(), seed=seed)
        except KeyError as raised:
            failures.append((seed, raised))
    assert 0 < len(failures) < 50
    for seed, error in failures:
        assert error.__notes__ == [f"The tasks of cloverleaf.testing ran with seed={seed}."]
        with pytest.raises(KeyError):
            testing.run(race(), seed=seed)


def test_the_environment_gives_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOVERLEAF_SEED", raising=False)
    assert testing.seeds(3) == [0, 1, 2]
    monkeypatch.setenv("CLOVERLEAF_SEED", "17")
    assert testing.seeds(3) == [17]
    monkeypatch.setenv("CLOVERLEAF_SEED", "many")
    with pytest.raises(ValueError, match="CLOVERLEAF_SEED"):
        testing.seeds(3)


def test_tasks_of_a_class_that_derives_are_shuffled_too() -> None:
    class Derived(asyncio.Task[Any]):
        pass

    async def main(order: Order) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **kwargs: Derived(coro, loop=loop, **kwargs))
        await sleepers(order)

    assert len({tuple(order_of(main, seed)) for seed in range(300)}) == 24


def test_many_more_tasks_than_a_queue_keeps_handles_for() -> None:
    async def main(order: Order) -> None:
        async def task(name: int) -> None:
            await asyncio.sleep(0)
            order.append(name)

        await asyncio.gather(*(task(name) for name in range(5000)))

    one, other, again = ([int(str(name)) for name in order_of(main, seed)] for seed in (1, 2, 1))
    assert one == again != other
    assert sorted(one) == sorted(other) == list(range(5000))
    assert sum(abs(left - right) > 1 for left, right in itertools.pairwise(one)) > 4000
