"""What a loop has done so far, in numbers: `loop.metrics()`, and as Prometheus reads them.

The numbers are always counted. To ask for them takes a few microseconds and keeps the loop from
nothing, whichever thread asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from ._base import LoopBase

__all__ = ["CONTENT_TYPE", "Histogram", "Metrics", "prometheus_text"]

# What an HTTP response that has such a text says of it.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many of some times were how long.

    `counts` has one number more than `limits`: how many were no longer than each limit and longer
    than the one before, and last how many were longer than all of them.
    """

    # In seconds, ascending.
    limits: tuple[float, ...]
    counts: tuple[int, ...]
    # All of the times together, in seconds.
    sum: float
    # The longest, in seconds.
    max: float

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a loop has done since it was made, and what it had before it when it was asked.

    All but `ready`, `timers_pending`, `sources` and `transports` only ever grow. A job is one entry
    of the loop's queue: a callback, the step of a task, an event of a socket, or something that the
    loop does for itself. A turn is one pass through the loop: ask the kernel, collect, run what is
    ready.
    """

    # Turns that have begun.
    turns: int
    # Jobs that have begun. A callback that was cancelled when its turn came counts, too.
    jobs: int
    # Jobs with which the last turn began, and the most that any turn began with.
    ready: int
    most_ready: int
    # Timers that were taken up because their time had come.
    timers_fired: int
    # Timers that wait. Those that were cancelled do not. Like the next two numbers it is that of
    # this moment if the loop's own thread asks, or nobody runs the loop. Another thread is told
    # what it was in the last turn in which the loop has slept, asked the kernel, or looked whether
    # other threads want Python, which is every 64th at the latest.
    timers_pending: int
    # Who hears of descriptors, and of operations that the kernel does by itself.
    sources: int
    # Descriptors that transports and listening servers have.
    transports: int
    # What the kernel has reported: descriptors that were ready, and operations that had ended.
    events: int
    # How often the kernel was asked without a sleep, and how often the loop has slept.
    polls: int
    sleeps: int
    # Sleeps that another thread's job has ended, and jobs that other threads have handed over.
    wakeups: int
    jobs_from_threads: int
    # Seconds in which the loop ran and did not sleep, among them those in which it waited for
    # Python's lock; and seconds for which it has slept in the kernel.
    busy_seconds: float
    asleep_seconds: float
    # How long after its time each timer was taken up, in seconds. That is when it joins the queue:
    # what is ready already runs before it.
    timer_lag: Histogram
    # Connections that servers have accepted.
    connections_accepted: int
    # Calls to the kernel by which transports have received something, and bytes in them. Those of
    # TLS are counted as they are on the wire, and `sock_recv` and its kin are not counted at all.
    receives: int
    bytes_received: int
    # The same for what they have sent; a file that the kernel sends counts as well.
    sends: int
    bytes_sent: int
    # Stalls that the watchdog has seen, and the longest of those that are over, in seconds.
    stalls: int
    longest_stall_seconds: float

    def utilization(self, since: "Metrics | None" = None) -> float:
        """Return which part of its running time the loop was busy, from 0 to 1.

        That is between `since`, an earlier answer of the same loop, and this one; without it,
        since the loop was made. It is 0 if the loop did not run at all.
        """
        busy, asleep = self.busy_seconds, self.asleep_seconds
        if since is not None:
            _check(since, "since")
            busy -= since.busy_seconds
            asleep -= since.asleep_seconds
        total = busy + asleep
        return busy / total if total > 0 else 0.0


class Measuring(LoopBase):
    """`metrics`."""

    def metrics(self) -> Metrics:
        """Return what the loop has done so far, in numbers.

        Any thread may ask, whether the loop runs, or is closed, or not. It is not kept waiting, and
        so numbers that another thread asks for may be a few jobs apart from each other.
        """
        numbers = self._metrics()
        lag = Histogram(
            limits=numbers.pop("timer_lag_limits"),
            counts=numbers.pop("timer_lag_counts"),
            sum=numbers.pop("timer_lag_sum"),
            max=numbers.pop("timer_lag_max"),
        )
        return Metrics(timer_lag=lag, **numbers)


# The names for Prometheus, the types, what they are, and the numbers.
_EXPOSED = (
    ("turns_total", "counter", "Turns of the loop that have begun.", "turns"),
    ("jobs_total", "counter", "Jobs that have begun: callbacks, steps of tasks, events.", "jobs"),
    ("ready_jobs", "gauge", "Jobs with which the last turn began.", "ready"),
    ("ready_jobs_max", "gauge", "The most jobs that any turn began with.", "most_ready"),
    ("pending_timers", "gauge", "Timers that wait.", "timers_pending"),
    ("sources", "gauge", "Who hears of descriptors and operations.", "sources"),
    ("transports", "gauge", "Descriptors of transports and servers.", "transports"),
    ("events_total", "counter", "What the kernel has reported.", "events"),
    ("polls_total", "counter", "How often the kernel was asked without a sleep.", "polls"),
    ("sleeps_total", "counter", "How often the loop has slept.", "sleeps"),
    ("wakeups_total", "counter", "Sleeps that another thread has ended.", "wakeups"),
    (
        "jobs_from_threads_total",
        "counter",
        "Jobs that other threads have handed over.",
        "jobs_from_threads",
    ),
    ("busy_seconds_total", "counter", "Time in which the loop did not sleep.", "busy_seconds"),
    ("asleep_seconds_total", "counter", "Time for which the loop has slept.", "asleep_seconds"),
    (
        "connections_accepted_total",
        "counter",
        "Connections that servers have accepted.",
        "connections_accepted",
    ),
    ("receives_total", "counter", "Calls that have received something.", "receives"),
    ("received_bytes_total", "counter", "Bytes that transports have received.", "bytes_received"),
    ("sends_total", "counter", "Calls that have sent something.", "sends"),
    ("sent_bytes_total", "counter", "Bytes that transports have sent.", "bytes_sent"),
    ("stalls_total", "counter", "Stalls that the watchdog has seen.", "stalls"),
    (
        "longest_stall_seconds",
        "gauge",
        "The longest stall that is over.",
        "longest_stall_seconds",
    ),
)


def prometheus_text(
    metrics: Metrics | Mapping[str, Metrics], *, prefix: str = "cloverleaf_"
) -> str:
    """Return numbers in Prometheus's text format, version 0.0.4, to be served as `CONTENT_TYPE`.

    `metrics` are those of one loop, or those of several by names, which become the label `loop`.
    `prefix` comes before the name of each number.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be str, not {type(prefix).__name__}")
    if (
        not (prefix.replace("_", "a").replace(":", "a") + "a").isidentifier()
        or not prefix.isascii()
    ):
        raise ValueError(f"no name of a metric begins with {prefix!r}")
    if isinstance(metrics, Mapping):
        loops = [(_label(name), _check(one, f"metrics[{name!r}]")) for name, one in metrics.items()]
    else:
        loops = [("", _check(metrics, "metrics"))]
    lines = []
    for suffix, kind, meaning, field in _EXPOSED:
        name = prefix + suffix
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        for labels, one in loops:
            lines.append(f"{name}{_braced(labels)} {getattr(one, field)!r}")
    name = prefix + "timer_lag_seconds"
    lines += [f"# HELP {name} How long after its time a timer was taken up."]
    lines += [f"# TYPE {name} histogram"]
    for labels, one in loops:
        lag = one.timer_lag
        limits = (*map(repr, lag.limits), "+Inf")
        for limit, count in zip(limits, accumulate(lag.counts), strict=True):
            inner = ",".join(filter(None, (labels, f'le="{limit}"')))
            lines.append(f"{name}_bucket{{{inner}}} {count}")
        lines.append(f"{name}_sum{_braced(labels)} {lag.sum!r}")
        lines.append(f"{name}_count{_braced(labels)} {lag.count}")
    return "\n".join(lines) + "\n"


def _check(metrics: Metrics, name: str) -> Metrics:
    if not isinstance(metrics, Metrics):
        raise TypeError(f"{name} must be what loop.metrics() returns, not {type(metrics).__name__}")
    return metrics


def _label(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a loop must be str, not {type(name).__name__}")
    return f'loop="{_escaped(name)}"'


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
