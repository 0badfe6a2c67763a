"""Files that are open when the interpreter ends: they are written, as all that are left open.

Python drops what a program has before it empties the modules, on which a file of ours relies when
it is dropped. A Python that can do without the GIL drops the main module after that, once a thread
was ever started. So there the open ones are known, and end before: behind all that the program has
registered with `atexit` since it has imported the package, which imports this for that.
"""

import atexit
import sys
import weakref
from typing import Any

#: Whether open files are to be known.
ENDS_EARLY = "t" in sys.abiflags

_open: dict[int, weakref.ref[Any]] = {}


def note_open(file: Any) -> None:
    """Know a file until it goes."""
    key, forget = id(file), _open.pop

    def gone(_: object) -> None:
        forget(key, None)

    _open[key] = weakref.ref(file, gone)


def _end_all() -> None:
    if not _open:
        return
    from ._file_flight import Last  # there since the first was opened

    for reference in list(_open.values()):
        if (file := reference()) is not None:
            file._raw.is_last = True
            # One that fails keeps no other from its end.
            Last(file.__del__)


if ENDS_EARLY:
    atexit.register(_end_all)
