"""Gives the tests of this folder the loops under test, a deadline each, and a leak count."""

from .harness.plugin import *  # noqa: F403
