"""The extension modules in Rust that tests import: the examples of crates/cloverleaf-futures."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
CRATE = "cloverleaf-futures"

# Emptied when the tests end.
_FOLDER = tempfile.TemporaryDirectory(prefix="cloverleaf-extensions-")


@functools.cache
def built() -> Path:
    """Build the modules for this Python, and return the folder that has them."""
    command = ["cargo", "build", "--examples", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(
        [*command, "--manifest-path", ROOT / "crates" / CRATE / "Cargo.toml"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ
        | {
            "PYO3_PYTHON": sys.executable,
            "PYO3_BUILD_EXTENSION_MODULE": "1",
            "CARGO_PROFILE_DEV_DEBUG": "0",
        },
    )
    folder = Path(_FOLDER.name)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        target = message.get("target", {})
        if target.get("kind") == ["example"] and message.get("filenames"):
            shutil.copyfile(message["filenames"][0], folder / f"{target['name']}.so")
    return folder


@functools.cache
def module(name: str) -> Any:
    """Import one of them."""
    loader = ExtensionFileLoader(name, str(built() / f"{name}.so"))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    made = module_from_spec(spec)
    loader.exec_module(made)
    return made
