"""A wheel that was not compiled for a Python without the GIL is told from one that was."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from free_threaded import faults

GOOD = ("PyCriticalSection_Begin", "PyCriticalSection_End", "PyList_New")
MODULE = "cloverleaf/_cloverleaf.cpython-314t-x86_64-linux-gnu.so"


def make_wheel(
    folder: Path, module: str, names: tuple[str, ...], tag: str = "cp314-cp314t"
) -> Path:
    wheel = folder / f"cloverleaf-1.0-{tag}-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("cloverleaf/__init__.py", "")
        archive.writestr(module, b"\x7fELF\0" + b"\0".join(map(str.encode, names)) + b"\0")
    return wheel


def test_a_wheel_without_the_gil_has_no_faults(tmp_path: Path) -> None:
    assert faults(make_wheel(tmp_path, MODULE, GOOD), "3.14") == []


@pytest.mark.parametrize(
    ("module", "names", "tag", "fault"),
    [
        (MODULE, GOOD, "cp314-cp314", "not named for 3.14t"),
        (MODULE.replace("314t", "314"), GOOD, "cp314-cp314t", "one extension module for 3.14t"),
        (MODULE, GOOD[1:], "cp314-cp314t", "does not use PyCriticalSection_Begin"),
        (MODULE, (*GOOD, "_Py_Dealloc"), "cp314-cp314t", "uses _Py_Dealloc"),
    ],
)
def test_each_fault_is_found(
    tmp_path: Path, module: str, names: tuple[str, ...], tag: str, fault: str
) -> None:
    found = faults(make_wheel(tmp_path, module, names, tag), "3.14")
    assert any(fault in line for line in found), found
