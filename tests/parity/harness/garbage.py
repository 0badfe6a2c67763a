"""Keeps the collections that end every test fast, however many tests went before.

A full collection goes through all that is alive, and pytest keeps something of every test: by the
thousandth, collecting takes longer than the test. What is alive between two tests is therefore set
aside, where no later collection looks. What a test leaves is collected, and counted, before that.
"""

from __future__ import annotations

import gc
import itertools

TESTS_BETWEEN = 20
_TESTS = itertools.count()


def set_aside() -> None:
    """Let later collections pass over what is alive now."""
    gc.collect()
    gc.freeze()


def set_aside_now_and_then() -> None:
    """Do so every few tests. Call it before a test makes anything."""
    if next(_TESTS) % TESTS_BETWEEN == 0:
        set_aside()
