"""For programs that run their `loop` while memory is denied."""

from __future__ import annotations

import os
import sys

import pytest

# In debug mode a handle and a future are made with the stack of who makes them, by Python's own
# `traceback`. Denied memory there, CPython 3.13.0 crashes, and on 3.14 the tests do not end.
NOT_IN_DEV_MODE = pytest.mark.skipif(
    sys.flags.dev_mode or bool(os.environ.get("PYTHONASYNCIODEBUG")),
    reason="in debug mode Python's own `traceback` is denied memory as well",
)

# For a program of its own, which would be in debug mode as the tests are: Python takes an empty
# variable for none.
WITHOUT_DEBUG = {"PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": ""}

RUN_DENIED = """
import _testcapi
from cloverleaf._cloverleaf import Loop as native

def run(*denied):
    # A short function: where there is no memory, CPython does not find the way out of a long one.
    _testcapi.set_nomemory(*denied)
    try:
        native._run(loop)
    except MemoryError:
        pass
    finally:
        _testcapi.remove_mem_hooks()
"""
