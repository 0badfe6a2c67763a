"""Starting a child as `subprocess.Popen` does, but without stopping the loop until it has executed.

`Popen` does all its work but the last: what it would hand to `_posixsubprocess.fork_exec`, and to
wait for, goes to the native half, which makes the child and returns at once. Whatever is unusual,
as arguments that `subprocess` refuses, or a `Popen` that somebody has replaced or patched, stays
`subprocess`'s own affair, from the beginning to the end; then the loop waits, as asyncio's does.
"""

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
from typing import Any

from ._cloverleaf import Program, Starting
from ._pipes import Pipes
from ._plain import start_plain
from ._popen import NONE, handed_over, is_as_found, is_own, no_handles

_MOST_GROUPS = 65536
_UNKNOWN_EXIT_CODE = 255


async def start_process(
    loop: Pipes, command: Any, keywords: dict[str, Any]
) -> "subprocess.Popen[bytes]":
    """Return the `Popen` of a child that has executed its program; all keywords are `Popen`'s."""
    proc, starting, start = start_plain(command, keywords, _refusal) or _start(command, keywords)
    if starting is None:
        return proc
    try:
        told: asyncio.Future[tuple[int, str] | None] = loop.create_future()
        loop._watch_start(starting, told)
        failure = await told
    except GeneratorExit:
        _GivenUp(loop, proc).end_at_once()
        raise
    except BaseException:
        await _GivenUp(loop, proc).end()
        raise
    if failure is not None:
        _reap(proc)
        if isinstance(start, tuple):
            start = _Start(*handed_over(*start))
        raise start.failure(*failure)
    return proc


# A child; unless it is known to have executed its program, how it starts; and what is to be told if
# it fails, or that of which it can be made.
_Begun = tuple["subprocess.Popen[bytes]", Starting | None, "_Start | tuple[Any, ...]"]


def _start(command: Any, keywords: dict[str, Any]) -> _Begun:
    """Start a child as `Popen` does; all keywords are `Popen`'s."""
    if keywords.get("preexec_fn") is not None or not (
        (is_as_found() or is_own(_Start.__init__.__code__)) and Program.can_start()
    ):
        return subprocess.Popen(command, **keywords), None, NONE
    # What `Popen` would call of its class, it finds in the instance.
    proc = subprocess.Popen.__new__(subprocess.Popen)
    members = vars(proc)
    started: list[tuple[Starting, _Start]] = []
    members["_execute_child"] = functools.partial(_execute_child, started, proc)
    inherits_all = keywords["stdin"] is keywords["stdout"] is keywords["stderr"] is None
    if inherits_all:
        members["_get_handles"] = no_handles
    try:
        proc.__init__(command, **keywords)  # type: ignore[misc]
    finally:
        del members["_execute_child"]
        if inherits_all:
            del members["_get_handles"]
    return (proc, *started.pop()) if started else (proc, None, NONE)


def _refusal(handed: tuple[Any, ...], error: OSError) -> OSError:
    return _Start(*handed_over(*handed)).refusal(error)


def _execute_child(
    started: "list[tuple[Starting, _Start]]", proc: "subprocess.Popen[bytes]", *given: Any
) -> None:
    """Do what `Popen._execute_child` does, but for waiting."""
    try:
        start = _Start(*given)
    except Exception:
        # It says itself what it does not like.
        subprocess.Popen._execute_child(proc, *given)  # type: ignore[attr-defined]
        return
    start.audit()
    try:
        starting = start.program.start()
    except OSError as error:
        raise start.refusal(error) from None
    proc.pid = starting.pid
    proc._child_created = True  # type: ignore[attr-defined]
    started.append((starting, start))
    handles = given[10:16]
    if handles == NONE:
        proc._closed_child_pipe_fds = True  # type: ignore[attr-defined]
    else:
        proc._close_pipe_fds(*handles)  # type: ignore[attr-defined]


class _Start:
    """A program, and what exceptions and audit events tell of it.

    It is made of what `Popen.__init__` hands to `_execute_child`, on every Python that we know.
    """

    def __init__(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: Any,
        shell: Any,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: Any,
        gid: Any,
        gids: Any,
        uid: Any,
        umask: Any,
        start_new_session: Any,
        process_group: Any,
    ) -> None:
        self.cwd = cwd
        self._audited_env = env
        self._args, self.executable = _command(args, executable, shell)
        arguments = [os.fsencode(argument) for argument in self._args]
        is_first = self._args and self.executable is self._args[0]
        path = arguments[0] if is_first else os.fsencode(self.executable)
        # What `subprocess` would do for a path, which has audit events and rules of its own.
        self._by_posix_spawn = (
            b"/" in path
            and getattr(subprocess, "_USE_POSIX_SPAWN", False)
            and (not close_fds or getattr(subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM", False))
            and not pass_fds
            and (p2cread == -1 or p2cread > 2)
            and (c2pwrite == -1 or c2pwrite > 2)
            and (errwrite == -1 or errwrite > 2)
            and not start_new_session
            and process_group == -1
            and cwd is None
            and gid is None
            and gids is None
            and uid is None
            and umask < 0
        )
        if self._by_posix_spawn:
            if not arguments[0]:
                raise ValueError("posix_spawn(3) wants a name")
            if env is None and not _SPAWN_READS_ENVIRON:
                env = os.environ
        self._env = env
        if b"/" in path:
            executables = [path]
        else:
            folders = os.get_exec_path(env)
            executables = [os.path.join(os.fsencode(folder), path) for folder in folders]
        if gids is not None and len(gids) > _MOST_GROUPS:
            raise ValueError("too many groups")
        for truth in restore_signals, start_new_session:
            if not isinstance(truth, int) or truth not in (0, 1):
                raise TypeError("not every release takes what is merely true or false")
        self.program = Program(
            arguments,
            executables,
            None if env is None else _environment(env),
            None if cwd is None else os.fsencode(cwd),
            (p2cread, c2pwrite, errwrite),
            (p2cwrite, c2pread, errread),
            _kept(pass_fds),
            bool(close_fds),
            bool(restore_signals),
            bool(start_new_session),
            process_group,
            gids,
            gid,
            uid,
            umask,
            not getattr(subprocess, "_USE_VFORK", True),
        )

    def audit(self) -> None:
        """Tell of it whom `subprocess` tells."""
        sys.audit("subprocess.Popen", self.executable, self._args, self.cwd, self._audited_env)
        if self._by_posix_spawn:
            sys.audit("os.posix_spawn", os.fspath(self.executable), self._args, self._env)

    def refusal(self, error: OSError) -> OSError:
        """Return what `subprocess` raises if there is no child at all."""
        if not self._by_posix_spawn:
            return error
        return OSError(error.errno, error.strerror, os.fspath(self.executable))

    def failure(self, errno: int, obstacle: str) -> OSError:
        """Return what `subprocess` raises if the child gets no further."""
        text = os.strerror(errno)
        if self._by_posix_spawn:
            return OSError(errno, text, os.fspath(self.executable))
        if obstacle == "execution":
            return OSError(errno, text, self.executable)
        if obstacle == "folder" or not _TELLS_FOLDERS_APART:
            return OSError(errno, text, self.cwd)
        return OSError(errno, text)


# Since 3.13 `posix_spawn` closes descriptors, and takes None for the environment.
_SPAWN_READS_ENVIRON = hasattr(subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM")


def _knows(text: str) -> bool:
    execute = getattr(subprocess.Popen, "_execute_child", None)
    constants = getattr(getattr(execute, "__code__", None), "co_consts", ())
    # `python -bb` forbids to compare it with the bytes among them.
    return any(isinstance(constant, str) and constant == text for constant in constants)


# Since 3.13 only a failure of `chdir(2)` is said to be of the folder; before, all others are, too.
_TELLS_FOLDERS_APART = _knows("noexec:chdir")


def _command(args: Any, executable: Any, shell: Any) -> tuple[list[Any], Any]:
    if shell and hasattr(sys, "getandroidapilevel"):
        raise ValueError("the shell is elsewhere")
    args = [args] if isinstance(args, (str, bytes)) else [*args]
    if shell:
        args = ["/bin/sh", "-c", *args]
        if executable:
            args[0] = executable
    return args, args[0] if executable is None else executable


def _environment(env: Any) -> list[bytes]:
    strings = []
    for name, value in env.items():
        known_as = os.fsencode(name)
        if not known_as or b"=" in known_as:
            raise ValueError("not every way to start a program takes this name")
        strings.append(known_as + b"=" + os.fsencode(value))
    return strings


def _kept(pass_fds: Any) -> list[int]:
    if not isinstance(pass_fds, (tuple, list, set, frozenset, range)):
        raise TypeError("what can be read only once")
    if not pass_fds:
        return []
    kept = sorted(set(pass_fds))
    if not all(type(fd) is int and fd >= 0 for fd in kept):
        raise ValueError("no descriptor")
    return kept


def _reap(proc: "subprocess.Popen[bytes]") -> None:
    """Reap a child that is about to end, if it has not, and close the files to it."""
    with contextlib.suppress(ChildProcessError):
        _, status = os.waitpid(proc.pid, 0)
        proc.returncode = os.waitstatus_to_exitcode(status)
    _close_files(proc)


def _close_files(proc: "subprocess.Popen[bytes]") -> None:
    for file in (proc.stdin, proc.stdout, proc.stderr):
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


class _GivenUp:
    """A child whose start nobody waits for any more; nothing of it stays behind."""

    def __init__(self, loop: Pipes, proc: "subprocess.Popen[bytes]") -> None:
        self._loop = loop
        self._proc = proc
        self._ended: asyncio.Future[None] | None = None

    def end_at_once(self) -> None:
        """Kill it and reap it where nobody may wait for anything; who is killed ends soon."""
        if self._kill():
            self._proc.wait()
        _close_files(self._proc)

    async def end(self) -> None:
        """Kill it and wait until it is reaped, which happens also if nobody waits any more."""
        self._kill()
        if self._proc.returncode is not None:
            _close_files(self._proc)
            return
        self._ended = self._loop.create_future()
        try:
            self._loop._watch_child(self._proc.pid, self._reaped)
        except (OSError, RuntimeError):
            # The kernel has no room for one more registration, or the loop is closed.
            self._reaped(self._proc.wait())
        try:
            await self._ended
        except GeneratorExit:
            self.end_at_once()
            raise

    def _kill(self) -> bool:
        """Tell whether it is gone, or about to be."""
        try:
            with contextlib.suppress(ProcessLookupError):
                self._proc.kill()
        except PermissionError:
            return False  # it runs under another user
        return True

    def _reaped(self, code: int | None) -> None:
        """Note that the child was reaped; called natively."""
        if self._proc.returncode is None:
            self._proc.returncode = _UNKNOWN_EXIT_CODE if code is None else code
        _close_files(self._proc)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
