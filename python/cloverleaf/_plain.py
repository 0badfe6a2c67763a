"""Starting a child that is asked for little, the common kind, without most of `Popen`'s code.

It may be asked for its command or a shell's, its files, its folder, its environment and a session
of its own, and each must be an object whose ways nobody has changed. Whatever else there is, and
whatever `subprocess` may refuse, makes the answer None: then nothing has happened, and `_starting`
does it as `Popen` does.
"""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from ._cloverleaf import Program, Starting
from ._popen import NONE, plain_attributes

# What `handed_over` takes, which can tell of a failure. The environment, which the program may
# change meanwhile, has no part in that.
_Handed = tuple[Any, tuple[int, ...], Any, None, tuple[bool, bool]]
# A child that starts, and that.
_Begun = tuple["subprocess.Popen[bytes]", Starting, _Handed]
# Makes of the latter what `subprocess` raises if there is no child at all.
_Refusal = Callable[[_Handed, OSError], OSError]

# What `subprocess_exec` and `subprocess_shell` always hand over, and what else there may be.
_ALWAYS = 6
_KNOWN = frozenset(
    {
        *("stdin", "stdout", "stderr", "universal_newlines", "shell", "bufsize"),
        *("cwd", "env", "start_new_session", "close_fds", "preexec_fn"),
    }
)
_LARGEST = 2**31 - 1
_NO_PLAIN_FILE = -4  # none of the above, nor a descriptor
_ENVIRON = type(os.environ)


def start_plain(command: Any, keywords: dict[str, Any], refusal: _Refusal) -> _Begun | None:
    """Start a child, if it is such a one; all keywords are `Popen`'s."""
    if (attributes := plain_attributes()) is None or type(keywords["bufsize"]) is not int:
        return None
    more = None
    if len(keywords) != _ALWAYS and (more := _more(keywords)) is None:
        return None
    cwd, env, new_session = more or _NO_MORE
    shell: bool = keywords["shell"]
    files = _numbers(keywords["stdin"], keywords["stdout"], keywords["stderr"])
    if files is None or (shell and hasattr(sys, "getandroidapilevel")):
        return None
    words = ("/bin/sh", "-c", command) if shell else command
    program = Program.plain(
        words,
        _search_path(words[0], env),
        not getattr(subprocess, "_USE_VFORK", True),
        more and (cwd, None if env is None else [*env.items()], new_session),
    )
    if program is None:
        return None
    module: Any = subprocess
    module._cleanup()
    members: dict[str, Any] = attributes.copy()
    members["_waitpid_lock"] = module.threading.Lock()
    members["args"] = command
    proc = subprocess.Popen.__new__(subprocess.Popen)
    proc.__dict__ = members
    handles, childs = (NONE, ()) if files is _NO_FILES else _handles(members, files)
    handed = command, handles, cwd, None, (shell, new_session)
    try:
        if files is not _NO_FILES:
            _open_files(members, handles, keywords["bufsize"])
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = handles
        try:
            starting = program.start((p2cread, c2pwrite, errwrite), (p2cwrite, c2pread, errread))
        except OSError as error:
            raise refusal(handed, error) from None
    except BaseException:
        _close_parents_ends(members, handles)
        raise
    finally:
        for fd in childs:
            os.close(fd)
    members["pid"] = starting.pid
    members["_child_created"] = True
    return proc, starting, handed


# The folder, the environment, and whether it leads a session of its own.
_More = tuple[Any, dict[Any, Any] | None, bool]
_NO_MORE: _More = (None, None, False)


def _more(keywords: dict[str, Any]) -> _More | None:
    """Return what a child is asked for by more keywords, if all of it is plain."""
    asked = keywords.get
    env, new_session = asked("env"), asked("start_new_session", False)
    is_plain = (
        _KNOWN.issuperset(keywords)
        and type(new_session) is bool
        and (env is None or type(env) is dict)
        and asked("close_fds", True) is True
        and asked("preexec_fn") is None
    )
    return (asked("cwd"), env, new_session) if is_plain else None


def _search_path(name: Any, env: Any) -> str | None:
    """Return where a program of this name is looked for, if it is and as `os` would.

    A path in `env` goes before it.
    """
    if type(name) is not str or "/" in name:
        return None
    if env is not None and type(env.get("PATH", "")) not in (str, bytes):
        return None  # which a name cannot be looked for in
    look_up: Any = os.get_exec_path
    is_own = type(look_up) is FunctionType and look_up.__globals__ is vars(os)
    if not is_own or type(os.environ) is not _ENVIRON:
        return None
    return os.environ.get("PATH", os.defpath) if env is None else os.defpath


# Of each of a child's files: nothing, `PIPE`, `DEVNULL` or `STDOUT`, or else its descriptor.
_Files = tuple[int | None, int | None, int | None]
_NO_FILES: _Files = (None, None, None)


def _numbers(stdin: Any, stdout: Any, stderr: Any) -> _Files | None:
    """Return them, if all of them are plain."""
    if stdin is stdout is stderr is None:
        return _NO_FILES
    files = [stdin, stdout, stderr]
    for at, file in enumerate(files):
        # The common ones first, without a call.
        if file is None or file is _PIPE or file is _DEVNULL:
            continue
        number = files[at] = file if type(file) is int else _fileno(file)
        if number == subprocess.STDOUT:
            # Of standard error only; and if standard output is inherited, it is what `sys` says.
            if at < 2 or stdout is None:
                return None
        elif not subprocess.DEVNULL <= number <= _LARGEST:
            return None
    return files[0], files[1], files[2]


_PIPE, _DEVNULL = subprocess.PIPE, subprocess.DEVNULL


def _fileno(file: Any) -> int:
    """Return the descriptor of a file as `open` makes them."""
    try:
        layer = file.buffer if type(file) is io.TextIOWrapper else file
        if type(layer) in _BUFFERED:
            layer = layer.raw
        return layer.fileno() if type(layer) is io.FileIO else _NO_PLAIN_FILE
    except (OSError, ValueError):  # closed, or detached
        return _NO_PLAIN_FILE


_BUFFERED = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)


def _handles(members: dict[str, Any], files: _Files) -> tuple[tuple[int, ...], list[int]]:
    """Return what `Popen._get_handles` does, and which of them were opened for the child."""
    handles: list[int] = []
    childs: list[int] = []
    parents: list[int] = []
    try:
        for number, file in enumerate(files):
            ours, its = -1, -1
            if file == subprocess.PIPE:
                ends = os.pipe()
                ours, its = ends if number else ends[::-1]
                parents.append(ours)
                childs.append(its)
            elif file == subprocess.DEVNULL:
                if "_devnull" not in members:
                    members["_devnull"] = os.open(os.devnull, os.O_RDWR)
                    childs.append(members["_devnull"])
                its = members["_devnull"]
            elif file == subprocess.STDOUT:
                its = handles[3]
            elif file is not None:
                its = file
            handles += (ours, its) if number else (its, ours)
    except BaseException:
        for fd in parents + childs:
            os.close(fd)
        raise
    return tuple(handles), childs


def _open_files(members: dict[str, Any], handles: tuple[int, ...], bufsize: int) -> None:
    """Open the parent's ends as `Popen.__init__` does."""
    for name, fd, mode in _parents_ends(handles):
        if fd != -1:
            members[name] = subprocess.io.open(fd, mode, bufsize)  # type: ignore[attr-defined]


def _close_parents_ends(members: dict[str, Any], handles: tuple[int, ...]) -> None:
    """Close them, whether or not they were opened."""
    for name, fd, _mode in _parents_ends(handles):
        if members[name] is not None:
            members[name].close()
        elif fd != -1:
            os.close(fd)


def _parents_ends(handles: tuple[int, ...]) -> tuple[tuple[str, int, str], ...]:
    return (("stdin", handles[1], "wb"), ("stdout", handles[2], "rb"), ("stderr", handles[4], "rb"))
