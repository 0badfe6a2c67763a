"""What of `subprocess.Popen` is Python's own, so that its work may be done in another way.

A program, a debugger or a test may replace anything of it, and then expects that to be called.
"""

import _posixsubprocess
import os
import subprocess
import threading
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

# What is neither read from nor written to.
NONE = (-1,) * 6
# Around these, what `Popen.__init__` hands to `_execute_child` unless it is asked for more.
_BEFORE: tuple[Any, ...] = (None, None, True, ())
_BEHIND: tuple[Any, ...] = (True, None, None, None, -1)


def handed_over(
    command: Any,
    handles: tuple[int, ...],
    cwd: Any = None,
    env: Any = None,
    kind: tuple[bool, bool] = (False, False),
) -> tuple[Any, ...]:
    """Return all of that; `kind` tells of a shell and of a session of its own."""
    shell, new_session = kind
    return (command, *_BEFORE, cwd, env, None, 0, shell, *handles, *_BEHIND, new_session, -1)


def no_handles(stdin: None, stdout: None, stderr: None) -> tuple[int, ...]:
    """Return what `Popen._get_handles` does for a child that inherits all three."""
    return NONE


# `Popen`, and what of it and around it was found to be Python's own; last, the attributes that it
# gives to a child that is asked for little, if they are known.
_found: list[Any] = [None] * 14


def plain_attributes() -> dict[str, Any] | None:
    """Return the attributes of the `Popen` of a child that is asked for little, if known."""
    attributes: dict[str, Any] | None = _found[-1]
    return attributes if attributes is not None and is_as_found() else None


def is_as_found() -> bool:
    """Tell whether nothing was replaced since; asked before each child, so without a call."""
    module: Any = subprocess
    popen = module.Popen
    found, new, init, init_code, execute, code = _found[:6]
    spawn, get_handles, close_handles, get_devnull, wanted, itself, other = _found[6:13]
    try:
        return (
            popen is found
            and popen.__new__ is new
            and popen.__init__ is init
            and init.__code__ is init_code
            and popen._execute_child is execute
            and execute.__code__ is code
            and popen._posix_spawn is spawn
            and popen._get_handles is get_handles
            and popen._close_pipe_fds is close_handles
            and popen._get_devnull is get_devnull
            and module._fork_exec is wanted
            and _posixsubprocess.fork_exec is itself
            and os.posix_spawn is other
        )
    except AttributeError:
        return False


def is_own(ours: CodeType) -> bool:
    """Tell whether it is, after a closer look, and takes the same parameters as `ours`."""
    popen: Any = subprocess.Popen
    members: dict[str, Any] = getattr(popen, "__dict__", {})
    execute: Any = members.get("_execute_child")
    others = ("_posix_spawn", "_get_handles", "_close_pipe_fds", "_get_devnull")
    methods: list[Any] = [execute, *map(members.get, others)]
    functions = (
        vars(subprocess).get("_fork_exec"),
        _posixsubprocess.fork_exec,
        getattr(os, "posix_spawn", None),
    )
    is_own = (
        "__new__" not in members
        # and nothing that passes for one
        and all(type(method) is FunctionType for method in methods)
        and all(method.__globals__ is vars(subprocess) for method in methods)
        and all(type(function) is BuiltinFunctionType for function in functions)
        and _takes_parameters(execute.__code__, ours)
    )
    if is_own:
        init = popen.__init__
        is_plain = type(init) is FunctionType and init.__globals__ is vars(subprocess)
        codes = getattr(init, "__code__", None), execute.__code__
        attributes = _plain_attributes() if is_plain else None
        _found[:] = [
            *(popen, popen.__new__, init, codes[0], execute, codes[1]),
            *(*methods[1:], *functions, attributes),
        ]
    return is_own


def _plain_attributes() -> dict[str, Any] | None:
    """Return the attributes that every `Popen` of a child has that is asked for little.

    They are asked of `Popen.__init__`. None if they are not what we know.
    """
    attributes = _attributes_of({})
    # What else a plain child may be asked for must go where we know, and leave no trace.
    more = {"cwd": "/", "env": {}, "shell": True, "start_new_session": True}
    return attributes if attributes == _attributes_of(more) else None


def _attributes_of(more: dict[str, Any]) -> dict[str, Any] | None:
    proc = subprocess.Popen.__new__(subprocess.Popen)
    command = ("",)
    asked: list[tuple[Any, ...]] = []
    members: dict[str, Any] = vars(proc)
    members["_get_handles"] = no_handles
    members["_execute_child"] = lambda *given: asked.append(given)
    keywords: dict[str, Any] = {"universal_newlines": False, "shell": False, "bufsize": 0, **more}
    proc.__init__(command, **keywords)  # type: ignore[misc]
    del members["_get_handles"], members["_execute_child"]
    own = {"args": command, "_waitpid_lock": members.get("_waitpid_lock"), "pid": None}
    kind = keywords["shell"], more.get("start_new_session", False)
    is_known = (
        asked == [handed_over(command, NONE, more.get("cwd"), more.get("env"), kind)]
        and type(own["_waitpid_lock"]) is type(threading.Lock())
        and members.items() >= own.items()
        and all(type(members[name]) in _UNCHANGING for name in members.keys() - own.keys())
        and "_child_created" not in members
        and members.pop("_closed_child_pipe_fds", None) is False
    )
    return {**members, **dict.fromkeys(own), "_closed_child_pipe_fds": True} if is_known else None


_UNCHANGING = (type(None), bool, int, float, str)


def _takes_parameters(code: CodeType, ours: CodeType) -> bool:
    """Tell whether a function of this code takes what we know, under the names that we know."""
    return code.co_varnames[: code.co_argcount] == ours.co_varnames[: ours.co_argcount]
