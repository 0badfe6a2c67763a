"""`snapshot`: what a loop has before it, found by a walk over what is there anyway.

It runs no code of the program's, and takes no lock that whoever was interrupted may hold.
"""

import asyncio
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from traceback import StackSummary
from types import FrameType
from typing import Any

from . import _cloverleaf
from ._stacks import (
    asked_of_task,
    called,
    chain,
    frames_of_callback,
    is_future,
    is_task,
    kind,
    summary,
    task_name,
)
from ._transports import SSLTransport
from .metrics import Measuring
from .snapshots import Connection, Listener, Snapshot, TaskState, Timer, Watched

# What `asyncio.gather` returns.
_Gathering: Any = getattr(asyncio.tasks, "_GatheringFuture", None)
# A name with more is nobody's number.
_MOST_DIGITS = 20


class Inspecting(Measuring):
    """`snapshot`."""

    def snapshot(self, *, limit: int = 100) -> Snapshot:
        """Return what the loop has before it now: tasks and their stacks, transports, timers.

        `str()` of it tells all. No list has more than `limit` entries, but its count is there. In
        the loop's own thread, or while nobody runs the loop, it is complete. Any other thread may
        ask as well, also while the loop is stuck, and is told of its tasks and of where it is.
        """
        check_limit(limit)
        return take(self, limit, sys._getframe(1))


def check_limit(limit: int) -> None:
    """Refuse what is no number of entries."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be an int, not {type(limit).__name__}")
    if not 0 <= limit <= sys.maxsize:
        raise ValueError(f"limit must be a number from zero on, not {limit!r}")


def take(loop: Inspecting, limit: int, frame: FrameType | None) -> Snapshot:
    """Take a snapshot for a caller whose frame this is."""
    ident = loop._thread_id
    is_own = ident == threading.get_ident()
    pending = _pending(loop, limit, ident)
    if not is_own:
        frame = None if ident is None else sys._current_frames().get(ident)
    stack = summary(frames_of_callback(frame)) if ident is not None else StackSummary()
    # Without the GIL, what a coroutine is at can only be looked at where it cannot go on.
    are_still = pending is not None or getattr(sys, "_is_gil_enabled", lambda: True)()
    tasks = asyncio.tasks.all_tasks(loop)
    executor = getattr(loop, "_default_executor", None)
    queue = getattr(executor, "_work_queue", None)
    # Any other may have a lock.
    calls_waiting = queue.qsize() if isinstance(queue, SimpleQueue) else 0
    counts = {"tasks": len(tasks)}
    found = {} if pending is None else _found(loop, pending, limit, counts)
    return Snapshot(
        loop=f"{kind(loop)}, debug mode {'on' if loop.get_debug() else 'off'}",
        thread=None if ident is None else _thread_name(ident),
        time=loop.time(),
        is_complete=pending is not None,
        counts=counts,
        metrics=loop.metrics(),
        stack=stack,
        tasks=tuple(_tasks(loop, tasks, limit, stack, are_still)),
        executor_calls_waiting=calls_waiting,
        executor_threads=len(getattr(executor, "_threads", ())),
        **found,
    )


def _pending(loop: Inspecting, limit: int, ident: int | None) -> dict[str, Any] | None:
    """Return what only the loop's own thread may look at, or None in another."""
    if ident not in (None, threading.get_ident()):
        return None
    try:
        return _cloverleaf.pending(loop, limit)
    except RuntimeError:
        return None  # another thread has begun to run it


def _thread_name(ident: int) -> str:
    # Without the lock of `threading.enumerate`.
    thread = getattr(threading, "_active", {}).get(ident)
    return f"with the number {ident}" if thread is None else str(thread.name)


def _found(
    loop: Inspecting, pending: dict[str, Any], limit: int, counts: dict[str, int]
) -> dict[str, Any]:
    listeners, transports, connecting, children = _sorted(pending["served"])
    watched = [(fd, *parties) for fd, *parties in pending["watched"] if any(parties)]
    signals = sorted(getattr(loop, "_signal_handlers", ()))
    counts |= {
        "timers": pending["timers_count"],
        "ready": pending["ready_count"],
        "listeners": len(listeners),
        "transports": len(transports),
        "connecting": len(connecting),
        "watched": len(watched),
        "children": len(children),
        "signals": len(signals),
    }
    timers = (Timer(when=when, callback=called(*call)) for when, *call in pending["timers"])
    return {
        "timers": tuple(timers),
        "ready": tuple(called(*call) for call in pending["ready"]),
        "listeners": tuple(_listener(fd, listener) for fd, listener in listeners[:limit]),
        "transports": tuple(_connection(fd, each) for fd, each in transports[:limit]),
        "watched": tuple(
            Watched(descriptor=fd, reader=_party(reader), writer=_party(writer))
            for fd, reader, writer in watched[:limit]
        ),
        "connecting": tuple(connecting[:limit]),
        "children": tuple(children[:limit]),
        "signals": tuple(signals[:limit]),
        "operations": pending["in_flight"],
        "has_busy_threads": pending["busy_threads"],
    }


def _sorted(
    served: Iterable[tuple[int | None, Any]],
) -> tuple[list[tuple[int | None, Any]], list[tuple[int | None, Any]], list[Any], list[int]]:
    listeners, transports, connecting, children = [], [], [], []
    for fd, each in served:
        name = kind(each)
        if name == "Listener":
            listeners.append((fd, each))
        elif name == "Child":
            children.append(each.pid)
        elif name == "Connecting":
            connecting.append(each.address)
        elif isinstance(each, asyncio.BaseTransport):
            transports.append((fd, each))
    return listeners, transports, connecting, children


def _listener(fd: int | None, listener: Any) -> Listener:
    try:
        address = listener.sock.getsockname()
    except OSError:
        address = None  # the program has closed it
    return Listener(descriptor=fd, address=address, connections=len(listener.clients))


def _connection(fd: int | None, transport: Any) -> Connection:
    outermost = transport
    size = _asked(transport, "get_write_buffer_size", 0)
    protocol = transport.get_protocol()
    tls = None
    while isinstance(protocol, SSLTransport):
        outermost, protocol = protocol, protocol.get_protocol()
        size += outermost.get_write_buffer_size()
        secured = outermost.get_extra_info("ssl_object")
        tls = "TLS" if secured is None else secured.version() or "TLS"
    return Connection(
        kind=kind(transport),
        descriptor=fd,
        local=transport.get_extra_info("sockname"),
        peer=transport.get_extra_info("peername"),
        protocol=kind(protocol),
        tls=tls,
        is_closing=outermost.is_closing(),
        is_reading=bool(_asked(outermost, "is_reading", False)),
        is_writing_paused=bool(getattr(outermost, "_protocol_paused", False)),
        write_buffer_size=size,
    )


def _asked(transport: Any, method: str, otherwise: Any) -> Any:
    """Call a method that not every transport has."""
    found = getattr(transport, method, None)
    try:
        return otherwise if found is None else found()
    except NotImplementedError:
        return otherwise


def _party(party: tuple[object, object] | None) -> str | None:
    return None if party is None else called(*party)


def _tasks(
    loop: Inspecting,
    tasks: set["asyncio.Task[Any]"],
    limit: int,
    stack: StackSummary,
    are_still: bool,
) -> Iterator[TaskState]:
    current = asyncio.tasks.current_task(loop)
    awaiting = _awaiting(tasks)
    first = [] if current is None else [current]
    rest = sorted((task for task in tasks if task is not current), key=_age)
    for task in itertools.islice(itertools.chain(first, rest), limit):
        waiter = getattr(task, "_fut_waiter", None)
        # What is not asyncio's future would have to be asked by a method of the program's.
        waits = waiter is not None and not (is_future(waiter) and asyncio.Future.done(waiter))
        coroutine = asked_of_task(task, "get_coro", None)
        frames, end = chain(coroutine) if are_still and task is not current else ([], None)
        state = "running" if task is current else "waiting" if waits else "ready"
        yield TaskState(
            name=task_name(task),
            coroutine=_coroutine_name(coroutine),
            state=state,
            stack=stack if task is current else summary(frames),
            waits_for=_waits_for(end, waiter) if waits else None,
            awaited_by=tuple(dict.fromkeys(task_name(each) for each in awaiting.get(id(task), ()))),
            cancelling=asked_of_task(task, "cancelling", 0),
        )


def _age(task: "asyncio.Task[Any]") -> tuple[int, str]:
    """Return by what tasks are sorted: names of asyncio's own by their numbers."""
    name = task_name(task)
    number = name.removeprefix("Task-")
    is_asyncios = number != name and number.isdecimal() and len(number) < _MOST_DIGITS
    return (int(number), "") if is_asyncios else (sys.maxsize, name)


def _awaiting(tasks: Iterable["asyncio.Task[Any]"]) -> dict[int, list["asyncio.Task[Any]"]]:
    """Return which tasks wait for each task, by its `id`, be it directly or by a `gather`."""
    awaiting: dict[int, list[asyncio.Task[Any]]] = {}
    for task in tasks:
        waiter = getattr(task, "_fut_waiter", None)
        if waiter is not None:
            for each in (waiter, *(waiter._children if type(waiter) is _Gathering else ())):
                awaiting.setdefault(id(each), []).append(task)
        # From Python 3.14 on asyncio notes it, for task groups and others, too.
        for each in getattr(task, "_asyncio_awaited_by", None) or ():
            if is_task(each):
                awaiting.setdefault(id(task), []).append(each)
    return awaiting


def _waits_for(end: object, waiter: object) -> str:
    name = getattr(end, "__qualname__", None) if kind(end) not in ("FutureIter", "Future") else None
    found = task_name(waiter) if is_task(waiter) else kind(waiter)
    return f"{name}()" if isinstance(name, str) else found


def _coroutine_name(coroutine: object) -> str:
    name = getattr(coroutine, "__qualname__", None)
    return f"{name}()" if isinstance(name, str) else kind(coroutine)
