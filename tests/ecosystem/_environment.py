"""A suite's tests and what they import: fetched once, from the package index or a URL, and kept.

Nothing is written but below the folders that are named by the caller; what is there is not
fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

from _suites import Suite

QUIET = ["--quiet", "--disable-pip-version-check", "--no-input"]


def is_online() -> bool:
    """Tell whether the package index answers."""
    question = ["--retries", "0", "--timeout", "10", "index", "versions", "pip"]
    return _pip(Path(sys.executable), question, check=False) == 0


def fetch_tests(suite: Suite, cache: Path) -> Path:
    """Return a fresh folder with the tests of the suite's source distribution.

    OSError says that the server of its `url` cannot be reached, CalledProcessError that pip failed.
    """
    archive = cache / f"{suite.name}-{suite.version}.tar.gz"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        source = f"{suite.name}=={suite.version}"
        only = ["download", "--no-deps", "--no-binary", suite.name, "--dest", str(cache), source]
        if suite.url is None:
            _pip(Path(sys.executable), only)
        else:
            with urllib.request.urlopen(suite.url, timeout=60) as answer:
                archive.write_bytes(answer.read())
    if hashlib.sha256(archive.read_bytes()).hexdigest() != suite.sha256:
        archive.unlink()
        raise SystemExit(f"{archive.name} is not the one whose sha256 suites.toml has")
    folder = cache / f"{suite.name}-{suite.version}"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(cache, filter="data")
    for name in suite.remove:
        shutil.rmtree(folder / name)
    return folder


def make_venv(suite: Suite, folder: Path, wheel: Path) -> Path:
    """Return the Python of an environment with what the tests import, and this wheel."""
    python = folder / "bin/python"
    stamp = folder / "requirements"
    wanted = f"{sys.version}\n{suite.requirements.read_text(encoding='utf-8')}"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        _pip(python, ["install", "--requirement", str(suite.requirements)])
        stamp.write_text(wanted, encoding="utf-8")
    _pip(python, ["install", "--force-reinstall", "--no-deps", "--no-index", str(wheel)])
    return python


def _pip(python: Path, arguments: list[str], *, check: bool = True) -> int:
    """Let this environment's pip do something for that Python."""
    command = [sys.executable, "-m", "pip", "--python", str(python), *QUIET, *arguments]
    return subprocess.run(command, check=check, stdout=subprocess.DEVNULL).returncode
