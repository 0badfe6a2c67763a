"""What asyncio's loop has and this release does not: refused in clear words, never half done."""

from typing import Any, NoReturn

from ._base import LoopBase


class Missing(LoopBase):
    """Methods of a later release."""

    async def sendfile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not in this release."""
        _refuse("sendfile")

    async def sock_sendfile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not in this release."""
        _refuse("sock_sendfile")


def _refuse(method: str) -> NoReturn:
    raise NotImplementedError(f"{method}() is not supported in this release of cloverleaf")
