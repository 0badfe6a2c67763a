"""Reads classification.toml: which tests cannot be asked of another loop."""

from __future__ import annotations

import fnmatch
import os
import tomllib

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "classification.toml")
KINDS = ("white-box", "duplicate")


class Classification:
    """The rules for one Python; `python` is the tests' version, such as "3.13.0"."""

    def __init__(self, python: str, path: str = FILE) -> None:
        minor = ".".join(python.split(".")[:2])
        with open(path, "rb") as f:
            data = tomllib.load(f)
        self.modules: dict[str, str] = data.get("modules", {})
        self.harmless: dict[str, str] = data.get("harmless", {})
        self.rules: list[tuple[str, str, str]] = []  # (kind, pattern, reason)
        self.by_hand: set[str] = set()  # patterns that the probe cannot bear out
        self.used: set[str] = set()
        for kind in KINDS:
            for rule in data.get(kind, ()):
                if minor not in rule.get("pythons", [minor]):
                    continue
                for pattern in rule["tests"]:
                    self.rules.append((kind, pattern, rule["reason"]))
                    if "evidence" in rule:
                        self.by_hand.add(pattern)

    def of(self, test_id: str) -> tuple[str, str]:
        """Return (kind, reason); kind is "behavioural" where no rule matches."""
        for kind, pattern, reason in self.rules:
            if fnmatch.fnmatchcase(test_id, pattern):
                self.used.add(pattern)
                return kind, reason
        return "behavioural", ""
