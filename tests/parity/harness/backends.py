"""Loops on the kernel interfaces that a test names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import cloverleaf


@contextmanager
def loop_on(backend: str) -> Iterator[cloverleaf.EventLoop]:
    """Give a loop with this backend."""
    try:
        loop = cloverleaf.new_event_loop(backend=backend)  # type: ignore[arg-type]
    except OSError as error:
        assert backend == "io_uring"
        pytest.skip(str(error))
    try:
        yield loop
    finally:
        loop.close()
