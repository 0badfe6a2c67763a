"""Loops with known faults, for selfcheck.py only."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")


class Fine(asyncio.SelectorEventLoop):
    """Has no fault."""


class Crashing(asyncio.SelectorEventLoop):
    """Takes the process down, as a native loop's memory fault would."""

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        os.abort()


class Hanging(asyncio.SelectorEventLoop):
    """Never comes back, as a lost wakeup or a deadlock would look."""

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        time.sleep(3600)  # noqa: ASYNC251 - the fault that this loop is for
        return 0


class Lossy(asyncio.SelectorEventLoop):
    """Loses what another thread hands it."""

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        return asyncio.Handle(callback, args, self, context)


class OnceWrong(asyncio.SelectorEventLoop):
    """Wrong the first time, right after that."""

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        try:
            os.mkdir(os.environ["SELFCHECK_MARK"])
        except FileExistsError:
            return await super().sock_accept(sock)
        raise OSError("just this once")


class Wrapper(asyncio.AbstractEventLoop):  # a proxy: every method is the inner loop's
    """Not a loop of its own: the stdlib's runs inside."""

    def __init__(self) -> None:
        self.__dict__["inner"] = asyncio.unix_events._UnixSelectorEventLoop()

    def __getattribute__(self, name: str) -> Any:
        if name in ("inner", "__class__", "__dict__"):
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "inner"), name)
