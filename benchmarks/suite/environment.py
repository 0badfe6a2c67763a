"""The virtual environment that every loop runs in, and the load generator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.suite.loops import CANDIDATES, FLOOR_MODULE, OURS

#: What the workloads of servers and clients as people run them import.
APPLICATIONS = (
    "uvicorn>=0.36,<1",
    "httptools>=0.6.4,<1",
    "aiohttp>=3.12,<4",
    "websockets>=15,<18",
    "asyncpg>=0.31,<1",
    "redis>=8,<9",
    "hiredis>=3.2,<4",
)

#: What draws the plots.
PLOTS = "matplotlib>=3.9,<4"

VERSIONS = """
import json
from importlib.metadata import distributions
print(json.dumps({each.metadata["Name"].lower(): each.version for each in distributions()}))
"""


class SetupError(Exception):
    """The environment cannot be made, and nothing can run without it."""


def say(text: str) -> None:
    """Tells of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def virtual_environment(python: str, directory: Path) -> Path:
    """A venv of that interpreter, made if it is not there; returns its interpreter."""
    inside = directory / "bin" / "python"
    if inside.exists():
        if base(inside) == base(Path(python)):
            return inside
        say(f"{directory} belongs to another interpreter and is made again")
    command = [python, "-m", "venv", "--clear", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"{' '.join(command)}: {last_line(done.stdout + done.stderr)}")
    return inside


def base(python: Path) -> str:
    """Which interpreter this one comes from, with its version."""
    code = "import sys; print(sys.base_prefix, sys.version)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"{python} does not run: {last_line(done.stderr)}")
    return done.stdout


def install(python: Path, loops: list[str], ours: str) -> dict[str, str]:
    """Installs the loops; by loop, its version or why there is none."""
    problems = {}
    for candidate in CANDIDATES:
        if candidate.name not in loops:
            continue
        if candidate.requirement:
            say(f"installing {candidate.requirement}")
            problem = pip(python, "--only-binary", ":all:", candidate.requirement)
        elif candidate.name == OURS:
            say(f"installing {OURS} from {ours}")
            problem = pip(python, "--force-reinstall", "--no-deps", ours)
        else:
            continue
        if problem:
            problems[candidate.name] = problem
    for requirement in (*APPLICATIONS, PLOTS):
        if problem := pip(python, "--only-binary", ":all:", requirement):
            say(f"{requirement}: {problem}")
    return problems


def pip(python: Path, *words: str) -> str | None:
    """Installs; the reason when that fails."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    return last_line(done.stdout + done.stderr) if done.returncode else None


def versions(python: Path, loops: list[str], problems: dict[str, str]) -> dict[str, str]:
    """By loop: its version, or why it is not there."""
    done = subprocess.run(
        [python, "-I", "-c", VERSIONS], capture_output=True, text=True, check=True
    )
    installed: dict[str, str] = json.loads(done.stdout)
    installed["asyncio"] = "(the standard library's)"
    return {
        loop: f"not installed: {problems[loop]}"
        if loop in problems
        else installed.get(loop, "not installed")
        for loop in loops
    }


def load_generator(root: Path) -> Path:
    """Builds the load generator with Cargo and returns its path."""
    say("building the load generator")
    return built(root, "cloverleaf-load", {})


def callback_floor(root: Path, python: Path) -> None:
    """Builds the bare queue of callbacks, and puts it where that interpreter imports it."""
    say("building the floor of the callbacks")
    # An extension module finds the interpreter's symbols in the process that imports it.
    wanted = {"PYO3_PYTHON": str(python), "PYO3_BUILD_EXTENSION_MODULE": "1"}
    library = built(root, "cloverleaf-floor", wanted)
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    # Another file under that name, not other bytes in one that a process may have mapped.
    place = Path(done.stdout.strip()) / f"{FLOOR_MODULE}.so"
    place.unlink(missing_ok=True)
    shutil.copyfile(library, place)


def built(root: Path, crate: str, environment: dict[str, str]) -> Path:
    """Builds a crate of the workspace and returns the program or the library."""
    command = ["cargo", "build", "--release", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(
        [*command, "--manifest-path", str(root / "crates" / crate / "Cargo.toml")],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    if done.returncode:
        raise SetupError(f"{crate} does not build")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        target = message.get("target", {}).get("name", "")
        if message.get("filenames") and target.replace("_", "-") == crate:
            return Path(message["filenames"][0])
    raise SetupError(f"Cargo built no {crate}")


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no output"])[-1].strip()
