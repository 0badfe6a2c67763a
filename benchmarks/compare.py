#!/usr/bin/env python3
"""Compares two commits of Cloverleaf: `python3 benchmarks/compare.py --help` says how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.suite.compare import main

if __name__ == "__main__":
    sys.exit(main())
