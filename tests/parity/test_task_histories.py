"""Random programs of tasks do the same, in the same turns and the same order, on asyncio's loop.

Each walker takes random steps: it waits, wakes, cancels, spawns and raises. What it does and what
comes of it is noted with the number of the turn. Nothing here depends on the time or on the order
of a set, as `as_completed` does.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from .harness.types import Loop, NewLoop

pytestmark = [pytest.mark.only("cloverleaf"), pytest.mark.deadline(180)]

SEEDS = range(int(os.environ.get("CLOVERLEAF_TASK_SEEDS", "40")))
TURNS = 300
LAST_TURNS = 20
MOST_TASKS = 40
MOST_DEEP = 5

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody")


class MisstepError(Exception):
    """What a walker raises."""


class World:
    """What the walkers of one program share, and what they have done."""

    def __init__(self, loop: Loop, seed: int) -> None:
        self.loop = loop
        self.chance = random.Random(seed)
        self.turn = 0
        self.is_over = False
        self.done: list[tuple[Any, ...]] = []
        self.futures = [loop.create_future() for _ in range(6)]
        self.queue: asyncio.Queue[str] = asyncio.Queue(2)
        self.event = asyncio.Event()
        self.lock = asyncio.Lock()
        self.semaphore = asyncio.Semaphore(2)
        self.condition = asyncio.Condition()
        self.tasks: list[asyncio.Task[str]] = []
        self.handles: list[asyncio.Handle] = []

    def note(self, *what: object) -> None:
        if not self.is_over:
            self.done.append((self.turn, *what))

    def is_ending(self) -> bool:
        return self.turn > TURNS - LAST_TURNS

    def count(self) -> None:
        """Be called once a turn."""
        self.turn += 1
        if self.turn < TURNS:
            self.loop.call_soon(self.count)

    def callback(self, name: str) -> Callable[..., None]:
        def called(*arguments: object) -> None:
            future = arguments[0] if arguments else None
            was_cancelled = isinstance(future, asyncio.Future) and future.cancelled()
            self.note("called", name, NAME.get(), was_cancelled)
            if name.endswith("!"):
                raise MisstepError(name)

        return called

    def spawn(self, depth: int) -> asyncio.Task[str]:
        number = len(self.tasks)
        name = f"task {number}"
        walker = Walker(self, name, number, depth + 1)
        way = self.chance.random()
        if way < 0.2 and sys.version_info >= (3, 12):
            task = asyncio.Task(walker.walk(), loop=self.loop, name=name, eager_start=True)
        elif way < 0.4:
            context = contextvars.copy_context()
            task = self.loop.create_task(walker.walk(), name=name, context=context)
        else:
            task = asyncio.create_task(walker.walk(), name=name)
        self.tasks.append(task)
        return task

    async def run(self) -> None:
        self.loop.call_soon(self.count)
        for _ in range(3):
            self.spawn(0)
        while self.turn < TURNS:
            if self.is_ending():
                for task in self.tasks:
                    task.cancel("the end")
            await asyncio.sleep(0)
        self.note("ended", [told(task) for task in self.tasks])
        self.is_over = True
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:  # in no order
                task.cancel()
            await asyncio.sleep(0)


class Walker:
    """One task, or a part of one, that takes random steps."""

    def __init__(self, world: World, name: str, number: int, depth: int) -> None:
        self.world = world
        self.name = name
        self.number = number  # its task's
        self.depth = depth
        self.chance = random.Random(world.chance.random())

    async def walk(self) -> str:
        """Take some steps, and fall for some of what they raise."""
        for _ in range(self.chance.randrange(1, 7)):
            try:
                await self.step()
            except (MisstepError, TimeoutError, ExceptionGroup, asyncio.CancelledError) as error:
                self.world.note(self.name, "met", shown(error))
                patience = 0.3 if isinstance(error, asyncio.CancelledError) else 0.7
                if self.chance.random() > patience:
                    raise
        self.world.note(self.name, "is done", NAME.get())
        return self.name

    async def stroll(self) -> str:
        """Take some steps, and fall for whatever they raise."""
        for _ in range(self.chance.randrange(1, 5)):
            await self.step()
        return self.name

    def child(self, label: str) -> Walker:
        return Walker(self.world, f"{self.name}{label}", self.number, self.depth + 1)

    async def step(self) -> None:
        if self.world.is_ending():
            raise MisstepError("it is late")
        is_deep = self.depth > MOST_DEEP or len(self.world.tasks) > MOST_TASKS
        what = self.chance.choice(FLAT if is_deep else FLAT + DEEP)
        self.world.note(self.name, what.__name__)
        result = await what(self)
        if result is not None:
            self.world.note(self.name, what.__name__, result)

    async def rest(self) -> None:
        await asyncio.sleep(0)

    def future(self) -> asyncio.Future[str]:
        futures = self.world.futures
        index = self.chance.randrange(len(futures))
        if futures[index].done() and self.chance.random() < 0.6:
            futures[index] = self.world.loop.create_future()
        return futures[index]

    async def answer(self) -> None:
        future = self.future()
        if not future.done():
            future.set_result(self.name)

    async def refuse(self) -> None:
        future = self.future()
        if not future.done():
            future.set_exception(MisstepError("refused"))
            future.exception()  # nobody need retrieve it

    async def give_up(self) -> bool:
        return self.future().cancel("given up")

    async def wait_for_answer(self) -> str:
        return await self.future()

    async def join(self) -> str | None:
        younger = self.world.tasks[self.number + 1 :]  # so nobody waits for whom it keeps waiting
        return await self.chance.choice(younger) if younger else None

    async def cancel(self) -> bool:
        return self.chance.choice(self.world.tasks).cancel(self.chance.choice([None, "why"]))

    async def uncancel(self) -> tuple[int, int]:
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling(), task.uncancel()

    async def call_soon(self) -> None:
        name = self.name + self.chance.choice(["", "", "!"])
        self.world.handles.append(self.world.loop.call_soon(self.world.callback(name)))

    async def call_later(self) -> None:
        self.world.handles.append(
            self.world.loop.call_later(0, self.world.callback(f"{self.name} later"))
        )

    async def call_soon_threadsafe(self) -> None:
        self.world.handles.append(
            self.world.loop.call_soon_threadsafe(self.world.callback(f"{self.name} threadsafe"))
        )

    async def cancel_a_handle(self) -> None:
        if self.world.handles:
            self.chance.choice(self.world.handles).cancel()

    async def add_done_callback(self) -> None:
        future: asyncio.Future[str] = self.chance.choice([*self.world.futures, *self.world.tasks])
        callback = self.world.callback(f"{self.name} done")
        future.add_done_callback(callback)
        if self.chance.random() < 0.3:
            future.remove_done_callback(callback)

    async def put(self) -> None:
        await self.world.queue.put(self.name)

    async def get(self) -> str:
        return await self.world.queue.get()

    async def set_event(self) -> None:
        self.world.event.set()

    async def clear_event(self) -> None:
        self.world.event.clear()

    async def wait_for_event(self) -> None:
        await self.world.event.wait()

    async def wait_for_condition(self) -> None:
        async with self.world.condition:
            await self.world.condition.wait()

    async def notify(self) -> None:
        async with self.world.condition:
            self.world.condition.notify(self.chance.choice([1, 2]))

    async def set_name(self) -> None:
        NAME.set(self.name)

    async def stumble(self) -> None:
        raise MisstepError(self.name)

    async def spawn(self) -> None:
        self.world.spawn(self.depth)

    async def hold_the_lock(self) -> None:
        async with self.world.lock:
            await self.child("/lock").step()

    async def hold_the_semaphore(self) -> None:
        async with self.world.semaphore:
            await self.child("/semaphore").step()

    async def gather(self) -> list[str]:
        children = [self.child(f"/{i}").stroll() for i in range(self.chance.randrange(4))]
        results = await asyncio.gather(*children, return_exceptions=self.chance.random() < 0.5)
        return [each if isinstance(each, str) else shown(each) for each in results]

    async def shield(self) -> str:
        return await asyncio.shield(self.child("/shield").stroll())

    async def wait(self) -> tuple[int, int]:
        tasks = [self.world.spawn(self.depth) for _ in range(self.chance.randrange(1, 3))]
        ways = (asyncio.FIRST_COMPLETED, asyncio.ALL_COMPLETED, asyncio.FIRST_EXCEPTION)
        done, pending = await asyncio.wait(tasks, return_when=self.chance.choice(ways))
        return len(done), len(pending)

    async def group(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self.chance.random() < 0.7:
                group.create_task(self.child("/group").stroll())
            if self.chance.random() < 0.5:
                await self.child("/in the group").step()

    async def time_out(self) -> None:
        async with asyncio.timeout(0):
            await self.child("/timeout").step()

    async def time_out_by_hand(self) -> None:
        async with asyncio.timeout(1000) as timeout:
            await self.child("/timeout").step()
            if self.chance.random() < 0.3:
                timeout.reschedule(self.world.loop.time() - 1)

    async def wait_for(self) -> str:
        seconds = self.chance.choice([None, 1000, 0, -1])
        return await asyncio.wait_for(self.child("/wait_for").stroll(), seconds)

    async def generate(self) -> None:
        async for _ in self.generated():
            if self.chance.random() < 0.3:
                break

    async def generated(self) -> AsyncIterator[int]:
        try:
            for number in range(3):
                await self.child("/generator").step()
                yield number
        finally:
            self.world.note(self.name, "the generator ends")
            await asyncio.sleep(0)
            self.world.note(self.name, "the generator has ended")


Step = Callable[[Walker], Coroutine[Any, Any, object]]

FLAT: list[Step] = [
    *[Walker.rest] * 4,
    *[Walker.answer] * 3,
    *[Walker.wait_for_answer, Walker.cancel] * 2,
    *[Walker.refuse, Walker.give_up, Walker.join, Walker.uncancel],
    *[Walker.call_soon, Walker.call_later, Walker.call_soon_threadsafe, Walker.cancel_a_handle],
    *[Walker.add_done_callback, Walker.put, Walker.get, Walker.set_name, Walker.stumble],
    *[Walker.set_event, Walker.clear_event, Walker.wait_for_event],
    *[Walker.wait_for_condition, Walker.notify],
]
DEEP: list[Step] = [
    *[Walker.spawn] * 3,
    *[Walker.hold_the_lock, Walker.hold_the_semaphore, Walker.gather, Walker.shield, Walker.wait],
    *[Walker.group, Walker.time_out, Walker.time_out_by_hand, Walker.wait_for, Walker.generate],
]


def shown(error: BaseException) -> str:
    """Return what tells one exception from another, its causes and its parts."""
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    chain = [type(each).__name__ for each in (error.__cause__, error.__context__) if each]
    return f"{type(error).__name__}({error}) {chain} {[shown(part) for part in parts]}"


def told(task: asyncio.Task[str]) -> str:
    """Return how a task stands."""
    if not task.done():
        return "pending"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return task.result() if error is None else shown(error)


def history(loop: Loop, seed: int) -> list[tuple[Any, ...]]:
    """Return what a random program did on the loop, and which of its callbacks failed."""
    if seed % 5 == 0 and sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    loop.set_debug(seed % 7 == 0)

    async def program() -> list[tuple[Any, ...]]:
        world = World(loop, seed)

        def hear(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if "handle" in context:  # else it is what becomes of tasks that nobody has any more
                world.note("heard", sorted(context), repr(context["exception"]))

        loop.set_exception_handler(hear)
        NAME.set("the program")
        await world.run()
        return world.done

    try:
        return loop.run_until_complete(program())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_program_takes_the_same_turns_as_on_asyncio(new_loop: NewLoop, seed: int) -> None:
    expected = history(asyncio.new_event_loop(), seed)
    assert history(new_loop(), seed) == expected
    assert len(expected) > 3
