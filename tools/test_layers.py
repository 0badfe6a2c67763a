"""The layer check finds what it should, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from imports import RustFile, module_of, python_imports
from layers import check, read_row, read_table

MODULES = {"lib", "driver", "driver/epoll", "driver/fake", "registry", "reactor", "error"}

PAGE = """
# Files

```
crates/cloverleaf/src/            the loop
  lib.rs             the root          ← all
  reactor.rs         events            ← driver, registry
  registry.rs        slots             ← driver
  error.rs           `Error`           ← nothing
  driver/mod.rs      the trait         ← nothing
  driver/epoll.rs    epoll             ← driver

crates/cloverleaf-python/src/     the binding
  lib.rs             the module        ← all

python/cloverleaf/
  __init__.py        the face          ← _loop
  _loop.py           the loop          ← _cloverleaf
  _cloverleaf.pyi    stubs             (beside py.typed)

crates/*/tests       anything
```
"""

SOURCES = {
    "crates/cloverleaf/src/lib.rs": "mod reactor;\npub use error::Error;\npub use driver::Token;",
    "crates/cloverleaf/src/reactor.rs": "use crate::{driver::Token, registry::Registry, Error};",
    "crates/cloverleaf/src/registry.rs": "use crate::Token;\nuse crate::error::Error;",
    "crates/cloverleaf/src/error.rs": "use std::io;",
    "crates/cloverleaf/src/driver/mod.rs": "mod epoll;\npub use epoll::Epoll;",
    "crates/cloverleaf/src/driver/epoll.rs": "use super::{Driver, Token};",
    "crates/cloverleaf-python/src/lib.rs": "",
    "python/cloverleaf/__init__.py": "from ._loop import EventLoop",
    "python/cloverleaf/_loop.py": "from cloverleaf import _cloverleaf",
    "python/cloverleaf/_cloverleaf.pyi": "",
    "docs/ARCHITECTURE.md": PAGE,
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def rust(text: str, module: str = "reactor") -> list[str]:
    return [found.module for found in RustFile(text, module, MODULES).imports()]


def test_a_tree_that_keeps_the_table_has_no_complaints(checkout: Path) -> None:
    assert check(checkout) == []


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        (
            "crates/cloverleaf/src/registry.rs",
            "\nuse crate::reactor::Reactor;",
            "crates/cloverleaf/src/registry.rs:2: may not import reactor",
        ),
        (
            "crates/cloverleaf/src/driver/mod.rs",
            "use self::epoll::Epoll;",
            "crates/cloverleaf/src/driver/mod.rs:1: may not import driver/epoll",
        ),
        (
            "crates/cloverleaf/src/error.rs",
            "fn f() { crate::registry::g() }",
            "crates/cloverleaf/src/error.rs:1: may not import registry",
        ),
        (
            "crates/cloverleaf/src/timers.rs",
            "",
            "crates/cloverleaf/src/timers.rs has no line in docs/ARCHITECTURE.md",
        ),
        (
            "python/cloverleaf/_loop.py",
            "from . import new_event_loop",
            "python/cloverleaf/_loop.py:1: may not import __init__",
        ),
    ],
)
def test_a_breach_is_told_with_its_place(
    checkout: Path, file: str, text: str, complaint: str
) -> None:
    (checkout / file).write_text(text, encoding="utf-8")
    assert check(checkout) == [complaint]


def test_a_line_without_its_file_is_told(checkout: Path) -> None:
    (checkout / "crates/cloverleaf/src/error.rs").unlink()
    named = "docs/ARCHITECTURE.md names crates/cloverleaf/src/error.rs, which does not exist"
    assert named in check(checkout)


def test_a_folder_without_a_table_is_told(checkout: Path) -> None:
    (checkout / "docs/ARCHITECTURE.md").write_text("no table", encoding="utf-8")
    assert "docs/ARCHITECTURE.md has no table for python/cloverleaf" in check(checkout)


def test_every_leaf_of_a_use_tree_is_an_import() -> None:
    text = "use crate::{driver::{self, epoll::Epoll as E, Token}, registry::*};"
    assert rust(text) == ["driver", "driver/epoll", "driver", "registry"]


def test_paths_in_expressions_are_imports() -> None:
    assert rust("let x = crate::driver::Token { slot: super::registry::next() };") == [
        "driver",
        "registry",
    ]


def test_comments_strings_and_test_modules_are_not_read() -> None:
    text = (
        '// use crate::driver::A;\n/* crate::driver */ const S: &str = "crate::driver::B";\n'
        "const C: char = '\"'; use crate::registry::R;\n"
        "#[cfg(test)]\nmod tests { use crate::driver::fake::Fake; fn f() { {} } }\n"
    )
    assert rust(text) == ["registry"]


def test_super_in_an_inline_module_is_the_file_itself() -> None:
    assert rust("mod inner { use super::Reactor; use super::super::registry::R; }") == [
        "reactor",
        "registry",
    ]


def test_paths_of_other_crates_are_not_ours() -> None:
    assert rust("use std::error::Error; use rustix::driver::X; my_crate::driver::f();") == []


def test_a_program_has_a_root_like_a_library(tmp_path: Path) -> None:
    assert module_of(tmp_path / "main.rs", tmp_path) == "lib"
    assert module_of(tmp_path / "driver/mod.rs", tmp_path) == "driver"
    assert module_of(tmp_path / "driver/main.rs", tmp_path) == "driver/main"


def test_python_imports_are_found_in_every_form() -> None:
    text = (
        "import cloverleaf._loop\nfrom cloverleaf._policy import P\nfrom . import files\n"
        "from .monitor import show\nimport asyncio\nfrom os import path\n"
    )
    modules = {"_loop", "_policy", "files", "monitor", "__init__"}
    found = [item.module for item in python_imports(text, "cloverleaf", modules)]
    assert found == ["_loop", "_policy", "files", "monitor"]


def test_all_but_names_what_is_left_out() -> None:
    row = read_row("event_loop.rs", "all but sys, lib")
    assert row.allows("driver")
    assert not row.allows("sys")
    assert not row.allows("sys/ring")
    assert not row.allows("lib")


def test_a_name_with_a_dot_is_in_the_same_folder() -> None:
    row = read_row("driver/epoll.rs", "sys, ./op")
    assert row.allows("driver/op")
    assert not row.allows("op")


def test_rows_outside_the_source_folders_are_not_read() -> None:
    table = read_table(PAGE, ["python/cloverleaf"])
    assert [row.file for row in table["python/cloverleaf"]] == [
        "__init__.py",
        "_loop.py",
        "_cloverleaf.pyi",
    ]
