"""The examples of docs/testing.md do what it says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def examples(mark: str) -> list[str]:
    found = [example for example in EXAMPLES if mark in example]
    assert found, mark
    return found


@pytest.mark.parametrize(
    "example",
    [
        example
        for example in EXAMPLES
        if "def test_" not in example and "def pytest_" not in example
    ],
)
def test_an_example_runs(example: str) -> None:
    subprocess.run([sys.executable, "-c", example], check=True, timeout=60)


def pytest_in(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            folder,
            *arguments,
        ],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTEST_ADDOPTS": "", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_pytest_alone(tmp_path: Path) -> None:
    [example] = examples("test_everybody_is_served")
    (tmp_path / "test_it.py").write_text(example)
    told = pytest_in(tmp_path)
    assert "test_everybody_is_served[19] PASSED" in told
    assert "20 passed" in told


def test_anyios_plugin(tmp_path: Path) -> None:
    [example] = examples("test_with_anyio")
    (tmp_path / "test_it.py").write_text(example)
    assert "5 passed" in pytest_in(tmp_path, "-p", "anyio")


@pytest.mark.skipif(
    importlib.util.find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed"
)
def test_pytest_asyncios_hook(tmp_path: Path) -> None:
    [example] = examples("pytest_asyncio_loop_factories")
    (tmp_path / "conftest.py").write_text(example)
    (tmp_path / "test_it.py").write_text(
        "import asyncio, pytest\n\n@pytest.mark.asyncio\nasync def test_it():\n"
        "    await asyncio.sleep(3600)\n    assert asyncio.get_running_loop().time() >= 3600\n"
    )
    told = pytest_in(tmp_path)
    assert "test_it[seed4] PASSED" in told
    assert "5 passed" in told
