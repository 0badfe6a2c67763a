"""What loops log, and what Python could not raise: a test must expect it, or it fails."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


class Complaints(logging.Handler):
    """Collects records of the ``asyncio`` logger and exceptions that nobody could catch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.unraisable: list[str] = []
        self._expected: list[str] = []
        self._hook = sys.unraisablehook
        self._level = logging.NOTSET

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)

    def take(self) -> list[str]:
        """Return the messages logged so far, which the test hereby expected, and forget them."""
        messages = [self.format(record) for record in self.records]
        self.records.clear()
        return messages

    def expect(self, words: str) -> None:
        """Take what has these words in it, however late it comes.

        Without the GIL an object may go when another thread runs Python again that has dropped it.
        """
        self._expected.append(words)

    def take_unraisable(self) -> list[str]:
        """Return what could not be raised so far, and forget it."""
        found, self.unraisable = self.unraisable, []
        return found

    def unexpected(self) -> list[str]:
        """Return what no test took: errors, and exceptions nobody could catch."""
        errors = [r for r in self.records if r.levelno >= logging.ERROR]
        texts = [self.format(record) for record in errors]
        texts = [text for text in texts if not any(words in text for words in self._expected)]
        return texts + self.unraisable

    def install(self) -> None:
        """Begin to listen."""
        logging.getLogger("asyncio").addHandler(self)
        sys.unraisablehook = self._on_unraisable

    def uninstall(self) -> None:
        """Listen no longer."""
        logging.getLogger("asyncio").removeHandler(self)
        sys.unraisablehook = self._hook

    def _on_unraisable(self, args: UnraisableHookArgs) -> None:
        self.unraisable.append(
            f"{args.err_msg or 'unraisable'} {args.object!r}: {args.exc_value!r}"
        )
