"""Reads which modules of its own package a source file imports, for Rust and for Python.

Promises: every path that leads into the file's own crate or package is found, in `use`, in `import`
and in the middle of an expression; comments, strings and `#[cfg(test)] mod` blocks are not read. A
module is named by its path below the source folder, without suffix: `driver/epoll`, `driver` for
`driver/mod.rs`, `__init__` for the package, `lib` for a crate's root, be it a program or a library.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = "lib"

_NOISE = re.compile(
    r"""//[^\n]*
    | /\*.*?\*/
    | \bb?r(?P<hashes>\#*)".*?"(?P=hashes)
    | \bb?"(?:[^"\\]|\\.)*"
    | "(?:[^"\\]|\\.)*"
    | '(?:[^'\\\n]|\\[^\n]{1,8}?)'""",
    re.VERBOSE | re.DOTALL,
)
_INLINE_MODULE = re.compile(
    r"(?P<test>#\[cfg\(test\)\]\s*)?(?:pub\S*\s+)?\bmod\s+(?P<name>\w+)\s*\{"
)
_TOKEN = re.compile(r"\s*(::|\{|\}|,|\*|\w+)")
_RE_EXPORT = re.compile(r"\bpub(?:\([^)]*\))?\s+use\s+$")


@dataclass(frozen=True)
class Import:
    """One path into the file's own crate or package: the module it reaches, and where it stands."""

    module: str
    line: int
    re_export: bool = False


def module_of(path: Path, source: Path) -> str:
    """Return the name of the module that a file below the source folder holds."""
    parts = path.relative_to(source).with_suffix("").parts
    if parts == ("main",):
        return ROOT
    if len(parts) > 1 and parts[-1] in ("mod", "__init__"):
        parts = parts[:-1]
    return "/".join(parts)


# -- Rust --------------------------------------------------------------------------------------


def _blank(text: str) -> str:
    """Return as many lines of nothing, so that positions and line numbers stay."""
    return re.sub(r"[^\n]", " ", text)


def without_noise(text: str) -> str:
    """Return a Rust source with its comments, strings and characters blanked out."""
    return _NOISE.sub(lambda match: _blank(match[0]), text)


def without_block(text: str, start: int, opening: int) -> str:
    """Return the text with everything blanked from a start to the end of the block that opens."""
    end = _end_of_block(text, opening)
    return text[:start] + _blank(text[start:end]) + text[end:]


def without_tests(text: str) -> str:
    """Return a Rust source, its noise already gone, with its test modules blanked out."""
    for found in list(_INLINE_MODULE.finditer(text)):
        if found["test"]:
            text = without_block(text, found.start(), found.end() - 1)
    return text


def _end_of_block(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if not depth:
                return position + 1
    return len(text)


class RustFile:
    """A Rust source file, ready to be asked for the modules of its crate that it names."""

    def __init__(self, text: str, module: str, modules: set[str]) -> None:
        self.module = module
        self.modules = modules
        self.text = without_tests(without_noise(text))
        self._inline = [
            (found.end(), _end_of_block(self.text, found.end() - 1), found["name"])
            for found in _INLINE_MODULE.finditer(self.text)
        ]

    def imports(self) -> Iterator[Import]:
        """Yield every path into the crate, in the order in which they stand."""
        prefix = "" if self.module == ROOT else self.module + "/"
        children = {
            name.removeprefix(prefix)
            for name in self.modules
            if name.startswith(prefix) and "/" not in name.removeprefix(prefix) and name != ROOT
        }
        starts = "|".join(["crate", "super", "self", *sorted(children)])
        for found in re.finditer(rf"(?<![\w:])(?:{starts})\s*::", self.text):
            line = self.text.count("\n", 0, found.start()) + 1
            re_export = bool(_RE_EXPORT.search(self.text, 0, found.start()))
            for path in self._leaves(found.start()):
                yield Import(self._resolve(path, found.start()), line, re_export)

    def exports(self) -> dict[str, str]:
        """Return the names that this file re-exports, each with the module it comes from."""
        names: dict[str, str] = {}
        for found in re.finditer(r"\bpub(?:\([^)]*\))?\s+use\s+", self.text):
            for path in self._leaves(found.end()):
                names[path[-1]] = self._resolve(path, found.start())
        return names

    def _leaves(self, start: int) -> list[list[str]]:
        """Return each path of the use tree that begins at a position."""
        return _Tree(self.text, start).leaves()

    def _resolve(self, path: list[str], position: int) -> str:
        inner = [name for start, end, name in self._inline if start <= position < end]
        here = [] if self.module == ROOT else self.module.split("/")
        here = [*here, *inner]
        if path[0] == "crate":
            here, path = [], path[1:]
        while path and path[0] in ("super", "self"):
            here = here[:-1] if path[0] == "super" else here
            path = path[1:]
        reached = [*here]
        for name in path:
            if "/".join([*reached, name]) not in self.modules:
                break
            reached.append(name)
        while reached and "/".join(reached) not in self.modules:
            reached.pop()  # an inline module belongs to the file it stands in
        if not reached and path:
            return f"{ROOT}::{path[0]}" if here == [] else ROOT
        return "/".join(reached) or ROOT


class _Tree:
    """Parses one use tree or path; what follows a path in an expression ends it."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.position = start

    def leaves(self) -> list[list[str]]:
        return self._tree([])

    def _peek(self) -> str | None:
        found = _TOKEN.match(self.text, self.position)
        return found[1] if found else None

    def _take(self) -> None:
        found = _TOKEN.match(self.text, self.position)
        if found:
            self.position = found.end()

    def _tree(self, path: list[str]) -> list[list[str]]:
        path = [*path]
        while (token := self._peek()) is not None:
            if token == "{":
                self._take()
                return self._group(path)
            if token in ("}", ",", "::"):
                break
            self._take()
            if token != "*" and not (token == "self" and path):
                path.append(token)
            if self._peek() != "::":
                break
            self._take()
        return [path]

    def _group(self, path: list[str]) -> list[list[str]]:
        leaves: list[list[str]] = []
        while (token := self._peek()) is not None and token != "}":
            if token == ",":
                self._take()
                continue
            leaves += self._tree(path)
            if self._peek() == "as":
                self._take()
                self._take()
        self._take()
        return leaves


# -- Python ------------------------------------------------------------------------------------


def python_imports(text: str, package: str, modules: set[str]) -> Iterator[Import]:
    """Yield the package's own modules that a file directly in the package imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level <= 1:
            base = ".".join(filter(None, [package if node.level else "", node.module]))
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == package:
                module = rest.split(".")[0]
                yield Import(module if module in modules else "__init__", node.lineno)
