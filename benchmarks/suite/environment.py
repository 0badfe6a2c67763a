"""The virtual environment that every loop runs in, and the load generator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.suite.loops import CANDIDATES, OURS

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
    for requirement in APPLICATIONS:
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
    manifest = root / "crates" / "cloverleaf-load" / "Cargo.toml"
    say("building the load generator")
    command = ["cargo", "build", "--release", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(
        [*command, "--manifest-path", str(manifest)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ,
    )
    if done.returncode:
        raise SetupError("the load generator does not build")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "cloverleaf-load":
            return Path(message["executable"])
    raise SetupError("Cargo built no load generator")


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no output"])[-1].strip()
