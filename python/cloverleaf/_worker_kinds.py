"""Workers as threads and as forked processes, as the one sees them who waits for them."""

import contextlib
import contextvars
import os
import pickle
import signal
import socket
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Collection
from types import FrameType
from typing import Any, Protocol

from ._worker import Job, Leash, Outcome, Worker, WorkerError, work

_CHUNK_BYTES = 1 << 18


class Crew(Protocol):
    """What a worker needs of the one who waits for it."""

    # The first signal that came, and those that come to the crew.
    signum: int | None
    handled: list[int]

    def wake(self) -> None:
        """Have the crew look at its workers, from any thread."""

    def close_in_child(self, own: "ProcessMember") -> None:
        """Close in a worker's process what is the crew's or another worker's."""


class Member(ABC):
    """A worker, as the one who waits for it sees it."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.is_running = False
        self.outcome: Outcome | None = None

    @abstractmethod
    def start(self, job: Job, crew: Crew) -> None:
        """Start it; it runs only if this returns."""

    @abstractmethod
    def descriptors(self) -> list[int]:
        """Return the descriptors that it has before it is started."""

    @abstractmethod
    def waits_on(self) -> list[int]:
        """Return the descriptors that can be read when there is something to look at."""

    @abstractmethod
    def look(self) -> None:
        """Take what it has said, and notice its end."""

    @abstractmethod
    def stop(self) -> None:
        """Cancel its main; a second time does nothing."""

    @abstractmethod
    def kill(self, why: str) -> None:
        """End it, or give it up."""

    @abstractmethod
    def close(self) -> None:
        """Leave no descriptor of one that does not run."""


class ThreadMember(Member):
    """A worker that is a thread."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._leash = Leash()
        self._thread: threading.Thread | None = None

    def __str__(self) -> str:
        return f"worker {self.worker.index} (a thread)"

    def start(self, job: Job, crew: Crew) -> None:
        # A daemon, because one that is given up must not keep the process from ending.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._run, job, crew),
            name=f"cloverleaf-worker-{self.worker.index}",
            daemon=True,
        )
        self.is_running = True
        try:
            self._thread.start()
        except BaseException as error:
            # Unless there is no thread to be had, it is a signal handler that has raised, while
            # the thread was starting.
            is_refused = isinstance(error, RuntimeError | MemoryError)
            self.is_running = self._thread.ident is not None or not is_refused
            raise

    def _run(self, job: Job, crew: Crew) -> None:
        outcome = work(job, self.worker, self._leash, None)
        # Who was given up has his outcome.
        self.outcome = self.outcome or outcome
        crew.wake()

    def descriptors(self) -> list[int]:
        return []

    def waits_on(self) -> list[int]:
        return []

    def look(self) -> None:
        if self.outcome is not None and self._thread is not None:
            self._thread.join()
            self.is_running = False

    def stop(self) -> None:
        self._leash.pull()

    def kill(self, why: str) -> None:
        error = WorkerError(f"{self} {why}, and goes on: nothing can end a thread")
        self.outcome = self.outcome or Outcome("error", error)
        self.is_running = False

    def close(self) -> None:
        pass


class ProcessMember(Member):
    """A worker that is a forked process.

    A pair of sockets joins both. The worker's outcome comes by it; that its other end is closed
    tells the worker to stop, or that there is nobody any more whom it works for.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._name = f"worker {worker.index}"
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._process: Any = None
        self._pidfd: int | None = None
        self._said = bytearray()
        self._has_hung_up = False
        self._why: str | None = None

    def __str__(self) -> str:
        return self._name

    def start(self, job: Job, crew: Crew) -> None:
        # Only whoever forks needs to import it.
        from multiprocessing import get_context

        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._process = get_context("fork").Process(
            target=self._run, args=(job, crew, mask), name=f"cloverleaf-worker-{self.worker.index}"
        )
        try:
            # A handler that raised between the fork and what notes it would leave a process that
            # nobody knows. So signals wait, here and in the worker, until all is in place.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            self._process.start()
            self._name = f"{self._name} (process {self._process.pid})"
            self._theirs.close()
            # Where the kernel or a filter refuses it, the process's own pipe has to do, whose end
            # is not seen before the end of all children that the worker has forked.
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self._process.pid)
        finally:
            # Another thread may have taken a signal, whose handler has raised in this one.
            self.is_running = self._process.pid is not None
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _run(self, job: Job, crew: Crew, mask: Collection[int]) -> None:
        """Work; this runs in the worker's process, and nothing else of this class does."""
        leash, signals = Leash(), []

        def stop(signum: int, frame: FrameType | None) -> None:
            signals.append(signum)
            leash.pull()

        for signum in crew.handled:
            signal.signal(signum, stop)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if crew.signum is not None:
            # It has come before these handlers were there.
            signals.append(crew.signum)
            leash.pull()
        self._name = f"{self._name} (process {os.getpid()})"
        crew.close_in_child(self)
        outcome = work(job, self.worker, leash, self._theirs)
        if outcome.kind == "cancelled" and signals:
            outcome = Outcome("cancelled", signals[0])
        payload = self._packed(outcome)
        # If nobody listens any more, nobody needs to hear it.
        with contextlib.suppress(OSError):
            self._theirs.sendall(payload)
        self._theirs.close()

    def _packed(self, outcome: Outcome) -> bytes:
        if outcome.kind == "error":
            text = "".join(traceback.format_exception(outcome.value))
            outcome.value.add_note(f"In {self}:\n{text}")
        try:
            payload = pickle.dumps(outcome)
            if outcome.kind == "error":
                # Some can be pickled, and not be made again from that.
                pickle.loads(payload)
        except Exception as error:
            what = type(outcome.value).__name__
            failure = WorkerError(f"{self} cannot send its {outcome.kind}, of type {what}: {error}")
            for note in getattr(outcome.value, "__notes__", ()):
                failure.add_note(note)
            payload = pickle.dumps(Outcome("error", failure))
        return payload

    def descriptors(self) -> list[int]:
        return [self._ours.fileno(), self._theirs.fileno()]

    def waits_on(self) -> list[int]:
        end = self._process.sentinel if self._pidfd is None else self._pidfd
        return [end] if self._has_hung_up else [end, self._ours.fileno()]

    def look(self) -> None:
        # In this order: what it said before its end is there after it.
        is_dead = self._process.exitcode is not None or self._is_reaped()
        self._receive()
        if self.outcome is None and (self._has_hung_up or is_dead):
            self.outcome = self._unpacked()
        if is_dead:
            self.is_running = False
            self.outcome = self.outcome or Outcome("error", WorkerError(self._how_it_died()))

    def _receive(self) -> None:
        while not self._has_hung_up:
            try:
                piece = self._ours.recv(_CHUNK_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                piece = b""
            self._said += piece
            self._has_hung_up = not piece

    def _is_reaped(self) -> bool:
        """Whether somebody else has taken its exit status."""
        try:
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False

    def _unpacked(self) -> Outcome | None:
        if not self._said:
            return None
        try:
            outcome = pickle.loads(self._said)
        except (EOFError, pickle.UnpicklingError):
            return None  # It has died before it had said all.
        except Exception as error:
            error.add_note(f"This was raised by the result of {self} when it was unpickled.")
            return Outcome("error", error)
        assert isinstance(outcome, Outcome)
        return outcome

    def _how_it_died(self) -> str:
        code = self._process.exitcode
        if self._why is not None:
            return f"{self} {self._why}, and was killed"
        if code is None:
            return f"{self} has died, and somebody else has taken its exit status"
        if code >= 0:
            return f"{self} ended with exit status {code} before its main was done"
        known = {each.value: each.name for each in signal.Signals}
        return f"{self} was killed by {known.get(-code, f'signal {-code}')}"

    def stop(self) -> None:
        # It may have gone.
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)

    def kill(self, why: str) -> None:
        self._why = why
        self._process.kill()

    def close(self) -> None:
        self.disown()
        # Without its status, it is multiprocessing's until the end.
        if self._process is not None and self._process.exitcode is not None:
            self._process.close()

    def hang_up(self) -> None:
        """Close what only the parent may have."""
        self._ours.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def disown(self) -> None:
        """Close all that joins it to its parent, in the parent or in another worker."""
        self.hang_up()
        self._theirs.close()
