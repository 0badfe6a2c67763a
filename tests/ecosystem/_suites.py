"""What `suites.toml` says of each project's suite: where it is from and what is known of it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Suite:
    """One project's own tests."""

    name: str
    version: str
    sha256: str
    url: str | None = None
    arguments: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)
    also_on_asyncio: dict[str, str] = field(default_factory=dict)
    by_default: bool = False

    @property
    def requirements(self) -> Path:
        """Return the file that pins what the tests import."""
        return HERE / "requirements" / f"{self.name}.txt"


def read_suites(file: Path = HERE / "suites.toml") -> dict[str, Suite]:
    """Read the suites, in the order in which they stand there."""
    with file.open("rb") as stream:
        described = tomllib.load(stream)
    return {name: Suite(name=name, **keys) for name, keys in described.items()}


def reason_for(test: str, known: dict[str, str]) -> str | None:
    """Return why this test is known, or None if it is not."""
    return next((why for pattern, why in known.items() if fnmatchcase(test, pattern)), None)
