"""What is imported when it is first used: modules of ours, and methods of the loop in them.

Most programs need few of the loop's methods, and the import of a module costs more than most do in
it. A part of the loop that comes later is a class of a module of its own, and its methods are in
the loop's class from the beginning as `Later`. Whoever first asks for one, of a loop or of a class,
has the part imported, and then the methods lie in the loop's class as if they had been defined
there. What a program has put in the place of one meanwhile stays.

All of it is imported under one lock, which a fork waits for. Else a child could inherit the lock of
a module that another thread was importing, and wait for that thread, which it has not got.

What a program puts in the place of a function of the standard library must be called, and a module
that comes later must not take it for the library's own. So what was there is remembered here.
Even that may be a program's already, where a test brings this package in and has forbidden sockets
before.
"""

import _socket
import os
import socket
import threading
from collections.abc import Iterable
from importlib import import_module
from typing import Any


def _library_socket() -> type[socket.socket]:
    """Return the class that the library calls `socket.socket`, the last if it was reloaded."""
    found: type[socket.socket] = socket.socket
    for cls in _socket.socket.__subclasses__():
        if cls.__module__ == cls.__qualname__ == "socket":
            found = cls  # type: ignore[assignment]
    return found


SOCKET = _library_socket()
# None if it is not the library's: then nothing is.
GETADDRINFO = (
    socket.getaddrinfo if getattr(socket.getaddrinfo, "__globals__", None) is vars(socket) else None
)
# What asyncio's transports call of a socket.
SOCKET_METHODS = {name: getattr(SOCKET, name) for name in ("recv", "recv_into", "send", "sendmsg")}

_importing = threading.RLock()
os.register_at_fork(
    before=_importing.acquire,
    after_in_parent=_importing.release,
    after_in_child=_importing.release,
)


def imported(name: str) -> Any:
    """Import a module of this package."""
    with _importing:
        return import_module(f"{__package__}.{name}")


class Part:
    """A class whose methods become the loop's when one of them is first asked for.

    It may derive from other such parts, whose methods then become the loop's too, and from what the
    loop's class derives from. `super()` is not for it, since the loop is none of its instances.
    """

    __slots__ = ("_loop", "_members", "_module", "_name")

    def __init__(self, loop: type, module: str, name: str, methods: Iterable[str]) -> None:
        """Let `methods`, all public ones of the class `name`, be methods of `loop`."""
        self._loop = loop
        self._module = module
        self._name = name
        self._members: dict[str, Any] | None = None
        for method in methods:
            setattr(loop, method, Later(self, method))

    def members(self) -> dict[str, Any]:
        """Return what the class and its bases define, and see to it that the loop has it."""
        members = self._members
        if members is None:
            with _importing:
                members = self._members = self._put_in_place()
        return members

    def _put_in_place(self) -> dict[str, Any]:
        loop = self._loop
        members: dict[str, Any] = {}
        for base in reversed(getattr(imported(self._module), self._name).__mro__):
            if not issubclass(loop, base):
                members.update(vars(base))
        # Another thread may call a method as soon as it is there, so what it calls comes first.
        for kind in (type(None), Later):
            for name, member in members.items():
                if not name.startswith("__") and type(vars(loop).get(name)) is kind:
                    setattr(loop, name, member)
        return members


class Later:
    """A method of a part that may have to be imported."""

    __slots__ = ("_name", "_part")

    def __init__(self, part: Part, name: str) -> None:
        self._part = part
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Return the method itself, bound as if it had been here."""
        return self._part.members()[self._name].__get__(instance, owner)
