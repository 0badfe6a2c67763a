#!/usr/bin/env python3
"""Runs the benchmarks: `python3 benchmarks/run.py --help` says how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.suite.main import main

if __name__ == "__main__":
    sys.exit(main())
