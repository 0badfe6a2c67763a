"""The machine and the interpreter that a run took place on, and what speaks against them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

BUSY_LOAD = 0.5

#: Run by the benchmarked interpreter, without the site's start-up files.
PROBE = """
import json, platform, sys, sysconfig, timeit
def empty(): pass
calls = 1_000_000
each = min(timeit.repeat(empty, number=calls, repeat=5)) / calls * 1e9
read = sysconfig.get_config_var
print(json.dumps({
    "version": platform.python_version(),
    "compiler": platform.python_compiler(),
    "libc": " ".join(platform.libc_ver()),
    "configure": read("CONFIG_ARGS") or "",
    "flags": " ".join(str(read(name) or "") for name in (
        "CFLAGS", "PY_CORE_CFLAGS", "PY_CFLAGS_NODIST", "PY_LDFLAGS_NODIST")),
    "debug": bool(read("Py_DEBUG")),
    "free_threaded": bool(read("Py_GIL_DISABLED")),
    "yardstick_ns": each,
    "executable": sys.executable,
}))
"""

#: The flags that decide how fast an interpreter is.
DECISIVE = (
    "-O",
    "-fprofile",
    "-flto",
    "-march",
    "-DNDEBUG",
    "--enable-",
    "--with-lto",
    "--with-py",
)

OPTIMISED = "optimised"
PACKAGED = "a distribution's package (profile-guided by its packaging, which the flags do not show)"
PLAIN = "not optimised"


def machine() -> dict[str, Any]:
    """Processor, kernel, and how busy it all is."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": os.getloadavg()[0],
    }


def processor_name() -> str:
    """The processor as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown processor"


def interpreter(python: Path) -> dict[str, Any]:
    """What that interpreter says of its build, and our judgement of it."""
    output = subprocess.run(
        [python, "-I", "-c", PROBE], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, Any] = json.loads(output)
    found["optimisation"] = optimisation(found)
    found["decisive_flags"] = decisive_flags(found)
    return found


def optimisation(found: dict[str, Any]) -> str:
    """Whether the build was guided by a profile, as far as it tells."""
    if found["debug"]:
        return "a debug build"
    if "-fprofile-use" in found["flags"] or "--enable-optimizations" in found["configure"]:
        linked = "-flto" in found["flags"] or "--with-lto" in found["configure"]
        return f"{OPTIMISED} (PGO{' and LTO' if linked else ''})"
    if "python-wheels" in found["configure"]:
        return PACKAGED
    return PLAIN


def decisive_flags(found: dict[str, Any]) -> str:
    """The build's flags that have to do with speed, each once."""
    words = f"{found['configure']} {found['flags']}".replace("'", "").split()
    return " ".join(dict.fromkeys(word for word in words if word.startswith(DECISIVE)))


def warnings(machine: dict[str, Any], python: dict[str, Any]) -> list[str]:
    """What makes the figures worth less than they should be."""
    found = []
    if not python["optimisation"].startswith((OPTIMISED, PACKAGED)):
        found.append(
            f"this CPython is {python['optimisation']}: name one with PGO and LTO by --python"
        )
    if machine["load_average"] > BUSY_LOAD:
        found.append(
            f"the machine was busy (load average {machine['load_average']:.2f}): do not publish"
        )
    if (machine["cores"] or 1) < 2:
        found.append("one core only: the loops and their load share it")
    return found
