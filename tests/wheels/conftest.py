"""A clean virtual environment, outside the tree, with nothing in it but the wheel under test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wheel() -> Path:
    """Return the wheel that `CLOVERLEAF_WHEEL` names; `bash tools/test.sh python` sets it."""
    named = os.environ.get("CLOVERLEAF_WHEEL")
    if not named:
        raise pytest.UsageError("CLOVERLEAF_WHEEL must name a wheel for this Python")
    return Path(named).resolve(strict=True)


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of the clean environment."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    interpreter = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(interpreter)]
    subprocess.run([*pip, "install", "--no-index", str(wheel)], check=True)
    return interpreter
