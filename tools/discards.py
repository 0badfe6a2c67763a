"""Finds results that Rust code throws away in silence, where clippy does not look.

    python tools/discards.py

`_ = expression;`, `drop(result)` and `.ok();` say neither that something is discarded nor why; the
one way to say it is the function `ignore`, the only one that is not searched. Bindings (`let _guard
= …`), match arms and tests are no discards.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from imports import without_block, without_noise, without_tests

DISCARD = re.compile(
    r"""^\s*(?:let\s+)?_\s*=[^=>]      # _ = …;
    | \bdrop\(\s*(?:result|res|outcome|sent|written|received)\s*\)
    | \.ok\(\)\s*;                     # ….ok();
    """,
    re.VERBOSE | re.MULTILINE,
)
BOUND = re.compile(
    r"""\s*(?!(?:let\s+)?_\s*[:=])
    (?:let\b[^;{}=]*
    | [\w.*]+(?:\[[^;{}=]*\][\w.]*)?\s*(?:[-+*/%^&|]|<<|>>)?
    )=(?![=>])[^;{}]*\.ok\(\)\s*;
    """,
    re.VERBOSE,
)
IGNORE = re.compile(r"\bfn ignore\b[^{]*\{")


def discards(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the line of each discard in a Rust source."""
    lines = text.splitlines()
    bare = without_tests(without_noise(text))
    for found in list(IGNORE.finditer(bare)):
        bare = without_block(bare, found.start(), found.end() - 1)
    found_at: set[int] = set()
    for found in DISCARD.finditer(bare):
        start = found.start() + len(found[0]) - len(found[0].lstrip())
        if not BOUND.match(bare, begin_of_statement(bare, start)):
            found_at.add(bare.count("\n", 0, start))
    for line in sorted(found_at):
        yield line + 1, lines[line].strip()


def begin_of_statement(bare: str, at: int) -> int:
    """Where the statement begins that the position is in; it may have begun lines before."""
    return max(bare.rfind(end, 0, at) for end in ";{}") + 1


def main() -> int:
    """Print every discard below crates/ and a closing line."""
    top = Path(__file__).parent.parent
    count = 0
    for path in sorted(top.glob("crates/*/src/**/*.rs")):
        for line, text in discards(path.read_text(encoding="utf-8")):
            print(f"{path.relative_to(top)}:{line}: {text}")
            count += 1
    print(f"discards: {count} found")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
