"""For programs that run their `loop` while memory is denied."""

from __future__ import annotations

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
