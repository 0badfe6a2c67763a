"""The Python examples of the README and of docs/: each compiles, and whole programs run.

Those of docs/testing.md have tests of their own, in `test_testing_docs`.
"""

from __future__ import annotations

import ast
import builtins
import dis
import re
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Runs an example as if it were the body of a coroutine, if it awaits anything.
RUN = """
import ast, cloverleaf, inspect, sys

code = compile(sys.argv[1], "<example>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
if code.co_flags & inspect.CO_COROUTINE:
    async def main():
        await eval(code, {"__name__": "__main__"})
    cloverleaf.run(main())
else:
    exec(code, {"__name__": "__main__"})
"""


def examples() -> list[Any]:
    found = []
    for page in PAGES:
        if page.name == "testing.md":
            continue
        text = page.read_text()
        for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
            line = text.count("\n", 0, match.start()) + 2
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    return found


def compiled(example: str) -> CodeType:
    code = compile(example, "<example>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, CodeType)
    return code


def names(code: CodeType, *operations: str) -> set[str]:
    """Return the global names with which code does this, within its functions too."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in operations}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= names(constant, *operations)
    return found


def is_whole(code: CodeType) -> bool:
    """Tell whether nothing is missing; a part of a program uses what it does not define."""
    used = names(code, "LOAD_NAME", "LOAD_GLOBAL")
    return used <= names(code, "STORE_NAME") | set(vars(builtins)) | {"__name__"}


def test_there_are_examples_of_both_kinds() -> None:
    """Whoever takes an example for a part does not run it."""
    whole = {example.id for example in examples() if is_whole(compiled(example.values[0]))}
    pages = {str(name).partition(":")[0] for name in whole}
    assert pages == {"OBSERVING.md", "embedding.md", "files.md", "stopping.md", "workers.md"}
    assert len(whole) >= 9


@pytest.mark.parametrize("example", examples())
def test_an_example_does_what_it_shows(example: str, tmp_path: Path) -> None:
    code = compiled(example)
    # A server that never ends, at a port that may not be free, is compiled only.
    if not is_whole(code) or "serve_forever" in example:
        return
    (tmp_path / "data.txt").write_text("one\ntwo\n")
    (tmp_path / "data.bin").write_bytes(bytes(2 << 20))
    ran = subprocess.run(
        [sys.executable, "-c", RUN, example],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
