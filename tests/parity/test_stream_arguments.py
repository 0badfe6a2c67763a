"""How a stream transport's methods take their arguments: by place or by name, and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .harness.links import linked
from .harness.protocols import Recorder
from .harness.types import Loop

_REFUSED: dict[str, Callable[[Any], object]] = {
    "extra_info_of_nothing": lambda transport: transport.get_extra_info(),
    "extra_info_with_a_third": lambda transport: transport.get_extra_info("x", 1, 2),
    "extra_info_twice": lambda transport: transport.get_extra_info("x", name="y"),
    "extra_info_two_defaults": lambda transport: transport.get_extra_info("x", 1, default=2),
    "extra_info_of_another_name": lambda transport: transport.get_extra_info("x", other=1),
    "limits_with_a_third": lambda transport: transport.set_write_buffer_limits(9, 1, 1),
    "limits_high_twice": lambda transport: transport.set_write_buffer_limits(9, high=9),
    "limits_of_another_name": lambda transport: transport.set_write_buffer_limits(middle=5),
    "write_of_nothing": lambda transport: transport.write(),
    "write_twice": lambda transport: transport.write(b"x", data=b"y"),
    "write_of_two": lambda transport: transport.write(b"x", b"y"),
    "set_protocol_of_another_name": lambda transport: transport.set_protocol(other=None),
}


@pytest.mark.parametrize("what", _REFUSED)
async def test_an_argument_too_few_or_too_many_is_a_type_error(loop: Loop, what: str) -> None:
    async with linked(loop, Recorder) as (ours, _):
        limits = ours.transport.get_write_buffer_limits()
        with pytest.raises(TypeError):
            _REFUSED[what](ours.transport)
        assert ours.transport.get_write_buffer_limits() == limits
        assert ours.transport.get_protocol() is ours


async def test_arguments_may_come_by_name(loop: Loop) -> None:
    async with linked(loop, Recorder) as (ours, _):
        assert ours.transport.get_extra_info(default=5, name="nothing of the kind") == 5
        ours.transport.set_write_buffer_limits(low=1, high=2)
        assert ours.transport.get_write_buffer_limits() == (1, 2)
        ours.transport.set_write_buffer_limits(4, low=3)
        assert ours.transport.get_write_buffer_limits() == (3, 4)
