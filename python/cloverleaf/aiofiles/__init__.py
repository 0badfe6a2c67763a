"""What the package `aiofiles` offers, on Cloverleaf's files: `from cloverleaf import aiofiles`.

`open` gives Cloverleaf's own files, which have all that those of aiofiles have. The rest is there
under the same names: `aiofiles.os`, `aiofiles.tempfile`, `aiofiles.threadpool.wrap` and the
standard streams.
"""

from cloverleaf.aiofiles import os, tempfile, threadpool
from cloverleaf.aiofiles.threadpool import (
    open,  # noqa: A004  # it is ours
    stderr,
    stderr_bytes,
    stdin,
    stdin_bytes,
    stdout,
    stdout_bytes,
)

__all__ = [
    "open",
    "os",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "tempfile",
    "threadpool",
]
