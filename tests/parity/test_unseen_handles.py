"""Tasks and futures call back by ``call_soon``; nobody can tell whether they got a handle."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import gc
import sys
from functools import partial
from typing import Any

import pytest

from .harness.turns import turn, turns_until
from .harness.types import Loop


def names_of_asyncio(loop: Loop) -> tuple[str, ...]:
    """Return the tuple of names with which asyncio's C code hands a context over."""
    # The module shows the collector its freed iterators, too, which must not be touched. It has
    # none while so many are in use.
    in_use = [iter(loop.create_future()) for _ in range(300)]
    held = gc.get_referents(sys.modules["_asyncio"])
    names = next(each for each in held if type(each) is tuple and each == ("context",))
    del held, in_use
    return names


def call_by_c(function: Any, argument: Any, context: Any, names: object) -> object:
    """Call a function as C code does: one argument by place, and one by a name in `names`."""
    call = ctypes.pythonapi.PyObject_Vectorcall
    call.restype = ctypes.py_object
    call.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_size_t, ctypes.py_object]
    values = (ctypes.py_object * 2)(argument, context)
    result: object = call(function, ctypes.cast(values, ctypes.c_void_p), 1, names)
    return result


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the tuple cannot be found from outside")
@pytest.mark.only("cloverleaf")
def test_only_asyncio_gets_no_handle(loop: Loop) -> None:
    ran: list[int] = []
    names = names_of_asyncio(loop)
    unseen = call_by_c(loop.call_soon, partial(ran.append, 1), contextvars.copy_context(), names)
    equal = ("context",)
    seen = call_by_c(loop.call_soon, partial(ran.append, 2), contextvars.copy_context(), equal)
    assert unseen is None
    assert isinstance(seen, asyncio.Handle)
    turn(loop)
    assert ran == [1, 2]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the tuple cannot be found from outside")
def test_in_debug_mode_everybody_gets_a_handle(loop: Loop) -> None:
    loop.set_debug(True)
    handle = call_by_c(loop.call_soon, int, contextvars.copy_context(), names_of_asyncio(loop))
    assert isinstance(handle, asyncio.Handle)
    turn(loop)


def test_callbacks_of_futures_keep_their_place(loop: Loop) -> None:
    order: list[str] = []
    future = loop.create_future()
    future.add_done_callback(lambda _: order.append("future"))

    async def work() -> None:
        order.append("task")

    loop.call_soon(order.append, "before")
    future.set_result(None)
    task = loop.create_task(work())
    loop.call_soon(order.append, "after")
    turns_until(loop, task.done)
    assert order == ["before", "future", "task", "after"]


def test_a_callback_of_a_future_that_fails_is_reported_with_a_handle(loop: Loop) -> None:
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    def fail(future: asyncio.Future[None]) -> None:
        raise LookupError("of the callback")

    future = loop.create_future()
    future.add_done_callback(fail)
    future.set_result(None)
    turn(loop)
    (context,) = told
    assert sorted(context) == ["exception", "handle", "message"]
    assert context["message"].startswith("Exception in callback ")
    assert "fail" in context["message"]
    assert isinstance(context["exception"], LookupError)
    assert isinstance(context["handle"], asyncio.Handle)


def test_a_call_soon_in_place_of_the_loop_s_gets_handles(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles: list[asyncio.Handle] = []
    original = loop.call_soon

    def call_soon(*args: Any, **kwargs: Any) -> asyncio.Handle:
        handles.append(original(*args, **kwargs))
        return handles[-1]

    monkeypatch.setattr(loop, "call_soon", call_soon)

    async def work() -> int:
        await asyncio.sleep(0)
        return 1

    assert loop.run_until_complete(work()) == 1
    assert len(handles) >= 3  # two steps, and the end
    assert all(isinstance(handle, asyncio.Handle) for handle in handles)


def test_a_partial_in_place_of_call_soon_serves_tasks(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "call_soon", partial(loop.call_soon))

    async def work() -> int:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 2)
        return int(await future)

    assert loop.run_until_complete(work()) == 2


def test_a_closed_loop_refuses_callbacks_of_futures(loop: Loop) -> None:
    future = loop.create_future()
    future.add_done_callback(bool)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(None)


def test_no_context_of_a_future_is_that_of_its_end(loop: Loop) -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    seen: list[str] = []
    future = loop.create_future()
    # None is no context, and the future hands it on as it is.
    future.add_done_callback(lambda _: seen.append(variable.get()), context=None)

    def end() -> None:
        variable.set("end")
        future.set_result(None)
        variable.set("later")

    loop.call_soon(end)
    turns_until(loop, lambda: bool(seen))
    assert seen == ["end"]
