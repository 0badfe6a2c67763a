"""Hosts: loops of somebody else's that run one of ours turn by turn, and the loops for them."""

from __future__ import annotations

import math
import select
from collections.abc import Callable, Iterator

import pytest

import cloverleaf


def readable(loop: cloverleaf.EventLoop) -> bool:
    """Tell whether the loop's descriptor can be read now."""
    poll = select.poll()
    poll.register(loop.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def host(loop: cloverleaf.EventLoop, is_over: Callable[[], bool]) -> None:
    """Run the loop from a loop of `select.poll`, which sleeps whenever it may, until it is over."""
    poll = select.poll()
    poll.register(loop.fileno(), select.POLLIN)
    while not is_over():
        deadline = loop.next_deadline()
        if deadline is None:
            poll.poll()
        else:
            poll.poll(max(0, math.ceil((deadline - loop.time()) * 1000)))
        loop.run_once()


@pytest.fixture(params=["auto", "epoll", "io_uring"])
def guest_loop(request: pytest.FixtureRequest, guard: None) -> Iterator[cloverleaf.EventLoop]:
    """Make a loop of ours for each backend that the kernel allows."""
    try:
        loop = cloverleaf.EventLoop(backend=request.param)
    except OSError:
        pytest.skip("the kernel refuses io_uring")
    try:
        yield loop
    finally:
        loop.close()


@pytest.fixture
def own_loop(guard: None) -> Iterator[cloverleaf.EventLoop]:
    """Make a loop of ours."""
    loop = cloverleaf.EventLoop()
    try:
        yield loop
    finally:
        loop.close()
