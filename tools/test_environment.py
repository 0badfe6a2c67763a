"""The shell scripts find the right interpreters, whatever lies on the PATH and in pyenv."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ENVIRONMENT = Path(__file__).parent / "environment.sh"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Make a machine with a folder on the PATH and a pyenv, both without Pythons."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyenv/versions").mkdir(parents=True)
    return tmp_path


def put_python(path: Path, answer: str | None) -> None:
    """Put a command there that describes itself so; without an answer, a shim to nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {answer}\n" if answer else "#!/bin/sh\nexit 127\n")
    path.chmod(0o755)


def run(machine: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    tools = ":".join(path for path in os.get_exec_path() if path in ("/usr/bin", "/bin"))
    for name in ("bash", "find", "sort", "dirname"):  # but none of the real Pythons
        command = next(
            Path(folder, name) for folder in tools.split(":") if Path(folder, name).exists()
        )
        link = machine / "bin" / name
        if not link.exists():
            link.symlink_to(command)
    return subprocess.run(
        [str(machine / "bin/bash"), "-c", f'. "{ENVIRONMENT}"\n{script}'],
        env={"PATH": str(machine / "bin"), "PYENV_ROOT": str(machine / "pyenv"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def pythons(machine: Path, **variables: str) -> list[str]:
    done = run(machine, r'find_pythons; printf "%s\n" "${PYTHON_PATHS[@]}"', **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_every_version_is_found_once_oldest_first(machine: Path) -> None:
    put_python(machine / "bin/python3.13", "3.13 yes /usr/bin/python3.13")
    put_python(machine / "bin/python3", "3.11 yes /usr/bin/python3.11")
    put_python(machine / "pyenv/versions/3.12.1/bin/python3.12", "3.12 yes /pyenv/python3.12")
    assert pythons(machine) == ["/usr/bin/python3.11", "/pyenv/python3.12", "/usr/bin/python3.13"]


def test_one_with_cpythons_own_tests_is_preferred(machine: Path) -> None:
    put_python(machine / "bin/python3.11", "3.11 no /usr/bin/python3.11")
    put_python(machine / "pyenv/versions/3.11.7/bin/python3.11", "3.11 yes /pyenv/python3.11")
    assert pythons(machine) == ["/pyenv/python3.11"]


def test_the_path_comes_before_pyenv_and_newer_patches_before_older(machine: Path) -> None:
    put_python(machine / "pyenv/versions/3.11.9/bin/python3.11", "3.11 no /pyenv/9")
    put_python(machine / "pyenv/versions/3.11.10/bin/python3.11", "3.11 no /pyenv/10")
    assert pythons(machine) == ["/pyenv/10"]
    put_python(machine / "bin/python3.11", "3.11 no /usr/bin/python3.11")
    assert pythons(machine) == ["/usr/bin/python3.11"]


def test_a_shim_that_leads_nowhere_is_passed_over(machine: Path) -> None:
    put_python(machine / "bin/python3.12", None)
    put_python(machine / "pyenv/versions/3.12.1/bin/python3.12", "3.12 yes /pyenv/python3.12")
    assert pythons(machine) == ["/pyenv/python3.12"]


def test_pythons_can_be_named_by_version_command_or_path(machine: Path) -> None:
    put_python(machine / "bin/python3.12", "3.12 yes /usr/bin/python3.12")
    put_python(machine / "bin/python3.13", "3.13 yes /usr/bin/python3.13")
    put_python(machine / "own/python", "3.11 no /own/python")
    named = f"python3.13 3.12 {machine}/own/python"
    assert pythons(machine, PYTHONS=named) == [
        "/usr/bin/python3.13",
        "/usr/bin/python3.12",
        "/own/python",
    ]


def test_a_named_python_that_is_not_there_is_an_error(machine: Path) -> None:
    done = run(machine, "find_pythons", PYTHONS="3.12")
    assert done.returncode != 0
    assert "no CPython 3.12 found" in done.stderr


def test_no_python_at_all_is_an_error_that_says_what_to_do(machine: Path) -> None:
    done = run(machine, "find_pythons")
    assert done.returncode != 0
    assert "apt-get install python3" in done.stderr


def test_a_python_without_the_gil_is_found_by_its_own_name(machine: Path) -> None:
    put_python(machine / "pyenv/versions/3.14.1/bin/python3.14", "3.14 yes /pyenv/python3.14")
    put_python(machine / "pyenv/versions/3.14.1t/bin/python3.14t", "3.14 no /pyenv/python3.14t")
    done = run(machine, "find_free_threaded 3.14; find_free_threaded 3.15 || echo none")
    assert done.stdout.split() == ["/pyenv/python3.14t", "none"], done.stderr
    assert pythons(machine) == ["/pyenv/python3.14"]


def test_a_python_with_the_gil_is_not_taken_for_one_without() -> None:
    script = f'. "{ENVIRONMENT}"; describe_python "{sys.executable}" "$1"'
    wanted = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    for flag in ("", "t"):
        done = subprocess.run(["bash", "-c", script, "-", flag], capture_output=True, check=False)
        assert (done.returncode == 0) == (flag == wanted), done.stderr


PYTHON_WITH_PIP = """#!/bin/sh
case "$*" in
*"-m venv "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
*"pip install"*) exit $INSTALLS ;;
*"pip index"*) exit $ANSWERS ;;
*_base_executable*) echo "$BASE" ;;
esac
"""


@pytest.mark.parametrize(
    ("installs", "answers", "status"),
    [(0, 0, 0), (0, 1, 0), (1, 1, 77), (1, 0, 1)],
    ids=["online", "all-is-there", "offline", "a-fault"],
)
def test_an_environment_that_cannot_be_fetched_is_skipped_only_offline(
    machine: Path, installs: int, answers: int, status: int
) -> None:
    python = machine / "bin/python3.13"
    python.write_text(PYTHON_WITH_PIP)
    python.chmod(0o755)
    for name in ("cp", "mkdir", "rm"):
        (machine / "bin" / name).symlink_to(f"/bin/{name}")
    script = f"make_venv_if_online {python} {machine}/venv files-ecosystem"
    done = run(machine, script, INSTALLS=str(installs), ANSWERS=str(answers), BASE=str(python))
    assert done.returncode == status, done.stderr
    assert ("the package index cannot be reached" in done.stdout) == (status == 77)
