"""``create_task``, task factories and ``create_future``."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any

import pytest

from .harness.types import Context, Loop, NewLoop

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


async def answer() -> int:
    return 42


async def test_create_task_makes_a_task_of_this_loop(loop: Loop) -> None:
    task = loop.create_task(answer())
    assert type(task) is asyncio.Task
    assert task.get_loop() is loop
    assert task in asyncio.all_tasks()
    assert await task == 42


async def test_a_task_starts_in_a_later_turn(loop: Loop) -> None:
    seen: list[int] = []

    async def work() -> None:
        seen.append(1)

    task = loop.create_task(work())
    assert seen == []
    await task
    assert seen == [1]


async def test_create_task_takes_a_name(loop: Loop) -> None:
    named = loop.create_task(answer(), name="named")
    plain = loop.create_task(answer())
    none = loop.create_task(answer(), name=None)
    assert named.get_name() == "named"
    assert plain.get_name().startswith("Task-")
    assert none.get_name().startswith("Task-")
    await asyncio.gather(named, plain, none)


async def test_create_task_takes_a_context(loop: Loop) -> None:
    context = contextvars.copy_context()

    async def work() -> None:
        number.set(5)

    await loop.create_task(work(), context=context)
    assert context[number] == 5
    assert number.get() == 0
    await loop.create_task(work(), context=None)
    assert number.get() == 0


async def test_what_is_no_context_is_refused_where_asyncio_does(
    loop: Loop, contexts: list[Context]
) -> None:
    """Up to Python 3.14 only the first step finds out, and the task never ends."""
    work = asyncio.sleep(0)
    if sys.version_info >= (3, 15):
        with pytest.raises(TypeError, match=r"a contextvars\.Context was expected, got int"):
            loop.create_task(work, context=5)  # type: ignore[arg-type]
        work.close()
        return
    task = loop.create_task(work, context=5)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    [told] = contexts
    assert str(told["exception"]) == "'int' object has no attribute 'run'"
    assert told["message"].startswith("Exception in callback ")
    assert not task.done()
    # Nothing runs it any more, so nobody hears of its end.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    work.close()


async def test_create_task_refuses_other_keywords(loop: Loop) -> None:
    coroutine = answer()
    with pytest.raises(TypeError):
        loop.create_task(coroutine, unknown=1)  # type: ignore[call-arg]
    coroutine.close()


async def test_create_task_refuses_what_is_not_a_coroutine(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"a coroutine was expected, got 42"):
        loop.create_task(42)  # type: ignore[arg-type]


async def test_current_task_is_the_running_one(loop: Loop) -> None:
    async def current() -> asyncio.Task[Any] | None:
        await asyncio.sleep(0)
        return asyncio.current_task()

    task = loop.create_task(current())
    assert await task is task
    assert asyncio.current_task(loop) is not task


async def test_a_task_factory_makes_the_tasks(loop: Loop) -> None:
    class Own(asyncio.Task[Any]):
        pass

    seen: list[tuple[Loop, str]] = []

    def factory(made_for: Loop, coroutine: Any, **options: Any) -> asyncio.Future[Any]:
        seen.append((made_for, coroutine.__name__))
        return Own(coroutine, loop=made_for, **options)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(answer(), name="named")
    assert type(task) is Own
    assert task.get_name() == "named"
    assert await task == 42
    assert seen == [(loop, "answer")]
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    plain = loop.create_task(answer())
    assert type(plain) is asyncio.Task
    await plain


async def test_a_program_may_replace_the_class_of_tasks(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(asyncio.Task[Any]):
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Own)
    tasks = [loop.create_task(answer()), loop.create_task(answer(), name="named")]
    assert [type(task) for task in tasks] == [Own, Own]
    assert await tasks[0] == await tasks[1] == 42


async def test_a_class_of_tasks_may_change_the_keywords_that_it_gets(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    class Own(asyncio.Task[Any]):
        def __init__(self, coroutine: Any, **keywords: Any) -> None:
            super().__init__(coroutine, **keywords)
            given.append(dict(keywords))
            keywords.clear()

    await loop.create_task(answer())
    monkeypatch.setattr(asyncio.tasks, "Task", Own)
    tasks = [loop.create_task(answer()) for _ in range(3)]
    assert [set(keywords) - {"name", "context"} for keywords in given] == [{"loop"}] * 3
    assert all(keywords["loop"] is loop for keywords in given)
    assert [await task for task in tasks] == [42] * 3


def test_tasks_and_futures_are_their_loops_in_a_run_and_without(new_loop: NewLoop) -> None:
    loop, other = new_loop(), new_loop()
    begun: list[asyncio.Task[int]] = []

    async def make() -> list[Any]:
        made = [loop.create_task(answer()), loop.create_future()]
        # Not the loop that runs.
        begun.append(other.create_task(answer()))
        assert begun[0].get_loop() is other
        future: asyncio.Future[Any] = other.create_future()
        assert future.get_loop() is other
        await made[0]
        return made

    def look() -> list[Any]:
        task = loop.create_task(answer())
        made = [task, loop.create_future()]
        loop.run_until_complete(task)
        return made

    for made in (look(), loop.run_until_complete(make()), look()):
        assert all(one.get_loop() is loop for one in made)
    assert other.run_until_complete(begun[0]) == 42


async def test_a_task_factory_gets_the_context_only_when_one_is_given(loop: Loop) -> None:
    seen: list[dict[str, Any]] = []

    def factory(made_for: Loop, coroutine: Any, **options: Any) -> asyncio.Future[Any]:
        seen.append(options)
        return asyncio.Task(coroutine, loop=made_for, **options)

    loop.set_task_factory(factory)
    context = contextvars.copy_context()
    await loop.create_task(answer())
    await loop.create_task(answer(), context=context)
    assert [each for each in seen if "context" in each] == [
        {**seen[1], "context": context},
    ]
    assert seen[0] == {}


async def test_a_task_factory_that_raises_is_the_callers_error(loop: Loop) -> None:
    def factory(_loop: Loop, _coroutine: Any) -> asyncio.Future[Any]:
        raise LookupError("no task today")

    loop.set_task_factory(factory)
    coroutine = answer()
    with pytest.raises(LookupError, match="no task today"):
        loop.create_task(coroutine)
    coroutine.close()
    loop.set_task_factory(None)


def test_a_task_factory_must_be_callable(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"^task factory must be a callable or None$"):
        loop.set_task_factory("factory")  # type: ignore[arg-type]


if sys.version_info >= (3, 12):  # eager tasks are new in 3.12

    async def test_eager_task_factory_runs_a_task_before_it_returns(loop: Loop) -> None:
        seen: list[object] = []

        async def work() -> str:
            seen.append(asyncio.current_task())
            return "done"

        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(work(), name="eager")
        assert task.done()
        assert seen == [task]
        assert task.get_name() == "eager"
        assert await task == "done"

    async def test_an_eager_task_that_waits_goes_on_later(loop: Loop) -> None:
        seen: list[int] = []

        async def work() -> None:
            seen.append(1)
            await asyncio.sleep(0)
            seen.append(2)

        loop.set_task_factory(asyncio.eager_task_factory)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work())
            assert seen == [1]
            assert not task.done()
            assert task in asyncio.all_tasks()
        assert seen == [1, 2]

    async def test_create_eager_task_factory_makes_tasks_of_its_class(loop: Loop) -> None:
        class Own(asyncio.Task[Any]):
            pass

        loop.set_task_factory(asyncio.create_eager_task_factory(Own))
        task = asyncio.create_task(answer())
        assert type(task) is Own
        assert task.done()

    def test_run_until_complete_works_with_eager_tasks(loop: Loop) -> None:
        loop.set_task_factory(asyncio.eager_task_factory)
        assert loop.run_until_complete(answer()) == 42
        assert loop.run_until_complete(asyncio.sleep(0.001, 1)) == 1


if sys.version_info >= (3, 13, 3):  # create_task passes eager_start on since 3.13.3

    async def test_create_task_takes_eager_start(loop: Loop) -> None:
        eager: dict[str, Any] = {"eager_start": True}
        lazy: dict[str, Any] = {"eager_start": False}
        assert loop.create_task(answer(), **eager).done()
        task = loop.create_task(answer(), **lazy)
        assert not task.done()
        assert await task == 42


async def test_create_future_makes_a_future_of_this_loop(loop: Loop) -> None:
    future: asyncio.Future[int] = loop.create_future()
    assert type(future) is asyncio.Future
    assert future.get_loop() is loop
    loop.call_soon(future.set_result, 1)
    assert await future == 1


async def test_done_callbacks_run_in_later_turns_in_order(loop: Loop) -> None:
    seen: list[int] = []
    future = loop.create_future()
    for n in range(5):
        future.add_done_callback(lambda _, n=n: seen.append(n))  # type: ignore[misc]
    future.set_result(None)
    assert seen == []
    await asyncio.sleep(0)
    assert seen == list(range(5))


async def test_tasks_take_turns(loop: Loop) -> None:
    seen: list[str] = []

    async def work(name: str) -> None:
        for _ in range(3):
            seen.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"), work("c"))
    assert "".join(seen) == "abcabcabc"


async def test_a_cancelled_task_sees_it(loop: Loop) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await loop.create_future()
        except asyncio.CancelledError as error:
            seen.append(str(error))
            raise

    task = loop.create_task(work())
    await asyncio.sleep(0)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["enough"]


def test_all_tasks_are_those_of_one_loop(new_loop: NewLoop) -> None:
    one, other = new_loop(), new_loop()
    task = one.create_task(answer())
    assert asyncio.all_tasks(one) == {task}
    assert asyncio.all_tasks(other) == set()
    one.run_until_complete(task)
    assert asyncio.all_tasks(one) == set()


async def test_queues_locks_and_groups_work_together(loop: Loop) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=3)
    lock, total = asyncio.Lock(), 0

    async def produce() -> None:
        for n in range(100):
            await queue.put(n)

    async def consume() -> None:
        nonlocal total
        for _ in range(50):
            n = await queue.get()
            async with lock:
                await asyncio.sleep(0)
                total += n

    async with asyncio.TaskGroup() as group:
        for work in (produce, consume, consume):
            group.create_task(work())
    assert total == sum(range(100))


def test_tasks_and_futures_are_made_where_asyncio_does_without_its_c_code(program: Any) -> None:
    program.output(
        """
        import sys
        sys.modules["_asyncio"] = None
        import asyncio

        async def answer():
            return 42

        async def main():
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            task = loop.create_task(answer())
            assert type(future) is asyncio.Future and type(task) is asyncio.Task
            assert future.get_loop() is task.get_loop() is loop
            assert await asyncio.wait_for(task, 60) == 42

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        """
    )
