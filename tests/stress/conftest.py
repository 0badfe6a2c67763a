"""Gives the tests of this folder the same fixtures and guards as the parity suite."""

from parity.harness.plugin import *  # noqa: F403
