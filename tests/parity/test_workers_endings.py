"""``run_workers``: failures, signals and deaths, and who hears of them."""

from __future__ import annotations

import signal

import pytest

from .harness.program import Program
from .harness.workers import BOTH, PROCESSES, output, started, told


@BOTH
def test_a_failure_cancels_the_others(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    if worker.index == 1:
        raise KeyError("gone")
    await for_ever(worker)
try:
    run(main, 3)
except BaseException as group:
    print(shown(group))
    text = "".join(traceback.format_exception(group))
    print('raise KeyError("gone")' in text or "in main" in text)
""",
    )
    lines = out.splitlines()
    assert lines[-2:] == ["[\"KeyError: 'gone'\"]", "True"]
    assert sorted(lines[:-2]) == ["ended 0", "ended 2", "runs 0", "runs 2"]


@BOTH
def test_failures_of_clean_ups_are_told_too(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    if worker.index == 0:
        raise ValueError("first")
    try:
        await asyncio.sleep(3600)
    finally:
        raise OSError("second")
try:
    run(main, 2)
except BaseException as group:
    print(shown(group))
""",
    )
    # Whoever is cancelled before its main begins is so at its first await.
    assert out == "['ValueError: first', 'OSError: second']"


@BOTH
@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt('now')"])
def test_an_exit_is_raised_alone(program: Program, made_of: str, raised: str) -> None:
    out = output(
        program,
        made_of,
        f"""
async def main(worker):
    if worker.index == 1:
        raise {raised}
    await asyncio.sleep(3600)
try:
    run(main, 2)
except BaseException as error:
    print(repr(error))
""",
    )
    assert out == raised


@BOTH
def test_who_cancels_itself_has_failed(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    if worker.index == 1:
        raise asyncio.CancelledError
    await asyncio.sleep(3600)
try:
    run(main, 2)
except BaseException as group:
    print(shown(group))
""",
    )
    assert out == "['CancelledError: ']"


@BOTH
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_all_and_does_then_what_it_does(
    program: Program, made_of: str, signum: signal.Signals
) -> None:
    process = started(
        program,
        made_of,
        """
try:
    run(for_ever, 2)
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
""",
    )
    assert told(process, 2) == ["runs 0", "runs 1"]
    process.send_signal(signum)
    ended = program.wait(process)
    lines = ended.out.splitlines()
    assert sorted(lines[:2]) == ["ended 0", "ended 1"], ended.err
    if signum == signal.SIGINT:
        assert (ended.status, lines[2:]) == (0, ["interrupted True"])
    else:
        assert (ended.status, lines[2:]) == (-signal.SIGTERM, [])


@BOTH
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_who_returns_when_cancelled_has_a_result(
    program: Program, made_of: str, signum: signal.Signals
) -> None:
    process = started(
        program,
        made_of,
        """
async def main(worker):
    try:
        await for_ever(worker)
    except asyncio.CancelledError:
        return worker.index
print(run(main, 2))
""",
    )
    told(process, 2)
    process.send_signal(signum)
    ended = program.wait(process)
    assert (ended.status, ended.out.splitlines()[2:]) == (0, ["[0, 1]"]), ended.err


@BOTH
def test_a_signal_handler_of_the_programs_stays(program: Program, made_of: str) -> None:
    process = started(
        program,
        made_of,
        """
def leave(signum, frame):
    sys.exit(f"by my own handler in {os.getpid() == parent}")
parent = os.getpid()
signal.signal(signal.SIGTERM, leave)
try:
    run(for_ever, 2)
finally:
    print(signal.getsignal(signal.SIGTERM) is leave)
""",
    )
    told(process, 2)
    process.send_signal(signal.SIGTERM)
    ended = program.wait(process)
    assert ended.status == 1
    assert sorted(ended.out.splitlines()[:2]) == ["ended 0", "ended 1"]
    assert ended.out.splitlines()[2:] == ["True"]
    assert ended.err.strip() == "by my own handler in True"


@PROCESSES
def test_a_handler_that_raises_amid_a_fork_leaves_no_process(
    program: Program, made_of: str
) -> None:
    """The signal comes when the process is there, and multiprocessing has not noted it yet."""
    out = output(
        program,
        made_of,
        """
from multiprocessing import util
original = util.Finalize
def finalize(*args, **keywords):
    if os.getpid() == parent:
        signal.raise_signal(signal.SIGTERM)
    return original(*args, **keywords)
def leave(signum, frame):
    raise LookupError
util.Finalize = finalize
parent = os.getpid()
signal.signal(signal.SIGTERM, leave)
try:
    run(for_ever, 2)
except LookupError:
    util.Finalize = original
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child", signal.pthread_sigmask(signal.SIG_BLOCK, ()))
""",
    )
    assert out.splitlines()[-1] == "no child set()"


@PROCESSES
def test_a_worker_stopped_by_a_signal_of_its_own_has_failed(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
async def main(worker):
    if worker.index:
        os.kill(os.getpid(), signal.SIGTERM)
    await for_ever(worker)
try:
    run(main, 2)
except BaseException as group:
    print(shown(group))
""",
    )
    last = out.splitlines()[-1]
    assert last.startswith("['WorkerError: worker 1 (process ")
    assert last.endswith(") was stopped by SIGTERM']")


@PROCESSES
@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os._exit(7)", "ended with exit status 7 before its main was done"),
        ("os._exit(0)", "ended with exit status 0 before its main was done"),
    ],
)
def test_a_worker_that_dies_is_told_of(program: Program, made_of: str, end: str, said: str) -> None:
    out = output(
        program,
        made_of,
        f"""
async def main(worker):
    if worker.index == 0:
        {end}
    await for_ever(worker)
try:
    run(main, 2)
except BaseException as group:
    print(shown(group))
""",
    )
    last = out.splitlines()[-1]
    assert last.startswith("['WorkerError: worker 0 (process ")
    assert last.endswith(f") {said}']")


@PROCESSES
def test_a_worker_that_dies_is_told_of_though_it_has_a_child(
    program: Program, made_of: str
) -> None:
    """The child has all of the worker's descriptors, and outlives it."""
    out = output(
        program,
        made_of,
        """
async def main(worker):
    child = os.fork()
    if not child:
        os.close(1), os.close(2)
        os.read(reading, 1)
        os._exit(0)
    say("child", child)
    os._exit(5)
reading, writing = os.pipe()
try:
    run(main, 1)
except BaseException as group:
    print(shown(group))
os.write(writing, b".")
""",
    )
    assert out.endswith("ended with exit status 5 before its main was done']")


@BOTH
def test_who_does_not_stop_in_time_is_killed_or_given_up(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        """
held = threading.Event()
async def main(worker):
    if worker.index == 0:
        held.wait()
    raise ValueError
try:
    run(main, 2, graceful_timeout=0.05)
except BaseException as group:
    print(shown(group))
""",
    )
    assert "did not stop within 0.05 s, and " in out
    assert ("and was killed" in out) == (made_of == "processes")
    assert ("and goes on: nothing can end a thread" in out) == (made_of == "threads")
    assert out.endswith(", 'ValueError: ']")


@BOTH
def test_a_second_interrupt_waits_for_nobody(program: Program, made_of: str) -> None:
    process = started(
        program,
        made_of,
        """
held = threading.Event()
async def main(worker):
    try:
        await for_ever(worker)
    finally:
        say("holds", worker.index)
        held.wait()
try:
    run(main, 2, graceful_timeout=None)
except KeyboardInterrupt:
    print("interrupted")
""",
    )
    told(process, 2)
    process.send_signal(signal.SIGINT)
    assert told(process, 4) == ["ended 0", "ended 1", "holds 0", "holds 1"]
    process.send_signal(signal.SIGINT)
    ended = program.wait(process)
    assert (ended.status, ended.out.strip()) == (0, "interrupted"), ended.err


# The signal comes after Python's last look for signals, and before poll(2).
LATE = """
import ctypes, functools, operator, select
libc, real, sleeps = ctypes.CDLL(None), select.poll, []

class Poll:
    def __init__(self):
        self._poll = real()
    def register(self, *args):
        self._poll.register(*args)
    def poll(self, timeout):
        calls = [functools.partial(self._poll.poll, timeout)]
        if not sleeps:
            main = ctypes.c_ulong(threading.main_thread().ident)
            calls.insert(0, functools.partial(libc.pthread_kill, main, int(signal.SIGINT)))
        sleeps.append(timeout)
        # Nothing of this is Python's code, in which it would look.
        return list(map(operator.call, calls))[-1]

select.poll = Poll
"""


@BOTH
def test_a_signal_between_the_last_look_and_the_sleep_is_heard(
    program: Program, made_of: str
) -> None:
    out = output(
        program,
        made_of,
        LATE
        + """
try:
    run(for_ever, 2)
except KeyboardInterrupt:
    print("interrupted", signal.set_wakeup_fd(-1))
""",
    )
    assert out.splitlines()[-1] == "interrupted -1"


@BOTH
def test_a_wakeup_descriptor_of_the_programs_stays(program: Program, made_of: str) -> None:
    out = output(
        program,
        made_of,
        LATE
        + """
reader, writer = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(writer)
try:
    run(for_ever, 2)
except KeyboardInterrupt:
    print("interrupted", set(os.read(reader, 100)), signal.set_wakeup_fd(-1) == writer)
""",
    )
    assert out.splitlines()[-1] == "interrupted {2} True"


@BOTH
def test_a_wakeup_descriptor_of_the_programs_misses_no_signal(
    program: Program, made_of: str
) -> None:
    out = output(
        program,
        made_of,
        """
came, real, ours = [], signal.set_wakeup_fd, os.getpid()
signal.signal(signal.SIGUSR1, lambda *_: came.append(1))

def then_signalled(*args, **options):
    former = real(*args, **options)
    if os.getpid() == ours:  # some children of Python 3.11 have the descriptor, too
        signal.raise_signal(signal.SIGUSR1)
    return former

async def main(worker):
    return worker.index
reader, writer = os.pipe2(os.O_NONBLOCK)
real(writer)
signal.set_wakeup_fd = then_signalled
print(run(main, 2), len(came) > 0)
missed = len(came) - os.read(reader, 100).count(signal.SIGUSR1)
print(missed, real(-1) == writer)
""",
    )
    assert out == "[0, 1] True\n0 True"


@PROCESSES
def test_workers_stop_when_their_parent_is_gone(program: Program, made_of: str) -> None:
    process = started(program, made_of, "run(for_ever, 3)")
    told(process, 3)
    process.kill()
    # Its pipes are the workers', too: their end is what is waited for.
    ended = program.wait(process)
    assert sorted(ended.out.split("\n")) == ["", "ended 0", "ended 1", "ended 2"]


@pytest.mark.only("cloverleaf")
@PROCESSES
def test_where_descriptors_run_out_none_is_kept(program: Program, made_of: str) -> None:
    ended = program.wait(
        started(
            program,
            made_of,
            """
import errno, resource, warnings
warnings.simplefilter("error")
async def main(worker):
    pass
before = os.listdir("/proc/self/fd")
def attempt(count, room):
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + room, most))
    try:
        run(main, count)
    except OSError as error:
        failure = error.errno
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return failure == errno.EMFILE and os.listdir("/proc/self/fd") == before
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
print(attempt(8, 5), {attempt(2, room) for room in range(5)})
""",
        )
    )
    # A warning that is an error is shown there if a socket was not closed.
    assert (ended.out, ended.err) == ("True {True}\n", "")


@PROCESSES
def test_workers_whose_exit_status_somebody_else_takes_end_too(
    program: Program, made_of: str
) -> None:
    out = output(
        program,
        made_of,
        """
def reap(signum, frame):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
async def main(worker):
    if dies and worker.index:
        os._exit(0)
    return worker.index
signal.signal(signal.SIGCHLD, reap)
dies = False
print(run(main, 3))
dies = True
try:
    run(main, 2)
except BaseException as group:
    print(shown(group))
""",
    )
    first, last = out.splitlines()
    assert first == "[0, 1, 2]"
    assert last.startswith("['WorkerError: worker 1 (process ")
    # Mostly that somebody has: the handler comes before us, but for a child that has just died.
