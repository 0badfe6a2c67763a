"""Starting a child as `subprocess.Popen` does, but without stopping the loop until it has executed.

`Popen` does all its work but the last: what it would hand to `_posixsubprocess.fork_exec`, and to
wait for, goes to the native half, which makes the child and returns at once. Whatever is unusual,
as arguments that `subprocess` refuses, or a `Popen` that somebody has replaced or patched, stays
`subprocess`'s own affair, from the beginning to the end; then the loop waits, as asyncio's does.
"""

import _posixsubprocess
import asyncio
import contextlib
import functools
import os
import subprocess
import sys
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

from ._cloverleaf import Program, Starting
from ._pipes import Pipes

_MOST_GROUPS = 65536
_UNKNOWN_EXIT_CODE = 255


async def start_process(
    loop: Pipes, command: Any, files: tuple[Any, Any, Any], keywords: dict[str, Any]
) -> "subprocess.Popen[bytes]":
    """Return the `Popen` of a child that has executed its program."""
    stdin, stdout, stderr = files
    # asyncio hands them over under these names.
    keywords = {
        "stdin": stdin,
        "stdout": stdout,
        "stderr": stderr,
        "universal_newlines": False,
        **keywords,
    }
    if keywords.get("preexec_fn") is not None or not _may_start():
        return subprocess.Popen(command, **keywords)  # noqa: ASYNC220 - as asyncio does
    # What `Popen` would call of its class, it finds in the instance.
    proc = subprocess.Popen.__new__(subprocess.Popen)
    children: list[_Child] = []
    vars(proc)["_execute_child"] = functools.partial(_execute_child, loop, children, proc)
    try:
        proc.__init__(command, **keywords)  # type: ignore[misc]
    finally:
        del vars(proc)["_execute_child"]
    if children:
        await children.pop()._executed()
    return proc


def _may_start() -> bool:
    """Tell whether `Popen` is Python's own in all that is replaced here, and the system lets us."""
    members: dict[str, Any] = getattr(subprocess.Popen, "__dict__", {})
    execute, spawn = members.get("_execute_child"), members.get("_posix_spawn")
    return (
        "__new__" not in members
        and type(execute) is FunctionType  # and nothing that passes for one
        and execute.__globals__ is vars(subprocess)
        and _takes_parameters(execute.__code__)
        and type(vars(subprocess).get("_fork_exec")) is BuiltinFunctionType
        and type(_posixsubprocess.fork_exec) is BuiltinFunctionType
        and type(getattr(os, "posix_spawn", None)) is BuiltinFunctionType
        and type(spawn) is FunctionType
        and spawn.__globals__ is vars(subprocess)
        and Program.can_start()
    )


# The code that was found to do so.
_taking_them: list[CodeType] = []


def _takes_parameters(code: CodeType) -> bool:
    """Tell whether a function of this code takes what we know, under the names that we know."""
    if _taking_them and _taking_them[0] is code:
        return True
    ours = _Start.__init__.__code__
    if code.co_varnames[: code.co_argcount] != ours.co_varnames[: ours.co_argcount]:
        return False
    _taking_them[:] = [code]
    return True


def _execute_child(
    loop: Pipes, children: "list[_Child]", proc: "subprocess.Popen[bytes]", *given: Any
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
    child = _Child(loop, proc, starting, start)
    children.append(child)
    proc._close_pipe_fds(*given[10:16])  # type: ignore[attr-defined]


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
        path = os.fsencode(self.executable)
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
        wish = {
            "arguments": arguments,
            "executables": executables,
            "environment": None if env is None else _environment(env),
            "folder": None if cwd is None else os.fsencode(cwd),
            "stdio": (p2cread, c2pwrite, errwrite),
            "parents_ends": (p2cwrite, c2pread, errread),
            "kept": _kept(pass_fds),
            "closes_others": bool(close_fds),
            "restores_signals": bool(restore_signals),
            "new_session": bool(start_new_session),
            "process_group": process_group,
            "groups": gids,
            "group": gid,
            "user": uid,
            "umask": umask,
            "copies_memory": not getattr(subprocess, "_USE_VFORK", True),
        }
        self.program = Program(wish)

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

    def failure(self, errno: int, obstacle: str | None) -> OSError:
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
    return text in getattr(getattr(execute, "__code__", None), "co_consts", ())


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


class _Child:
    """A child that executes its program, or tries to."""

    def __init__(
        self, loop: Pipes, proc: "subprocess.Popen[bytes]", starting: Starting, start: _Start
    ) -> None:
        self._loop = loop
        self._proc = proc
        self._starting = starting
        self._start = start
        self._told: asyncio.Future[tuple[int | None, str | None]] = loop.create_future()
        self._ended: asyncio.Future[None] | None = None

    async def _executed(self) -> None:
        """Wait until it has, or raise what `subprocess` raises; given up, leave nothing behind."""
        try:
            self._loop._watch_start(self._starting, self._hear)
            errno, obstacle = await self._told
        except GeneratorExit:
            self._end_at_once()
            raise
        except BaseException:
            self._kill()
            await self._end()
            raise
        if errno is not None:
            # It is about to end, if it has not.
            with contextlib.suppress(ChildProcessError):
                _, status = os.waitpid(self._proc.pid, 0)  # noqa: ASYNC222
                self._proc.returncode = os.waitstatus_to_exitcode(status)
            self._close_files()
            raise self._start.failure(errno, obstacle)

    def _hear(self, errno: int | None, obstacle: str | None) -> None:
        """Learn whether it has executed its program; called natively."""
        if not self._told.done():
            self._told.set_result((errno, obstacle))

    def _kill(self) -> bool:
        """Tell whether it is gone, or about to be."""
        try:
            with contextlib.suppress(ProcessLookupError):
                self._proc.kill()
        except PermissionError:
            return False  # it runs under another user
        return True

    def _end_at_once(self) -> None:
        # Nobody may wait for anything here, and a child that is killed ends soon.
        if self._kill():
            self._proc.wait()
        self._close_files()

    async def _end(self) -> None:
        """Wait until the killed child is reaped, which happens also if nobody waits any more."""
        if self._proc.returncode is None:
            self._ended = self._loop.create_future()
            try:
                self._loop._watch_child(self._proc.pid, self._reaped)
            except (OSError, RuntimeError):
                # The kernel has no room for one more registration, or the loop is closed.
                self._reaped(self._proc.wait())
            try:
                await self._ended
            except GeneratorExit:
                self._end_at_once()
                raise
        else:
            self._close_files()

    def _reaped(self, code: int | None) -> None:
        """Note that the child was reaped; called natively."""
        if self._proc.returncode is None:
            self._proc.returncode = _UNKNOWN_EXIT_CODE if code is None else code
        self._close_files()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _close_files(self) -> None:
        for file in (self._proc.stdin, self._proc.stdout, self._proc.stderr):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
