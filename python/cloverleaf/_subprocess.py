"""`SubprocessTransport`: a child process, its pipes and its end, as one transport.

`subprocess.Popen` has started the child. Its pipes become pipe transports, and the native half
reaps it and calls `_ended`, on whatever thread the loop runs. A child that is gone takes no signal,
even if its number is somebody else's by now.
"""

import asyncio
import os
import subprocess
import types
import warnings
from asyncio.log import logger
from collections.abc import Callable, Generator
from signal import SIGKILL, SIGTERM
from typing import Any

from ._pipes import Pipes
from ._releases import WAITS_END_AT_EXIT
from ._streams import meeting_of

# What a child wrote before it ended is in the kernel when the end is reported. One turn reads some
# of it, or finds the end of the pipe, and two more tell of that; then either more is read, or there
# is nothing left. Whoever else writes to the pipe cannot hold the report up for ever.
_SILENT_TURNS = 3
_MOST_TURNS = 64

_UNKNOWN_EXIT_CODE = 255


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process."""

    # Class attributes, so that `__del__` also works when `__init__` did not.
    _closed = True
    _loop: Pipes | None = None
    _proc: "subprocess.Popen[bytes] | None" = None
    _protocol: Any = None
    _returncode: int | None = None
    # Known from the moment the child is reaped, and told a little later.
    _exit_code: int | None = None
    # Learnt from `Popen`, if it was faster than the loop.
    _code_of_popen: int | None = None
    _finished = False
    _given_up = False
    # Turns since the pipes had something to tell.
    _silent_turns = 0

    def __init__(
        self,
        loop: Pipes,
        protocol: asyncio.BaseProtocol,
        proc: "subprocess.Popen[bytes]",
        command: Any,
        files: tuple[Any, Any, Any],
    ) -> None:
        extra: dict[str, Any] = {}
        super().__init__(extra)
        self._exit_waiters: list[asyncio.Future[int]] = []
        # What the protocol is to hear of once it knows of its connection.
        self._pending_calls: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = []
        self._pipes: dict[int, PipeProtocol | None] = {
            fd: None for fd, file in enumerate(files) if file == subprocess.PIPE
        }
        self._proc = proc
        self._closed = False
        self._loop = loop
        self._protocol = protocol
        self._pid = proc.pid
        extra["subprocess"] = proc
        if loop.get_debug():
            program = command if isinstance(command, (bytes, str)) else command[0]
            logger.debug("process %r created: pid %s", program, self._pid)
        try:
            loop._watch_child(self._pid, self._ended)
        except BaseException:
            self.close()
            self._close_files()
            raise

    def __repr__(self) -> str:
        words = [type(self).__name__]
        if self._closed:
            words.append("closed")
        if self._proc is None and self._returncode is None:
            words.append("not started")
        else:
            words.append(f"pid={self._pid}")
            code = self._returncode
            words.append("running" if code is None else f"returncode={code}")
        stdin, stdout, stderr = (self.get_pipe_transport(fd) for fd in range(3))
        if stdin is not None:
            words.append(f"stdin={stdin!r}")
        if stdout is not None:
            words.append(f"stdout={stdout!r}")
        if stderr is not None:
            words.append(f"stderr={stderr!r}")
        return f"<{' '.join(words)}>"

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(
                f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=1
            )
            self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell `protocol` of what happens from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol; None once the connection is lost."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        """Tell whether the transport was closed."""
        return self._closed

    def close(self) -> None:
        """Close the pipes, and kill the child unless it has ended."""
        if self._closed:
            return
        self._closed = True
        loop = self._loop
        if loop is not None and not loop.is_closed():
            # In a closed loop, the pipes' transports can only be collected.
            for protocol in self._pipes.values():
                if protocol is not None and protocol.pipe is not None:
                    protocol.pipe.close()
        proc = self._proc
        if proc is None or proc.returncode is not None or _has_ended(proc.pid):
            return
        if loop is not None and loop.get_debug():
            logger.warning("Close running child process: kill %r", self)
        try:
            proc.kill()
        except (ProcessLookupError, PermissionError):
            # It has ended meanwhile, or runs under another user.
            return
        finally:
            self._code_of_popen = proc.returncode

    def get_pid(self) -> int:
        """Return the child's number."""
        return self._pid

    def get_returncode(self) -> int | None:
        """Return the exit code, which is minus the signal that ended the child, if one did."""
        return self._returncode

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        """Return the transport of the child's stdin (0), stdout (1) or stderr (2)."""
        protocol = self._pipes.get(fd)
        return None if protocol is None else protocol.pipe

    def send_signal(self, signal: int) -> None:
        """Send a signal; ProcessLookupError says that everything about the child is over."""
        proc = self._proc
        if proc is None:
            raise ProcessLookupError
        if proc.returncode is not None:
            return  # reaped, so its number may be another process's
        try:
            os.kill(proc.pid, signal)
        except ProcessLookupError:
            return

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(SIGKILL)

    async def _connect(self) -> None:
        """Connect the pipes, and wait until the protocol knows of its connection."""
        try:
            if self._pipes:
                await self._connect_pipes()
            pending, self._pending_calls = self._pending_calls, None
            assert self._loop is not None
            protocol = self._protocol
            made = meeting_of(protocol) if self._pipes else protocol.connection_made
            self._loop.call_soon(made, self)
            for callback, args in pending or ():
                self._loop.call_soon(callback, *args)
            if self._exit_code is not None:
                self._tell_of_the_end(_MOST_TURNS)
            await _next_turn()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            self._give_up()
            await self._wait()
            raise

    async def _connect_pipes(self) -> None:
        loop, proc = self._loop, self._proc
        assert loop is not None
        assert proc is not None
        if proc.stdin is not None:
            await loop.connect_write_pipe(lambda: self._add_pipe(PipeProtocol(self, 0)), proc.stdin)
        for fd, pipe in (1, proc.stdout), (2, proc.stderr):
            if pipe is not None:
                made = OutputProtocol(self, fd)
                await loop.connect_read_pipe(lambda made=made: self._add_pipe(made), pipe)  # type: ignore[misc]

    def _add_pipe(self, protocol: "PipeProtocol") -> "PipeProtocol":
        self._pipes[protocol.fd] = protocol
        return protocol

    def _give_up(self) -> None:
        """Kill the child and close its pipes; unless the protocol knows of them, it never will."""
        self.close()
        if self._pending_calls is None:
            return
        self._given_up = True
        self._close_files()
        if self._exit_code is not None:
            self._tell_of_the_end(0)

    def _close_files(self) -> None:
        if self._proc is not None:
            for pipe in (self._proc.stdin, self._proc.stdout, self._proc.stderr):
                if pipe is not None:
                    pipe.close()

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        if self._given_up:
            return
        if self._pending_calls is not None:
            self._pending_calls.append((callback, args))
        elif self._loop is not None:
            self._loop.call_soon(callback, *args)

    def _pipe_data_received(self, fd: int, data: bytes) -> None:
        self._silent_turns = 0
        self._call(self._protocol.pipe_data_received, fd, data)

    def _pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self._silent_turns = 0
        self._call(self._protocol.pipe_connection_lost, fd, exc)
        self._try_finish()

    def _ended(self, code: int | None) -> None:
        """Note that the child has been reaped, with this exit code; called natively."""
        if code is None:
            code = self._code_of_popen
        if code is None:
            code = _UNKNOWN_EXIT_CODE
            logger.warning(
                "child process pid %d exit status already read:  will report returncode %d",
                self._pid,
                code,
            )
        if self._proc is not None and self._proc.returncode is None:
            self._proc.returncode = code
        self._exit_code = code
        if self._pending_calls is None or self._given_up:
            self._tell_of_the_end(_MOST_TURNS)

    def _tell_of_the_end(self, turns: int) -> None:
        """Tell of the child's end once its pipes are silent, after so many turns at most."""
        assert self._loop is not None
        waits = self._pipes and turns and self._silent_turns < _SILENT_TURNS
        if waits and not self._has_lost_pipes():
            self._silent_turns += 1
            self._loop.call_soon(self._tell_of_the_end, turns - 1)
            return
        self._returncode = self._exit_code
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, self._returncode)
        self._call(self._protocol.process_exited)
        if WAITS_END_AT_EXIT or self._given_up:
            self._wake_waiters()
        self._try_finish()

    def _try_finish(self) -> None:
        if self._returncode is None or self._finished:
            return
        if not self._pipes or self._has_lost_pipes():
            self._finished = True
            self._call(self._call_connection_lost, None)

    def _has_lost_pipes(self) -> bool:
        """Tell whether every pipe has told of its end."""
        return all(one is not None and one.disconnected for one in self._pipes.values())

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._wake_waiters()
            self._loop = None
            self._proc = None
            self._protocol = None

    def _wake_waiters(self) -> None:
        for waiter in self._exit_waiters:
            if not waiter.done():
                waiter.set_result(self._returncode or 0)
        self._exit_waiters.clear()

    async def _wait(self) -> int:
        """Wait for the end, and return the exit code; `asyncio.subprocess.Process` calls this."""
        if self._returncode is not None:
            return self._returncode
        assert self._loop is not None
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._exit_waiters.append(waiter)
        try:
            return await waiter
        finally:
            if waiter in self._exit_waiters:
                self._exit_waiters.remove(waiter)


class PipeProtocol(asyncio.BaseProtocol):
    """The protocol of the pipe to a child's stdin; tells the process's transport of it."""

    def __init__(self, process: SubprocessTransport, fd: int) -> None:
        self.process: SubprocessTransport | None = process
        self.fd = fd
        self.pipe: asyncio.BaseTransport | None = None
        self.disconnected = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.fd} pipe={self.pipe!r}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the pipe's transport."""
        self.pipe = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the process's transport, and let go of it."""
        self.disconnected = True
        process, self.process = self.process, None
        if process is not None:
            process._pipe_connection_lost(self.fd, exc)

    def pause_writing(self) -> None:
        """Hand it on to the protocol of the process."""
        if self.process is not None:
            self.process._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on to the protocol of the process."""
        if self.process is not None:
            self.process._protocol.resume_writing()


class OutputProtocol(PipeProtocol, asyncio.Protocol):
    """The protocol of the pipe from a child's stdout or stderr."""

    def data_received(self, data: bytes) -> None:
        """Hand it on to the protocol of the process."""
        if self.process is not None:
            self.process._pipe_data_received(self.fd, data)


@types.coroutine
def _next_turn() -> Generator[None, None, None]:
    """What `asyncio.sleep(0)` does, in one coroutine instead of two."""
    yield


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended, without reaping it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
