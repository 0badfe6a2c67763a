"""How a stream transport's methods take their arguments: by place or by name, and no other."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from collections.abc import Callable
from fractions import Fraction
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


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"high": 1000.0}, (250, 1000)),
        ({"low": 2.5}, (2, 10)),
        ({"high": 10, "low": 1.5}, (1, 10)),
        ({"high": Fraction(9, 2)}, (1, 4)),
        ({"high": True}, (0, 1)),
        ({"high": 1 << 80, "low": 5}, (5, sys.maxsize)),
        ({"high": math.inf, "low": 5}, (5, sys.maxsize)),
        ({"low": 1 << 80, "high": 5}, "high (5) must be >= low (1208925819614629174706176)"),
        ({"high": math.nan}, "high (nan) must be >= low (nan) must be >= 0"),
        ({"high": math.inf}, "high (inf) must be >= low (nan) must be >= 0"),
        ({"high": -1.0}, "high (-1.0) must be >= low (-1.0) must be >= 0"),
        ({"high": "9"}, "unsupported operand type(s) for //: 'str' and 'int'"),
        ({"high": 9, "low": b"1"}, "'>=' not supported between instances of 'int' and 'bytes'"),
    ],
)
@pytest.mark.parametrize("sort", ["stream", "datagram"])
async def test_limits_may_be_any_numbers(
    loop: Loop, sort: str, limits: dict[str, Any], expected: Any
) -> None:
    transport: Any
    async with linked(loop, Recorder) as (protocol, _):
        transport = protocol.transport
        if sort == "datagram":
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
        if isinstance(expected, str):
            with pytest.raises((TypeError, ValueError), match=re.escape(expected)):
                transport.set_write_buffer_limits(**limits)
        else:
            transport.set_write_buffer_limits(**limits)
            low, high = transport.get_write_buffer_limits()
            # asyncio gives back what it was given; ours count whole bytes.
            assert (int(low), int(min(high, sys.maxsize))) == expected
        transport.close()
