"""The wheel installs into a clean environment outside the tree, works, and brings its types."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

from .programs import ECHO, MISTAKEN, TYPED

SOURCES = Path(__file__).parents[2] / "python/cloverleaf"


def run(python: Path, folder: Path, program: str) -> list[str]:
    """Run a program there, with warnings as errors; return what it prints, by lines."""
    file = folder / "program.py"
    file.write_text(program)
    done = subprocess.run(
        [str(python), "-I", "-X", "dev", "-W", "error", str(file)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def type_check(python: Path, folder: Path, program: str) -> tuple[int, str]:
    """Let mypy check a program, as a user of the installed package would."""
    file = folder / "checked.py"
    file.write_text(program)
    (folder / "mypy.ini").write_text("[mypy]\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), file.name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")}
    inside = {
        str(name.relative_to("cloverleaf")) for name in names if name.parts[0] == "cloverleaf"
    }
    sources = {
        file.relative_to(SOURCES).as_posix()
        for file in SOURCES.rglob("*")
        if file.suffix in (".py", ".pyi")
    }
    assert any("/" in source for source in sources)
    module = f"_cloverleaf{sysconfig.get_config_var('EXT_SUFFIX')}"
    assert inside == {*sources, "py.typed", module}
    others = {name for name in names if name.parts[0] != "cloverleaf"}
    assert all(name.parts[0].endswith(".dist-info") for name in others)
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= {name.name for name in others}


def test_the_metadata_asks_for_nothing_but_a_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["Name"] == "cloverleaf"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_all("Requires-Dist") is None
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    cargo = tomllib.loads((SOURCES.parents[1] / "Cargo.toml").read_text())
    assert urls["Repository"] == cargo["workspace"]["package"]["repository"]
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    version = f"Programming Language :: Python :: 3.{sys.version_info.minor}"
    assert version in metadata.get_all("Classifier", [])


def test_a_program_runs_where_only_the_wheel_is_installed(python: Path, tmp_path: Path) -> None:
    file, version, *answers = run(python, tmp_path, ECHO)
    assert Path(file).is_relative_to(python.parent.parent)
    assert version
    assert answers == ["hello", "hello"]


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed here")
def test_a_typed_program_passes_mypy_strict_and_runs(python: Path, tmp_path: Path) -> None:
    code, output = type_check(python, tmp_path, TYPED)
    assert code == 0, output
    assert run(python, tmp_path, TYPED) == ["True 1"]


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed here")
def test_mypy_finds_mistakes_in_a_program(python: Path, tmp_path: Path) -> None:
    code, output = type_check(python, tmp_path, MISTAKEN)
    assert code == 1, output
    lines = MISTAKEN.splitlines()
    first = lines.index("text: str = cloverleaf.run(main())") + 1
    for number in range(first, len(lines) + 1):
        assert f"checked.py:{number}: error:" in output, output
