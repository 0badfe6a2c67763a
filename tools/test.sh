#!/usr/bin/env bash
# Sets everything up and runs every check and test of the project.
#
#   bash tools/test.sh [STAGE ...]
#
#   lint             rustfmt, clippy, cargo doc, layers, discards, ruff, mypy, shellcheck
#   rust             unit and integration tests, documentation's examples, loom models
#   python           for each Python: release wheel, in a clean environment too; parity, integration,
#                    stress and memory tests; on the newest also stubtest, and parity and stress
#                    with epoll alone, with a ring demanded, and where io_uring is refused
#   conformance      for each Python: CPython's own tests, every module; on the newest, the same three
#   free-threaded    wheels for 3.14t and 3.15t; where such a Python is, its parity and stress tests
#   ecosystem        newest Python: the own tests of anyio, aiohttp, uvicorn, websockets, httpcore,
#                    starlette, aiosqlite, aioquic, pyzmq, Twisted and aiofiles
#
# No stage means all of them. PYTHONS="3.12 /path/to/python3.13" chooses interpreters; without it
# every Python 3.11 to 3.15 on the PATH and in pyenv is used. Each has its environment in .venvs, and
# each step its log in target/logs. A step that fails does not stop the next; the end tells all.
set -uo pipefail
# shellcheck source=tools/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=tools/steps.sh
. "$ROOT/tools/steps.sh"
cd "$ROOT" || exit 1

LOGS=$ROOT/target/logs

# -- environments ------------------------------------------------------------------------------

venv_of() { printf '%s\n' "$ROOT/.venvs/$(version_of "$1")"; }

# prepare PYTHON: its environment, with everything but Cloverleaf.
declare -A PREPARED=() INSTALLED=()
prepare() {
    local groups=(build test)
    [[ -n ${PREPARED[$1]:-} ]] && return "${PREPARED[$1]}"
    [[ $1 == "$PRIMARY" ]] && groups+=(lint)
    step "environment $(version_of "$1")" set_up "$1" "${groups[@]}"
    PREPARED[$1]=$?
    return "${PREPARED[$1]}"
}

set_up() {
    local python=$1 venv
    shift
    venv=$(venv_of "$python")
    make_venv "$python" "$venv" && install_groups "$venv" "$@" && "$venv/bin/python" -V
}

# build PYTHON: Cloverleaf in its environment, built once a run.
build() {
    prepare "$1" || return
    [[ -n ${INSTALLED[$1]:-} ]] && return "${INSTALLED[$1]}"
    step "wheel $(version_of "$1")" limited_install "$(venv_of "$1")"
    INSTALLED[$1]=$?
    return "${INSTALLED[$1]}"
}

limited_install() { install_cloverleaf "$1"; }

# -- stages ------------------------------------------------------------------------------------

stage_lint() {
    local venv
    require_component rustfmt fmt
    require_component clippy clippy
    step rustfmt cargo fmt --all --check
    step clippy cargo clippy --workspace --all-targets --quiet -- -D warnings
    step 'cargo doc' env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
    if cargo deny --version >/dev/null 2>&1; then
        step 'cargo deny' cargo deny check bans licenses sources
    else
        skip 'cargo deny' 'cargo-deny is not installed'
    fi
    prepare "$PRIMARY" || return
    venv=$(venv_of "$PRIMARY")
    step layers "$venv/bin/python" tools/layers.py
    step discards "$venv/bin/python" tools/discards.py
    step 'tests of the tools' "$venv/bin/python" -m pytest -q tools benchmarks tests/ecosystem
    step 'ruff format' "$venv/bin/ruff" format --check .
    step 'ruff check' "$venv/bin/ruff" check .
    step mypy "$venv/bin/mypy"
    step shellcheck "$venv/bin/shellcheck" -x tools/*.sh .ci/run
}

require_component() {
    cargo "$2" --version >/dev/null 2>&1 || rustup component add "$1" || true
}

stage_rust() {
    if cargo nextest --version >/dev/null 2>&1; then
        step 'cargo nextest' limited cargo nextest run --workspace "${NOT_THE_BINDING[@]}"
    else
        step 'cargo test' limited cargo test --workspace "${NOT_THE_BINDING[@]}" --lib --bins --tests --examples
    fi
    step 'cargo test, no ring' limited "$PRIMARY" tools/refuse_io_uring.py \
        cargo test -p cloverleaf --test ring --test driver_contract
    # Its parts that call nothing of Python's, which is not linked; its folder is its own, for the other flags.
    step "the binding's unit tests" limited env CARGO_TARGET_DIR="$ROOT/target/binding" \
        RUSTFLAGS='-C relro-level=partial -C link-args=-Wl,-z,lazy,--unresolved-symbols=ignore-all' \
        cargo test -p cloverleaf-python --lib
    step 'doc examples' limited cargo test --workspace "${NOT_THE_BINDING[@]}" --doc
    # Optimised, since loom runs a test many thousand times; not linked as a release is.
    step 'loom models' limited env RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR="$ROOT/target/loom" \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo test -p cloverleaf --release --test loom_injector --test loom_guard
}
# The binding has no main program to run all of it in but Python: tests/ has most of its tests, and all of those of
# cloverleaf-futures. The floor has none.
NOT_THE_BINDING=(--exclude cloverleaf-python --exclude cloverleaf-futures --exclude cloverleaf-floor)

stage_python() {
    local python venv version
    for python in "${PYTHON_PATHS[@]}"; do
        version=$(version_of "$python")
        venv=$(venv_of "$python")
        build "$python" || continue
        step "pytest $version" limited "$venv/bin/python" -m pytest \
            tests/parity tests/integration tests/stress tests/memory
        step "clean environment $version" limited env CLOVERLEAF_WHEEL="$(wheel_of "$venv")" \
            "$venv/bin/python" -m pytest tests/wheels
        if [[ $python == "$PRIMARY" ]]; then
            test_backends "$venv/bin/python" "$version"
            step "stubtest $version" "$venv/bin/stubtest" --allowlist tools/stubtest_allowed.txt \
                --ignore-unused-allowlist --ignore-disjoint-bases cloverleaf
        fi
    done
}

# Each test is for a loop that chooses for itself, on every Python; and on the newest for one that has
# only epoll, one that is to use io_uring for all it can, and one to which the kernel refuses it.
BACKENDS=(epoll io_uring refused)

# on_backend NAME: the command under which programs have such a loop, in UNDER.
on_backend() {
    if [[ $1 == refused ]]; then
        UNDER=("$PRIMARY" tools/refuse_io_uring.py)
    else
        UNDER=(env "CLOVERLEAF_BACKEND=$1")
    fi
}

# backend_step NAME BACKEND COMMAND...: a step, unless this kernel has no such loop.
backend_step() {
    local name="$1, io_uring refused" backend=$2
    [[ $backend == refused ]] || name="$1, $backend"
    if [[ $backend == io_uring ]] && ! has_a_ring; then
        skip "$name" 'io_uring is refused here'
        return
    fi
    on_backend "$backend"
    step "$name" limited "${UNDER[@]}" "${@:3}"
}

has_a_ring() {
    "$(venv_of "$PRIMARY")/bin/python" -c \
        'import cloverleaf; cloverleaf.new_event_loop(backend="io_uring").close()'
}

# test_backends PYTHON VERSION
test_backends() {
    local backend
    for backend in "${BACKENDS[@]}"; do
        backend_step "pytest $2" "$backend" \
            "$1" -m pytest --loops cloverleaf tests/parity tests/stress
    done
}

stage_conformance() {
    local python
    for python in "${PYTHON_PATHS[@]}"; do conformance "$python"; done
}

conformance() {
    local python=$1 version tests backend suite
    read -r version tests _ < <(describe_python "$python")
    if [[ $tests == no ]]; then
        skip "conformance $version" "$python comes without CPython's own tests"
        return
    fi
    build "$python" || return
    mkdir -p target/conformance
    suite=("$(venv_of "$python")/bin/python" tests/conformance/run_cpython_suite.py
        --loop cloverleaf -j 2 --timeout 100 --retries 2
        --known-failures tests/conformance/known_failures/cloverleaf.txt)
    step "conformance $version" limited "${suite[@]}" --json "target/conformance/$version.json"
    [[ $python == "$PRIMARY" ]] || return
    for backend in "${BACKENDS[@]}"; do
        backend_step "conformance $version" "$backend" \
            "${suite[@]}" --json "target/conformance/$version-$backend.json"
    done
}

stage_ecosystem() {
    local version venv
    version=$(version_of "$PRIMARY")
    venv=$(venv_of "$PRIMARY")
    build "$PRIMARY" || return
    step "ecosystem $version" limited "$venv/bin/python" tests/ecosystem/run_suites.py \
        --wheel "$(wheel_of "$venv")"
    step "aiofiles $version" test_aiofiles "$venv" "$ROOT/.venvs/files-$version"
}

# test_aiofiles VENV OWN: aiofiles' tests of our module, in an environment of their own.
test_aiofiles() {
    make_venv_if_online "$PRIMARY" "$2" files-ecosystem || return
    "$2/bin/python" -I -m pip install -q --force-reinstall --no-deps --no-index \
        "$(wheel_of "$1")" &&
        limited "$2/bin/python" -m pytest tests/files_ecosystem
}

# PyO3 knows 3.14t and 3.15t, and needs neither to compile and link for it.
stage_free_threaded() {
    local version python
    prepare "$PRIMARY" || return
    for version in 3.14 3.15; do
        step "wheel ${version}t" build_free_threaded "$(venv_of "$PRIMARY")" "$version" || continue
        if python=$(find_free_threaded "$version"); then
            step "environment ${version}t" set_up "$python" loop-test || continue
            step "pytest ${version}t" test_free_threaded "$python"
        else
            skip "pytest ${version}t" "no free-threaded Python $version is here"
        fi
    done
}

test_free_threaded() {
    local venv wheel
    venv=$(venv_of "$1")
    wheel=$(wheel_of "$venv")
    "$venv/bin/python" -I -m pip install -q --force-reinstall --no-deps --no-index "$wheel" &&
        "$venv/bin/python" -W error -c 'import sys, cloverleaf; sys.exit(sys._is_gil_enabled())' &&
        limited env PYTHON_GIL=0 "$venv/bin/python" -m pytest tests/parity tests/stress
}

# -- the run -----------------------------------------------------------------------------------

stages=("$@")
((${#stages[@]})) || stages=(lint rust python conformance free-threaded ecosystem)
for stage in "${stages[@]}"; do
    declare -F "stage_${stage//-/_}" >/dev/null || die "no stage '$stage'; see the head of tools/test.sh"
done

require_rust
require_linker
find_pythons
PRIMARY=${PYTHON_PATHS[-1]}
export PYO3_PYTHON=$PRIMARY
mkdir -p "$LOGS"
say "Pythons: ${PYTHON_PATHS[*]}"
step 'system packages' bash tools/system_packages.sh
for stage in "${stages[@]}"; do "stage_${stage//-/_}"; done
summary
