"""Tells whether a wheel was compiled for a Python without the GIL.

    python tools/free_threaded.py WHEEL VERSION

Such a build asks its interpreter for other functions than one with the GIL does: it enters critical
sections, and counts references by calls. The wheel's name alone says only what was wanted.
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

# What only a build without the GIL asks for, and what only one with the GIL does.
NEEDED = ("PyCriticalSection_Begin", "PyCriticalSection_End")
FORBIDDEN = ("_Py_Dealloc",)


def faults(wheel: Path, version: str) -> list[str]:
    """Return what is wrong with the wheel."""
    digits = version.replace(".", "")
    found = []
    if f"-cp{digits}-cp{digits}t-" not in wheel.name:
        found.append(f"{wheel.name} is not named for {version}t")
    with zipfile.ZipFile(wheel) as archive:
        modules = [name for name in archive.namelist() if name.endswith(".so")]
        if len(modules) != 1 or f".cpython-{digits}t-" not in modules[0]:
            return [*found, f"one extension module for {version}t is wanted: {modules}"]
        names = dynamic_names(archive.read(modules[0]))
    found += [f"does not use {name}" for name in NEEDED if name not in names]
    found += [f"uses {name}, as a build with the GIL does" for name in FORBIDDEN if name in names]
    return found


def dynamic_names(module: bytes) -> set[str]:
    """Return the names of Python's functions in the module's string tables, between zeros."""
    return {name.decode() for name in re.findall(rb"(?<=\0)(_?Py[A-Za-z0-9_]+)(?=\0)", module)}


def main() -> int:
    """Judge the wheel that the command line names."""
    wheel, version = Path(sys.argv[1]), sys.argv[2]
    found = faults(wheel, version)
    for fault in found:
        print(f"{wheel.name}: {fault}")
    if not found:
        print(f"{wheel.name}: compiled and linked for {version} without the GIL")
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
