"""`Closing`: how a file is closed: in its turn, with all written that it was given."""

import asyncio
import functools
import os
import warnings
from typing import Any

from . import _cloverleaf
from ._file_flight import perform
from ._file_raw import RawFile
from ._file_turns import Turn, Turns


def mode_below(raw: RawFile) -> str:
    """Return the mode in which Python's own takes the descriptor as it is."""
    is_both = raw._access == os.O_RDWR
    if raw._is_added_to:
        return "ab+" if is_both else "ab"
    return "r+b" if is_both else "rb" if raw._access == os.O_RDONLY else "wb"


class Closing(_cloverleaf.FileBase):
    """A file that ends."""

    __slots__ = ("_file", "_finish", "_is_closing", "_raw", "_turns", "_writes_last")

    #: Python's own file on ours.
    _file: Any
    _raw: RawFile
    _turns: Turns
    _finish: asyncio.Task[None] | None
    #: What is left is being written, and then it is closed.
    _is_closing: bool
    #: Whoever closes it is at that, so what is under way is no other's.
    _writes_last: bool

    async def close(self) -> None:
        """Write what is buffered and close the file; more than once is fine.

        It is closed also if this is cancelled, or cannot write: the error is raised.
        """
        if not self._is_finishing():
            is_again = False
            if self._finish is not None and not self._finish.done():
                is_again = self._writes_last
                self._turns.give_up(self._finish)
            if self._file.closed:
                return
            if self._raw.is_parents:
                self._raw.close()
                await perform(self._closing())
                return
            is_free = not self._turns.busy and self._raw.is_settled
            if is_free and not (self._raw._access or self._raw.may_ask):
                # Nothing was written, so nothing is waited for.
                self._file.close()
                self._close()
                return
            self._is_closing = is_free
            # Both the place in the line and the closing stay if the caller gives up.
            use = functools.partial(self._finish_in_turn, is_again=is_again)
            self._finish = self._turns.take(use)
        if self._finish is not None and not self._finish.done():
            await asyncio.tasks.shield(self._finish)

    def __del__(self) -> None:
        stack = getattr(self, "_file", None)
        if stack is None or self._fileno() == -1:
            return
        try:
            if self._raw.number == self._raw._own:  # it closes what the program knows
                warnings.warn(f"unclosed file {self!r}", ResourceWarning, stacklevel=2, source=self)
        finally:
            # The warning may be an error, which Python tells.
            self._raw.abandon(stack)

    # -- parts ---------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait for what was given up before, and go on with what is left of it."""
        raise NotImplementedError

    async def _flush(self) -> None:
        """Give everything that is buffered to the system, in a turn that was taken before."""
        raise NotImplementedError

    def _is_finishing(self) -> bool:
        """Whether somebody has begun to close the file, and did not fail before it was closed."""
        finish = self._finish
        if finish is None:
            return False
        is_lost = not finish.done() and finish.get_loop().is_closed()
        return not is_lost and (not finish.done() or bool(self._file.closed))

    async def _finish_in_turn(self, turn: Turn, *, is_again: bool) -> None:
        lost: Exception | None = None
        try:
            self._is_closing = False
            try:
                await self._raw.land()
            except RuntimeError as closed:
                if self._raw._flight is not None:
                    raise  # of a loop that goes on
                # What was lost of a close before is made again, and so is what fails of it.
                lost = None if is_again else closed
            if self._file.closed:
                return
            self._is_closing = True
            error = await self._write_last() or lost
            if self._raw.is_shared:
                self._raw.hand_over()
            # What has failed goes with its buffer.
            self._raw.discards = True
            self._file.close()
        finally:
            self._turns.leave(turn)
        await perform(self._closing())
        if error is not None:
            raise error

    async def _write_last(self) -> Exception | None:
        """Write all there is, before the file is closed; return what went wrong."""
        found = None
        self._writes_last = True
        try:
            for step in (self._settle, self._flush_last):
                try:
                    await step()
                except Exception as error:
                    found = error
        except BaseException:
            if not self._turns.is_taken_over:
                # The loop ends. What is under way comes to its end, and then the rest.
                self._raw.abandon(self._file)
            raise
        finally:
            self._writes_last = False
        return found

    async def _flush_last(self) -> None:
        await self._flush()
