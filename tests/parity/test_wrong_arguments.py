"""What our own functions say of arguments that make no sense: what is wrong, and with which."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloverleaf
from cloverleaf import testing

from .harness.leaks import descriptors
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has none of these functions


def dump(file: Any) -> None:
    cloverleaf.dump_on_signal(signal.SIGUSR2, file=file)


def text(loop: Any, metrics: Any, prefix: Any = "") -> str:
    return cloverleaf.metrics.prometheus_text(metrics or loop.metrics(), prefix=prefix)


def make(**arguments: Any) -> object:
    return testing.EventLoop(**arguments)


def closed_descriptor() -> int:
    number = os.dup(0)
    os.close(number)
    return number


WRONG: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda loop: text(loop, "x"), TypeError, "metrics must be what loop.metrics() returns"),
    (lambda loop: text(loop, [loop.metrics()]), TypeError, "metrics must be"),
    (lambda loop: text(loop, {"x": None}), TypeError, "metrics['x'] must be"),
    (lambda loop: text(loop, {1: loop.metrics()}), TypeError, "the name of a loop must be str"),
    (lambda loop: text(loop, None, None), TypeError, "prefix must be str, not NoneType"),
    (lambda loop: text(loop, None, b"x"), TypeError, "prefix must be str, not bytes"),
    (lambda loop: loop.metrics().utilization(0.5), TypeError, "since must be"),
    (lambda _: dump("x"), TypeError, "file must be a file with a descriptor, or its number"),
    (lambda _: dump(1.5), TypeError, "file must be a file with a descriptor, or its number"),
    (lambda _: dump(closed_descriptor()), OSError, "Bad file descriptor"),
    (lambda _: dump(-1), OSError, "Bad file descriptor"),
    (lambda _: make(start="1"), TypeError, "start is a number of seconds, not str"),
    (lambda _: make(patience=None), TypeError, "patience is a number of seconds"),
    (lambda _: make(patience=10**400), OverflowError, "too large"),
    (lambda _: make(seed=1.5), TypeError, "seed is a whole number or None, not float"),
    (lambda _: make(seed="1"), TypeError, "seed is a whole number or None, not str"),
]


@pytest.mark.parametrize("at", range(len(WRONG)))
def test_a_wrong_argument_is_named_and_leaves_nothing(loop: Loop, at: int) -> None:
    call, kind, said = WRONG[at]
    handler = signal.getsignal(signal.SIGUSR2)
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kind) as raised:
            call(loop)
        assert said in str(raised.value)
        del raised
        gc.collect()
    assert descriptors() == before
    assert signal.getsignal(signal.SIGUSR2) is handler


def test_a_file_without_a_descriptor_gets_no_snapshots(tmp_path: Path) -> None:
    with (tmp_path / "closed").open("w") as file:
        pass
    with pytest.raises(ValueError, match="closed file"):
        dump(file)
