#!/usr/bin/env bash
# On a CI machine: asks apt for what some tests need beyond Rust and Python. Best effort.
#
# redis-server      tests/integration runs redis-py against it, and skips with a reason without it
# postgresql        the same for asyncpg
# libpython3.X-testsuite   CPython's own tests for the system's Python (pyenv's Pythons have them)
#
# Anywhere else this only says what is missing: a test run should not start a daemon on your machine.
set -euo pipefail
# shellcheck source=tools/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
find_pythons
for python in "${PYTHON_PATHS[@]}"; do
    read -r version tests _ < <(describe_python "$python")
    if [[ $tests == no && $python == /usr/bin/* ]]; then missing+=("libpython$version-testsuite"); fi
done
if ((!${#missing[@]})); then
    echo "nothing is missing"
elif [[ ${CI:-} == true ]]; then
    for package in "${missing[@]}"; do
        apt_install "$package" || echo "$package could not be installed: the tests that need it will skip"
    done
else
    echo "not installed, and what needs it will be skipped: ${missing[*]}"
fi
