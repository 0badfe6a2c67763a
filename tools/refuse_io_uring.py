"""Runs a command where io_uring is refused, as container runtimes refuse it by default.

    python tools/refuse_io_uring.py COMMAND [ARGUMENT ...]

A seccomp filter fails io_uring_setup, io_uring_enter and io_uring_register with EPERM, for the
command and for every process that it starts. No privilege is needed.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

FIRST, LAST = 425, 427  # the three calls have these numbers on every machine

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

LOAD, IF_AT_LEAST, IF_GREATER, RETURN = 0x20, 0x35, 0x25, 0x06
ALLOW, FAIL_WITH_EPERM = 0x7FFF0000, 0x00050001


def refuse_io_uring() -> None:
    """Refuse io_uring to this process and its future children."""
    rules = [
        (LOAD, 0, 0, 0),  # the number of the call
        (IF_AT_LEAST, 0, 2, FIRST),
        (IF_GREATER, 1, 0, LAST),
        (RETURN, 0, 0, FAIL_WITH_EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in [
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program),
    ]:
        if libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    refuse_io_uring()
    os.execvp(sys.argv[1], sys.argv[1:])
