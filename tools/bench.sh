#!/usr/bin/env bash
# Runs the benchmarks; they make an environment of their own, with the other loops beside Cloverleaf.
#
#   bash tools/bench.sh [arguments for benchmarks/run.py]
#
# PYTHON=python3.12 chooses the interpreter; without it, the newest that is found.
set -euo pipefail
# shellcheck source=tools/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"

require_rust
require_linker
PYTHONS=${PYTHON:-${PYTHONS:-}}
find_pythons
python=${PYTHON_PATHS[-1]}
exec "$python" benchmarks/run.py --python "$python" "$@"
