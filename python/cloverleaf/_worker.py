"""One worker, from its loop's start to that loop's end, in whatever thread or process it is."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Worker:
    """Which of the workers this is."""

    index: int
    # How many there are.
    count: int
    # The one processor that it runs on, or None if it may run on any.
    cpu: int | None


class WorkerError(RuntimeError):
    """A worker has ended without a result and without an exception, or does not end at all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a worker has ended."""

    kind: Literal["result", "error", "cancelled"]
    value: Any = None


@dataclass(frozen=True, slots=True)
class Job:
    """What all workers do."""

    main: Callable[[Worker], Coroutine[Any, Any, Any]]
    debug: bool | None
    loop_factory: Callable[[], asyncio.AbstractEventLoop]


class Leash:
    """Cancels a worker's main once, from any thread, and from before it runs to after its end."""

    def __init__(self) -> None:
        # Signal handlers pull, too, and may interrupt who has the lock in this thread.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self.is_pulled = False

    def hold(self, task: asyncio.Task[Any]) -> None:
        with self._lock:
            self._loop, self._task = task.get_loop(), task
            if self.is_pulled:
                task.cancel()

    def pull(self) -> None:
        with self._lock:
            if self.is_pulled:
                return
            self.is_pulled = True
            if self._loop is None or self._task is None:
                return
            # A closed loop has nothing left to cancel.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)


def work(job: Job, worker: Worker, leash: Leash, told: "socket.socket | None") -> Outcome:
    """Run main in a loop of this thread's own. The end of `told`, if there is one, cancels it."""

    async def attend() -> Any:
        task, loop = asyncio.tasks.current_task(), asyncio.get_running_loop()
        assert task is not None
        leash.hold(task)
        if told is None:
            return await job.main(worker)
        number = told.fileno()

        def stop() -> None:
            loop.remove_reader(number)
            leash.pull()

        loop.add_reader(number, stop)
        try:
            return await job.main(worker)
        finally:
            loop.remove_reader(number)

    try:
        if worker.cpu is not None:
            os.sched_setaffinity(0, {worker.cpu})
        with asyncio.Runner(debug=job.debug, loop_factory=job.loop_factory) as runner:
            return Outcome("result", runner.run(attend()))
    except asyncio.CancelledError as error:
        return Outcome("cancelled") if leash.is_pulled else Outcome("error", error)
    except BaseException as error:
        return Outcome("error", error)
