"""Files of a file system that the loop itself serves: nothing of them is asked on its own thread.

A loop that did would wait for itself for ever; so each is used by a program of its own.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .harness import served
from .harness.types import Loop

pytestmark = pytest.mark.only("cloverleaf")  # asyncio has no files


class _Awaited:
    """A file of `open`'s whose methods are awaited."""

    def __init__(self, *arguments: Any) -> None:
        self._file: Any = io.open(*arguments)  # noqa: SIM115, UP020

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if name == "isatty":
            return found

        async def call(*arguments: Any) -> Any:
            return found(*arguments)

        return call

    async def __aenter__(self) -> _Awaited:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._file.close()


@pytest.mark.deadline(200)
@pytest.mark.parametrize("body", served.BODIES)
def test_a_loop_can_serve_the_files_that_it_uses(loop: Loop, tmp_path: Path, body: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(served.CONTENT)
    expected = loop.run_until_complete(served.use(body, _Awaited, path))
    content = path.read_bytes()
    mount = tmp_path / "mount"
    mount.mkdir()
    try:
        program = subprocess.run(
            [sys.executable, "-P", served.__file__, body, str(mount)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=2 * served.SECONDS,
            check=False,
        )
    finally:
        served.unmount(str(mount))
    if program.returncode == served.NO_FUSE:
        pytest.skip(program.stdout.strip())
    assert program.returncode == 0, program.stdout
    assert program.stdout.strip() == f"{expected} {content[:20]!r} {len(content)}"
