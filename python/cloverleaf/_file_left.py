"""`Left`: the end of a file that nobody has any more: it is written and closed."""

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from . import _cloverleaf
from ._file_flight import LOOK_SECONDS, Flight, perform
from ._file_held import Held, Waits, write_first


class Left(Flight):
    """A file that may be left by everybody while something is under way."""

    native: _cloverleaf.FileBase
    held: deque[Held]
    may_ask: bool
    blocks: bool
    discards: bool
    is_answered: bool
    _answer: int | None
    passed: int
    _answers_truncate: bool
    _asked: object
    is_apart: bool
    is_seekable: bool
    position: int
    reads_block: bool
    _own: int
    number: int
    _appends: bool

    def __init__(self) -> None:
        super().__init__()
        #: Others may have the descriptor as well, and go on where it stands.
        self.is_shared = False
        #: Where that is, if the file has moved it; -1 if that must not be relied on.
        self._stands = -1
        #: The stack that nobody has any more, and that is to be closed.
        self._left: Any = None
        #: Where the descriptor belongs until the stack goes back from a read that was given up.
        self.left_at: int | None = None
        #: The same, while a thread still reads for somebody who gave up.
        self._given_up_at: int | None = None
        #: The same of a read that a thread is at and nobody has given up.
        self.begun_at: int | None = None
        #: How much is being written where the descriptor stands.
        self._unplaced = 0
        #: Tells whether a thread has ended that still writes there for a closed loop.
        self._goes_on: Callable[[], bool] | None = None

    def _check_open(self) -> None:
        raise NotImplementedError

    @property
    def is_placed(self) -> bool:
        """Whether what has moved the descriptor for the file has moved the file's position, too.

        A thread that uses the file's stack moves both.
        """
        thread = self._thread
        is_free = self._flight is None or (thread is not None and thread.is_here)
        return is_free and (self._answers_truncate or not self.is_answered)

    def hand_over(self) -> None:
        """Have the descriptor stand where the file does, unless that is not decided yet."""
        place = self.position if self.left_at is None else self.left_at
        if self.is_seekable and place != self._stands and self.is_placed:
            with contextlib.suppress(OSError):  # closing tells of one that is not open any more
                self._stands = os.lseek(self._own, place, os.SEEK_SET)

    def note_given_up(self, stood: int) -> None:
        """Have the descriptor stand there again: nobody gets what a thread reads, or has read.

        A thread that still reads moves it until it ends, whatever comes of that.
        """
        if self.native._fileno() == -1:
            return  # the number may be another file's by now
        if self._flight is not None:
            self._given_up_at = stood
            return
        self._given_up_at, self.left_at = None, stood
        if self.is_shared:
            self._stands = -1
            self.hand_over()

    def descriptor(self) -> int:
        """Return the descriptor, which stands where this file does from now on."""
        self._check_open()
        if not self.is_shared:
            self._stands = -1  # whoever had its number may have moved it
        self.hand_over()
        return self.number

    def _move_on(self, offset: int) -> int | None:
        """Move from where the descriptor stands; None if only the file knows where it is.

        Others may move it just now, so that is one call of the system.
        """
        if not (self.is_shared and self.is_placed):
            return None
        self.hand_over()
        return os.lseek(self._own, offset, os.SEEK_CUR)

    def _follow(self) -> int:
        """Where the file stands: where others have moved the descriptor, or else where it went."""
        if self.is_shared and self.is_seekable and self.is_placed:
            if self.position == self._stands:
                self.position = self._stands = os.lseek(self._own, 0, os.SEEK_CUR)
            else:
                self.hand_over()
        return self.position

    @property
    def _place(self) -> int | None:
        """Where the next read begins; None if that is where a descriptor stands that others have.

        Such a read moves it in the same call of the system, as one of `open`'s file does: what
        others write there meanwhile comes behind what it takes, and is not written over.
        """
        if not self.is_shared:
            return self.position
        position = self._follow()
        moves = self.is_seekable and self.is_placed and position == self._stands
        return None if moves else position

    def _read_on(self, count: int, place: int | None) -> None:
        """Note that so much was read there."""
        if place is None:
            self.position = self._stands = os.lseek(self._own, 0, os.SEEK_CUR)
        else:
            self.position += count

    async def _fetch_along(self, request: _cloverleaf.Request) -> Any:
        """Wait for what is read where the descriptor stands, which that moves; back if given up."""
        is_awaited = True

        def land(data: bytes) -> None:
            if is_awaited:
                self._stands = os.lseek(self._own, 0, os.SEEK_CUR)
                self.position = self._stands - len(data)
            else:
                self._stands = -1  # nobody gets it
                self.hand_over()

        try:
            return await self.carry_out(request, land, changes=True)
        except BaseException:
            # Others may have moved it to where there is less before it than was read.
            self.position = max(self.position, 0)
            raise
        finally:
            is_awaited = False

    @property
    def _offset(self) -> int | None:
        """Where the next write goes; None if that is where the descriptor stands."""
        if not self.is_seekable or self._appends:
            return None
        if self.is_shared:
            self.hand_over()
            return None
        return self.position

    def _write_now(self, data: memoryview) -> int | None:
        try:
            if self._offset is None:
                self.wait_for_left()
                return os.write(self._own, data)
            return self._write_at(data, self.position)
        except BlockingIOError:
            return None

    def _write_at(self, data: memoryview, offset: int) -> int:
        try:
            return os.pwrite(self._own, data, offset)
        except OSError as error:
            if error.errno != errno.ESPIPE:
                raise
            # It takes what is written only where it stands, as most files in /proc.
            os.lseek(self._own, offset, os.SEEK_SET)
            return os.write(self._own, data)

    def _forget_flight(self) -> None:
        if self._flight_process != os.getpid():
            self._given_up_at = None  # the parent sees to it
        super()._forget_flight()
        if self._given_up_at is not None:
            self.note_given_up(self._given_up_at)
        if self._unplaced:
            # It may be written or not, and must not be written twice.
            self._note_answer(self._unplaced)

    def _note_answer(self, answer: int | None) -> None:
        self._answer = answer
        self.is_answered = True
        self._unplaced = 0

    def forget_answer(self, flush: Callable[[], object]) -> None:
        """Have the buffer hear of a write that somebody has begun who gave up."""
        if self._answers_truncate:
            self.is_answered = False
            return
        is_blocking, self.blocks = self.blocks, False
        try:
            flush()
        except Waits:
            self._asked = None  # what else it has can wait
        finally:
            self.blocks = is_blocking

    def drop_held(self) -> bool:
        """Drop the rest of a call that has failed, unless somebody has but given it up so."""
        if self._flight is None:
            self.held.clear()
        return self._flight is None

    def abandon(self, stack: Any) -> None:
        """Close the stack and the descriptor, now: nobody is left who could wait.

        What is under way is waited for, unless nobody will hear of its end.
        """
        if self._left is not None:
            return
        self._left = stack
        if self.is_parents:
            self._close_below()
            return
        if self._flight is not None and self._is_flight_lost():
            is_ours = self._flight_process == os.getpid()
            if self._given_up_at is None:
                self._given_up_at = self.begun_at  # who awaits it may be collected later
            if is_ours and self._thread is not None and self._thread.then(self._close_lost):
                return  # to close what a thread uses would wait for it
            # What is known of it is landed.
            if is_ours and self._has_ended is not None and not self._has_ended():
                self._goes_on = self._has_ended if self._unplaced else None
            self._forget_flight()
        if self._flight is None:
            self._close_left()

    def wait_for_left(self) -> None:
        """Wait until what is written where the descriptor stands comes behind all that was."""
        if self._goes_on is None:
            return
        while not self._goes_on():
            # There is nobody left who could wait otherwise, as there is not for `open`'s.
            time.sleep(LOOK_SECONDS)
        self._goes_on, self.is_answered = None, False

    def _has_written(self, request: _cloverleaf.Request, land: Callable[[Any], object]) -> bool:
        if request.is_under_way():
            return False
        self._unplaced = 0
        if (left := request.take_left()) is not None:
            land(left)
        return True

    def _note_landed(self) -> None:
        self._unplaced = 0
        if self._given_up_at is not None:
            self.note_given_up(self._given_up_at)
        if self._left is not None:
            self._close_left()

    def _close_lost(self) -> None:
        self._forget_flight()
        self._close_left()

    def _close_left(self) -> None:
        try:
            try:
                self.write_held_now(getattr(self._left, "buffer", self._left))
            except BaseException:
                # What has failed goes with its buffer.
                self.discards = True
                raise
            finally:
                # Whatever comes of that: nothing may be written to the descriptor's number later.
                self.blocks = True
                self._left.close()
        finally:
            if self.is_shared:
                self.hand_over()
            self._close_native()

    def _close_below(self) -> None:
        """Close the descriptor, and leave the stack alone, which asks whether that is closed."""
        raw: Any = self
        raw.close()
        self._close_native()

    def _close_native(self) -> None:
        if self.may_ask:
            with contextlib.suppress(RuntimeError):  # no loop runs, so none waits either
                perform(self.native._closing())
        self.native._close()

    def write_held_now(self, buffer: Any) -> None:
        """Hand what is held to the buffer, and what that passes on to the system, now."""
        before, self.blocks = self.blocks, True
        try:
            if self.is_answered and not self.held:
                self.forget_answer(buffer.flush)
            while self.held:
                self.passed = 0
                write_first(self.held[0], buffer)
                self.held.popleft()
        finally:
            self.held.clear()
            self.blocks = before
