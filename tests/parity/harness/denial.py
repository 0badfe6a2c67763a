"""For programs that run their `loop` while memory is denied."""

from __future__ import annotations

import os
import sys

import pytest

# What is denied memory in debug mode is CPython's own code as well, which then crashes: the frames
# of coroutines that tell where they were made, and of `traceback`, from which it finds no way out.
NOT_IN_DEV_MODE = pytest.mark.skipif(
    sys.flags.dev_mode or bool(os.environ.get("PYTHONASYNCIODEBUG")),
    reason="without memory CPython crashes in its own debug mode",
)

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
