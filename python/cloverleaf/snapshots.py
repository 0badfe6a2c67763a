"""What a loop has before it at one moment: `loop.snapshot()` gives a `Snapshot`, data and text.

Nothing but names, numbers and places in the source is kept, so a snapshot keeps nothing alive.
"""

from dataclasses import dataclass
from traceback import StackSummary
from typing import Any

from .metrics import Metrics

__all__ = [
    "Connection",
    "Listener",
    "Snapshot",
    "TaskState",
    "Timer",
    "Watched",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """A task that is not done."""

    name: str
    # The coroutine's name.
    coroutine: str
    # It runs now, its next step is in the queue, or it waits.
    state: str
    # Where it is, outermost first, through all that it awaits without a task. For the task that
    # runs it is what the loop has called.
    stack: StackSummary
    # What a task that waits is waiting for: a kind of future, or another task by its name.
    waits_for: str | None
    # The names of the tasks that wait for it. On Python before 3.14 those of a TaskGroup and the
    # like are missing.
    awaited_by: tuple[str, ...]
    # How many requests to cancel it there are that it has not answered.
    cancelling: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A transport: of a connection, of datagrams, or of a pipe."""

    kind: str
    descriptor: int | None
    # As the socket module has addresses; None where there is none.
    local: Any
    peer: Any
    # The class of the protocol.
    protocol: str
    # Such as "TLSv1.3"; "TLS" before the handshake is over.
    tls: str | None
    is_closing: bool
    is_reading: bool
    # The protocol was told to pause its writing.
    is_writing_paused: bool
    # Bytes that the kernel has not taken yet.
    write_buffer_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket of a server that listens."""

    descriptor: int | None
    address: Any
    # How many connections the whole server has.
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A call that waits for its time."""

    # In seconds of the loop's clock.
    when: float
    # What is called, and for whom as far as that is known.
    callback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A descriptor of the program's own that somebody waits for."""

    descriptor: int
    # Who hears when it can be read, and when it can be written.
    reader: str | None
    writer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a loop has before it at one moment.

    Lists have no more entries than the limit that was asked for; `counts` has how many there are,
    by the names of the lists. If another thread has asked while the loop runs, `is_complete` is
    false, and the lists from `timers` on are empty: only the loop's own thread may look at those.
    """

    # The loop, its thread's name if it runs, and its time.
    loop: str
    thread: str | None
    time: float
    is_complete: bool
    counts: dict[str, int]
    metrics: Metrics
    # Where the loop's thread is: what the loop has called, outermost first.
    stack: StackSummary
    # The task that runs is the first.
    tasks: tuple[TaskState, ...]
    # Calls that the default executor has not begun, and the threads that it has.
    executor_calls_waiting: int
    executor_threads: int
    # The next ones, soonest first.
    timers: tuple[Timer, ...] = ()
    # Calls of the loop's next turn. Those of the turn that runs and have not begun are not seen.
    ready: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    transports: tuple[Connection, ...] = ()
    watched: tuple[Watched, ...] = ()
    # Addresses to which connections are being made.
    connecting: tuple[Any, ...] = ()
    # The numbers of child processes that are waited for.
    children: tuple[int, ...] = ()
    # The numbers of signals that have a handler of the loop's.
    signals: tuple[int, ...] = ()
    # Operations that the kernel does by itself, such as reads of files.
    operations: int = 0
    # Whether a thread of the loop's own is at work, for a file, a name or a child.
    has_busy_threads: bool = False

    def __str__(self) -> str:
        """Tell all of it."""
        where = "not running" if self.thread is None else f"in thread {self.thread}"
        lines = [f"{self.loop}, {where}, at {self.time:.3f} s of its time"]
        if self.stack and not any(task.state == "running" for task in self.tasks):
            lines += ["It is at:", *_indented(self.stack)]
        lines += self._section("tasks", "Tasks")
        for task in self.tasks:
            lines += _task(task)
        if not self.is_complete:
            lines.append("Only the loop's own thread can tell what else there is.")
            return "\n".join(lines)
        for name, title, show in _SECTIONS:
            lines += self._section(name, title)
            lines += [f"  {show(self, each)}" for each in getattr(self, name)]
        lines.append(
            f"Executor: {self.executor_threads} threads, {self.executor_calls_waiting} calls wait; "
            f"the kernel is at {self.operations} operations; the loop's own threads "
            f"{'are at work' if self.has_busy_threads else 'rest'}"
        )
        return "\n".join(lines)

    def _section(self, name: str, title: str) -> list[str]:
        count, shown = self.counts[name], len(getattr(self, name))
        if not count:
            return []
        return [f"{title}: {count:,}" + (f", the first {shown:,} of them" * (shown < count)) + ":"]


def _indented(stack: StackSummary) -> list[str]:
    return [f"    {line}" for each in stack.format() for line in each.rstrip().splitlines()]


def _task(task: TaskState) -> list[str]:
    words = [task.state]
    if task.waits_for is not None:
        words[0] += f" for {task.waits_for}"
    if task.awaited_by:
        words.append(f"awaited by {', '.join(task.awaited_by)}")
    if task.cancelling:
        words.append("being cancelled")
    return [f"  {task.name}, {task.coroutine}: {'; '.join(words)}", *_indented(task.stack)]


def _timer(snapshot: Snapshot, timer: Timer) -> str:
    return f"in {timer.when - snapshot.time:.3f} s: {timer.callback}"


def _listener(_snapshot: Snapshot, listener: Listener) -> str:
    return (
        f"descriptor {listener.descriptor} at {listener.address!r}: "
        f"{listener.connections:,} connections"
    )


def _transport(_snapshot: Snapshot, one: Connection) -> str:
    words = [f"{one.kind}, descriptor {one.descriptor}"]
    if one.local or one.peer:
        words.append(f"{one.local!r} to {one.peer!r}" if one.peer else f"{one.local!r}")
    if one.tls is not None:
        words.append(one.tls)
    words.append(one.protocol)
    if one.is_closing:
        words.append("closing")
    words.append("reading" if one.is_reading else "not reading")
    words.append(f"{one.write_buffer_size:,} bytes to send")
    if one.is_writing_paused:
        words.append("its protocol is paused")
    return ", ".join(words)


def _watched(_snapshot: Snapshot, watched: Watched) -> str:
    hears = [("read", watched.reader), ("written", watched.writer)]
    told = [f"when it can be {word}: {who}" for word, who in hears if who is not None]
    return f"descriptor {watched.descriptor}, " + ", ".join(told)


def _plain(_snapshot: Snapshot, what: Any) -> str:
    return str(what)


_SECTIONS = (
    ("ready", "Ready for the next turn", _plain),
    ("timers", "Timers", _timer),
    ("listeners", "Listening sockets", _listener),
    ("transports", "Transports", _transport),
    ("connecting", "Connections being made", _plain),
    ("watched", "Descriptors that are waited for", _watched),
    ("children", "Children", _plain),
    ("signals", "Signals", _plain),
)
