#!/usr/bin/env bash
# Sets everything up in .venv and shows a real HTTP server on Cloverleaf, beside stdlib asyncio.
#
#   bash tools/demo.sh [arguments for examples/demo.py]
#
# PYTHON=python3.12 chooses the interpreter; without it, python3 if it is new enough, else the
# newest that is found. Afterwards .venv/bin/python has Cloverleaf, aiohttp and uvicorn.
set -euo pipefail
# shellcheck source=tools/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"

choose_python() {
    local version tests path
    if [[ -n ${PYTHON:-} ]]; then
        resolve_python "$PYTHON"
    elif read -r version tests path < <(describe_python python3) && ((${version#3.} >= OLDEST_PYTHON)); then
        : "$tests"
        printf '%s\n' "$path"
    else
        find_pythons
        printf '%s\n' "${PYTHON_PATHS[-1]}"
    fi
}

require_rust
require_linker
python=$(choose_python)
say "making .venv with $python ($("$python" -I -V))"
make_venv "$python" .venv
install_groups .venv build demo
say "building Cloverleaf and installing it into .venv"
install_cloverleaf "$ROOT/.venv"
say "running examples/demo.py"
.venv/bin/python examples/demo.py "$@"
cat <<'END'

.venv is ready. Try:
    .venv/bin/python -c 'import asyncio, cloverleaf; cloverleaf.run(asyncio.sleep(0.1))'
    .venv/bin/uvicorn --loop cloverleaf:new_event_loop MODULE:APP
END
