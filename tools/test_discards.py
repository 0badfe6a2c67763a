"""The search for discarded results finds them, and leaves bindings alone."""

from __future__ import annotations

import pytest

from discards import discards


@pytest.mark.parametrize(
    "line",
    [
        "_ = socket.shutdown();",
        "let _ = socket.shutdown();",
        "drop(result);",
        "socket.shutdown().ok();",
        "if let Some(socket) = &self.socket { socket.shutdown().ok(); }",
        "check(one == two).ok();",
        "_ = socket.shutdown().ok();",
        "let _ = socket.shutdown().ok();",
        "let _: Option<()> = socket.shutdown().ok();",
    ],
)
def test_a_discard_is_found_on_its_line(line: str) -> None:
    assert list(discards(f"fn f() {{\n    {line}\n}}\n")) == [(2, line)]


def test_a_discard_over_lines_is_found_where_it_ends() -> None:
    assert list(discards("fn f() {\n    socket\n        .shutdown().ok();\n}\n")) == [
        (3, ".shutdown().ok();")
    ]


@pytest.mark.parametrize(
    "line",
    [
        "let _guard = lock();",
        "_ => return,",
        "drop(guard);",
        "let found = value.parse().ok();",
        "let _found = value.parse().ok();",
        "self.found[at + 1] = value.parse().ok();",
        "self.found[self.at[0]].value = value.parse().ok();",
        "found |= value.parse().ok();",
        "let read =\n        || value.parse().ok();",
        "// _ = socket.shutdown();",
        'let text = "drop(result)";',
        "ignore(socket.shutdown());",
        "drop(slot.replace(object));",
    ],
)
def test_what_is_kept_or_said_is_no_discard(line: str) -> None:
    assert list(discards(f"fn f() {{\n    {line}\n}}\n")) == []


def test_the_function_ignore_and_tests_are_not_searched() -> None:
    ignore = "pub fn ignore<T, E>(result: Result<T, E>) {\n    drop(result);\n}\n"
    tests = "#[cfg(test)]\nmod tests { fn f() {\n let _ = g();\n } }\n"
    assert list(discards(ignore + tests + "_ = g();\n")) == [(8, "_ = g();")]
