#!/usr/bin/env python3
"""Hold classification.toml against what the probe saw, both ways.

    python run_cpython_suite.py --loop asyncio --include-white-box \\
        --probe evidence.json
    python check_classification.py evidence.json [...]

* A behavioural test that touches something private (and not harmless) is
  reported: it should be white-box, or the touch be declared harmless.
* A white-box test of which nothing private was seen is reported: it should be
  behavioural, unless the rule names its evidence.
Tests that a fake loop ran count as touching something private.
"""

from __future__ import annotations

import json
import re
import sys

from _classify import Classification


def check(path: str) -> list[str]:
    """Print and return the complaints about one file of evidence."""
    with open(path, encoding="utf-8") as f:
        evidence = json.load(f)
    rules = Classification(evidence["python"])
    complaints = []
    for test_id, seen in evidence["tests"].items():
        if seen["status"] not in ("passed", "failed"):
            continue
        kind, reason = rules.of(test_id)
        if kind == "duplicate":
            continue
        touched = list(seen["touched"])
        loops = seen["loops"] or {}
        if loops.get("fake_ran") and not loops.get("ran"):
            touched.append("only a fake loop ran")
        hard = [t for t in touched if not any(re.fullmatch(h, t) for h in rules.harmless)]
        if kind == "behavioural" and hard:
            complaints.append(f"{test_id} touches {', '.join(hard)}")
        elif (
            kind == "white-box"
            and not touched
            and not any(
                pattern in rules.by_hand for _, pattern, why in rules.rules if why == reason
            )
        ):
            complaints.append(f"{test_id}: nothing private seen ({reason})")
    unused = {p for _, p, _ in rules.rules} - rules.used
    print(
        f"Python {evidence['python']}: {len(evidence['tests'])} tests, "
        f"{len(complaints)} complaints; {len(unused)} patterns match no test "
        f"of this Python"
    )
    for line in complaints:
        print("  " + line)
    return complaints


def main() -> int:
    """Check every file named."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    return 1 if sum(len(check(path)) for path in sys.argv[1:]) else 0


if __name__ == "__main__":
    sys.exit(main())
