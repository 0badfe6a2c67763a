"""Holds every import of the project against the table of files in docs/ARCHITECTURE.md.

    python tools/layers.py

Fails when a file imports what the `←` of its line does not allow, when a source file has no line,
and when a line names a file that is not there. A name behind the arrow is one module: `driver` is
`driver/mod.rs` and what it re-exports, `driver/epoll` is a file below it, and for another file of
that folder it is `./epoll`, too. `all`, `nothing` and `all but X` (with what is below X) mean what
they say. Every file may use the ambient modules, a `mod.rs` may re-export the modules below it, and
a name that the crate's root re-exports is its origin's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imports import ROOT, Import, RustFile, module_of, python_imports

AMBIENT = frozenset({"limits", "error"})
PACKAGE = "python/cloverleaf"

_HEADING = re.compile(r"^(?P<folder>\S+/)(?:\s|$)")
_LINE = re.compile(r"^  (?P<file>[\w/.]+)\s+(?P<what>.*?)(?:\s+←\s+(?P<may>.*))?$")


@dataclass(frozen=True)
class Row:
    """One line of the table: a file, and what it may import; `None` stands for all."""

    file: str
    may: frozenset[str] | None
    but: frozenset[str] = frozenset()

    def allows(self, module: str) -> bool:
        """Tell whether the file may import that module."""
        if self.may is not None:
            return module in self.may
        return not any(module == but or module.startswith(but + "/") for but in self.but)


def read_row(file: str, may: str | None) -> Row:
    """Read what stands behind the arrow of a line."""
    here = file.rpartition("/")[0]
    names = [
        re.sub(r"^\./", f"{here}/" if here else "", name.strip())
        for name in (may or "nothing").split(",")
    ]
    if names[0] == "all" or names[0].startswith("all but "):
        rest = [names[0].removeprefix("all").removeprefix(" but "), *names[1:]]
        return Row(file, None, frozenset(filter(None, rest)))
    return Row(file, frozenset(names) - {"nothing"})


def source_folders(top: Path) -> list[str]:
    """Return the folders whose files the table must name: every crate's, and the package."""
    crates = sorted(str(path.relative_to(top)) for path in top.glob("crates/*/src"))
    return [*crates, PACKAGE]


def read_table(text: str, folders: list[str]) -> dict[str, list[Row]]:
    """Return the rows of each source folder, from the page's fenced blocks."""
    table: dict[str, list[Row]] = {folder: [] for folder in folders}
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if "←" not in block:
            continue
        rows: list[Row] | None = None
        for line in block.splitlines():
            if heading := _HEADING.match(line):
                rows = table.get(heading["folder"].rstrip("/"))
            elif not line.strip():
                rows = None
            elif rows is not None and (found := _LINE.match(line)):
                rows.append(read_row(found["file"], found["may"]))
    return table


class Folder:
    """One source folder, its rows of the table, and what its files import."""

    def __init__(self, top: Path, folder: str, rows: list[Row]) -> None:
        self.folder = folder
        self.source = top / folder
        self.rows = {row.file: row for row in rows}
        suffix = ".py" if folder.startswith("python") else ".rs"
        self.files = sorted(self.source.rglob(f"*{suffix}"))
        self.modules = {module_of(path, self.source) for path in self.files}
        self.modules |= {row.file.rpartition(".")[0] for row in rows if row.file.endswith(".pyi")}

    def complaints(self) -> Iterator[str]:
        """Yield every difference between the table and the files."""
        if not self.rows:
            yield f"docs/ARCHITECTURE.md has no table for {self.folder}"
        for file in self.rows:
            if not (self.source / file).exists():
                yield f"docs/ARCHITECTURE.md names {self.folder}/{file}, which does not exist"
        root = self._root_exports()
        for path in self.files:
            name = str(path.relative_to(self.source))
            row = self.rows.get(name)
            if row is None:
                yield f"{self.folder}/{name} has no line in docs/ARCHITECTURE.md"
                continue
            yield from self._check(path, row, root)

    def _check(self, path: Path, row: Row, root: dict[str, str]) -> Iterator[str]:
        own = module_of(path, self.source)
        for found in self._imports(path, own):
            module = found.module
            if module.startswith(ROOT + "::"):
                module = root.get(module.removeprefix(ROOT + "::"), ROOT)
            below = found.re_export and (own == ROOT or module.startswith(own + "/"))
            if module == own or module in AMBIENT or below or row.allows(module):
                continue
            yield f"{self.folder}/{row.file}:{found.line}: may not import {module}"

    def _imports(self, path: Path, own: str) -> Iterator[Import]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".rs":
            return RustFile(text, own, self.modules).imports()
        return python_imports(text, self.source.name, self.modules)

    def _root_exports(self) -> dict[str, str]:
        root = self.source / "lib.rs"
        if not root.exists():
            return {}
        return RustFile(root.read_text(encoding="utf-8"), ROOT, self.modules).exports()


def check(top: Path) -> list[str]:
    """Return what differs below a checkout's top folder."""
    page = (top / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    table = read_table(page, source_folders(top))
    return [
        complaint
        for folder, rows in table.items()
        for complaint in Folder(top, folder, rows).complaints()
    ]


def main() -> int:
    """Print every complaint and a closing line."""
    complaints = check(Path(__file__).parent.parent)
    for complaint in complaints:
        print(complaint)
    print(f"layers: {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
