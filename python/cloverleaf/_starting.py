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
from types import BuiltinFunctionType, FunctionType
from typing import Any

from ._cloverleaf import Program, Starting
from ._pipes import Pipes

# What `Popen.__init__` hands to `_execute_child`, on every Python that we know.
_PARAMETERS = (
    "self",
    "args",
    "executable",
    "preexec_fn",
    "close_fds",
    "pass_fds",
    "cwd",
    "env",
    "startupinfo",
    "creationflags",
    "shell",
    "p2cread",
    "p2cwrite",
    "c2pread",
    "c2pwrite",
    "errread",
    "errwrite",
    "restore_signals",
    "gid",
    "gids",
    "uid",
    "umask",
    "start_new_session",
    "process_group",
)
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
        and isinstance(execute, FunctionType)
        and execute.__globals__ is vars(subprocess)
        and execute.__code__.co_varnames[: execute.__code__.co_argcount] == _PARAMETERS
        and isinstance(vars(subprocess).get("_fork_exec"), BuiltinFunctionType)
        and isinstance(_posixsubprocess.fork_exec, BuiltinFunctionType)
        and isinstance(getattr(os, "posix_spawn", None), BuiltinFunctionType)
        and isinstance(spawn, FunctionType)
        and spawn.__globals__ is vars(subprocess)
        and Program.can_start()
    )


def _execute_child(
    loop: Pipes, children: "list[_Child]", proc: "subprocess.Popen[bytes]", *given: Any
) -> None:
    """Do what `Popen._execute_child` does, but for waiting."""
    wanted = dict(zip(_PARAMETERS[1:], given, strict=True))
    try:
        start = _Start(wanted)
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
    """A program, and what exceptions and audit events tell of it."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self._by_posix_spawn = False
        self._env = wanted["env"]
        self.cwd = wanted["cwd"]
        self._args, self.executable = _command(wanted)
        if _uses_posix_spawn(self.executable, wanted):
            self._by_posix_spawn = True
            if not os.fsencode(self._args[0]):
                raise ValueError("posix_spawn(3) wants a name")
            if self._env is None and not _SPAWN_READS_ENVIRON:
                self._env = os.environ
        self.program = Program(self._wish(wanted))
        self._audited_env = wanted["env"]

    def audit(self) -> None:
        """Tell of it whom `subprocess` tells."""
        sys.audit("subprocess.Popen", self.executable, self._args, self.cwd, self._audited_env)
        if self._by_posix_spawn:
            sys.audit("os.posix_spawn", os.fspath(self.executable), self._args, self._env)

    def _wish(self, wanted: dict[str, Any]) -> dict[str, Any]:
        executable = os.fsencode(self.executable)
        if os.path.dirname(executable):
            executables = [executable]
        else:
            folders = os.get_exec_path(self._env)
            executables = [os.path.join(os.fsencode(folder), executable) for folder in folders]
        groups = wanted["gids"]
        if groups is not None and len(groups) > _MOST_GROUPS:
            raise ValueError("too many groups")
        return {
            "arguments": [os.fsencode(argument) for argument in self._args],
            "executables": executables,
            "environment": _environment(self._env),
            "folder": None if self.cwd is None else os.fsencode(self.cwd),
            "stdio": [wanted["p2cread"], wanted["c2pwrite"], wanted["errwrite"]],
            "parents_ends": [wanted["p2cwrite"], wanted["c2pread"], wanted["errread"]],
            "kept": _kept(wanted["pass_fds"]),
            "closes_others": bool(wanted["close_fds"]),
            "restores_signals": bool(wanted["restore_signals"]),
            "new_session": bool(wanted["start_new_session"]),
            "process_group": wanted["process_group"],
            "groups": groups,
            "group": wanted["gid"],
            "user": wanted["uid"],
            "umask": wanted["umask"],
            "copies_memory": not getattr(subprocess, "_USE_VFORK", True),
        }

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


def _command(wanted: dict[str, Any]) -> tuple[list[Any], Any]:
    args, executable, shell = wanted["args"], wanted["executable"], wanted["shell"]
    if shell and hasattr(sys, "getandroidapilevel"):
        raise ValueError("the shell is elsewhere")
    args = [args] if isinstance(args, (str, bytes)) else [*args]
    if shell:
        args = ["/bin/sh", "-c", *args]
        if executable:
            args[0] = executable
    return args, args[0] if executable is None else executable


def _uses_posix_spawn(executable: Any, wanted: dict[str, Any]) -> bool:
    """Tell whether `subprocess` would, which has audit events and rules of its own."""
    closes = getattr(subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM", False)
    stdio = (wanted["p2cread"], wanted["c2pwrite"], wanted["errwrite"])
    return bool(
        getattr(subprocess, "_USE_POSIX_SPAWN", False)
        and os.path.dirname(executable)
        and (closes or not wanted["close_fds"])
        and not wanted["pass_fds"]
        and all(fd == -1 or fd > 2 for fd in stdio)
        and not wanted["start_new_session"]
        and wanted["process_group"] == -1
        and all(wanted[name] is None for name in ("cwd", "gid", "gids", "uid"))
        and wanted["umask"] < 0
    )


def _environment(env: Any) -> list[bytes] | None:
    if env is None:
        return None
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
        self._ended: asyncio.Future[None] = loop.create_future()

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
        if not self._ended.done():
            self._ended.set_result(None)

    def _close_files(self) -> None:
        for file in (self._proc.stdin, self._proc.stdout, self._proc.stderr):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
