"""aiofiles' own tests, from its source distribution, against `cloverleaf.aiofiles`.

The distribution is fetched by pip once and kept in pip's cache; without a network the test is
skipped, and one with another sha256 is refused. Its tests run in a process of their own, in which
`aiofiles` is our module. `bash tools/test.sh ecosystem` runs this, with pytest-asyncio.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

VERSION = "25.1.0"
SHA256 = "a8d728f0a29de45dc521f18f07297428d56992a742f0cd2701ba86e44d23d5b2"

PLUGIN = """
import sys
import cloverleaf
import cloverleaf.aiofiles as ours
import pytest
sys.modules["aiofiles"] = ours
for name in (
    "base", "os", "ospath", "tempfile", "tempfile.temptypes", "threadpool", "threadpool.binary",
    "threadpool.text",
):
    __import__("cloverleaf.aiofiles." + name)
    sys.modules["aiofiles." + name] = sys.modules["cloverleaf.aiofiles." + name]

@pytest.fixture(scope="session")
def event_loop_policy():
    if LOOP == "asyncio":
        import asyncio
        return asyncio.DefaultEventLoopPolicy()
    return cloverleaf.EventLoopPolicy()
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the distribution, or skip."""
    pytest.importorskip("pytest_asyncio", reason="aiofiles' tests need pytest-asyncio")
    folder = tmp_path_factory.mktemp("aiofiles")
    command = [sys.executable, "-m", "pip", "download", "--no-deps"]
    command += ["--no-binary", ":all:", f"aiofiles=={VERSION}", "--dest", str(folder)]
    try:
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"aiofiles {VERSION} could not be fetched in 150 s")
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"aiofiles {VERSION} could not be fetched: {fetched.stderr[-200:]}")
    assert hashlib.sha256(archives[0].read_bytes()).hexdigest() == SHA256
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"aiofiles-{VERSION}"


@pytest.mark.parametrize("loop", ["cloverleaf", "asyncio"])
def test_all_of_aiofiles_tests_pass(suite: Path, loop: str) -> None:
    (suite / "as_cloverleaf.py").write_text(f"LOOP = {loop!r}\n{PLUGIN}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "as_cloverleaf", "--asyncio-mode=auto"]
    command += ["-p", "no:cacheprovider", "-rs", "tests"]
    if os.geteuid() == 0:
        # It expects that access is refused, which root never is.
        command += ["--deselect", "tests/test_os.py::test_access"]
    ended = subprocess.run(
        command, cwd=suite, capture_output=True, text=True, timeout=180, check=False
    )
    assert ended.returncode == 0, ended.stdout[-8000:]
    assert " passed" in ended.stdout
    assert "failed" not in ended.stdout


SAME = """
import asyncio, importlib, sys

SURFACE = {
    "": None,
    "os": None,
    "ospath": None,
    "tempfile": None,
    "base": ("AiofilesContextManager", "AsyncBase"),
    "tempfile.temptypes": ("AsyncSpooledTemporaryFile", "AsyncTemporaryDirectory"),
    "threadpool": ("open", "wrap", "sync_open"),
    "threadpool.binary": ("AsyncBufferedIOBase", "AsyncBufferedReader", "AsyncFileIO"),
    "threadpool.text": ("AsyncTextIOWrapper",),
}
MODES = ("r", "w", "a", "r+", "w+", "rb", "wb", "ab", "rb+", "wb+")

def modules(package):
    return {name: importlib.import_module(f"{package}.{name}".rstrip(".")) for name in SURFACE}

async def kinds(package, path):
    found = modules(package)
    classes = [
        getattr(found[name], each)
        for name, names in SURFACE.items() for each in names or () if each.startswith("Async")
    ]
    seen = {}
    for mode in MODES:
        for buffering in (-1, 0) if "b" in mode else (-1,):
            opening = found[""].open(path, mode, buffering=buffering)
            assert isinstance(opening, found["base"].AiofilesContextManager)
            async with opening as file:
                here = [each for each in classes if isinstance(file, each)]
                seen[mode, buffering] = [each.__name__ for each in here]
    return seen

theirs, ours = modules("aiofiles"), modules("cloverleaf.aiofiles")
assert theirs[""].__file__.startswith(sys.argv[1]), theirs[""].__file__
for name, names in SURFACE.items():
    missing = [each for each in names or theirs[name].__all__ if not hasattr(ours[name], each)]
    assert not missing, (name, missing)
path = sys.argv[1] + "/file"
open(path, "w").close()
one, other = (asyncio.run(kinds(each, path)) for each in ("aiofiles", "cloverleaf.aiofiles"))
assert one == other, [(key, one[key], other[key]) for key in one if one[key] != other[key]]
print(len(one))
"""


def test_its_names_are_there_and_its_classes_mean_the_same(suite: Path) -> None:
    command = [sys.executable, "-c", SAME, str(suite)]
    env = {**os.environ, "PYTHONPATH": str(suite / "src")}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=180, check=False, env=env
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert int(ended.stdout) == 15
