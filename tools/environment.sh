# What the scripts in this folder need of a machine: Rust, a linker, Pythons, virtual environments.
#
# Sourced, never run. Promises: works where only Rust and Python 3.11 or later are installed; asks
# apt for what is missing when it may (root, or sudo without a password) and says what to install
# when it may not; writes nothing outside the project but through apt, cargo and pip.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
OLDEST_PYTHON=11
NEWEST_PYTHON=15
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
export PYO3_BUILD_EXTENSION_MODULE=1 # the interpreter is there when the module is loaded

say() { printf '\n==> %s\n' "$*"; }
die() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

# -- the system's packages ---------------------------------------------------------------------

# as_root COMMAND...: runs it as root where that needs no password; fails where it does.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# apt_install PACKAGE...: best effort; the caller checks whether what it wanted is there now.
apt_install() {
    command -v apt-get >/dev/null || return 1
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends)
    say "installing with apt: $*"
    as_root "${install[@]}" "$@" </dev/null && return 0
    as_root apt-get update -q </dev/null && as_root "${install[@]}" "$@" </dev/null
}

require_linker() {
    command -v cc >/dev/null && return 0
    apt_install gcc libc6-dev
    command -v cc >/dev/null ||
        die "Rust needs a C linker (cc), and there is none: apt-get install gcc libc6-dev"
}

require_rust() {
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    command -v cargo >/dev/null || die "no cargo found: install Rust from https://rustup.rs"
    local wanted have
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -1)
    have=$(cd "$ROOT" && rustc --version | cut -d' ' -f2)
    if [[ $(printf '%s\n' "$wanted" "${have%%-*}" | sort -V | head -1) != "$wanted" ]]; then
        die "Rust $wanted or later is needed, and this is $have: rustup update stable"
    fi
}

# -- Pythons -----------------------------------------------------------------------------------

# describe_python COMMAND [t]: "3.12 yes /path/to/python3.12" (yes: CPython's own tests are installed);
# fails for what is no CPython, has no GIL (with t: has one), or is a shim that leads nowhere.
describe_python() {
    "$1" -I -c '
import importlib.util, sys, sysconfig
free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
if sys.implementation.name != "cpython" or free_threaded != sys.argv[1]:
    raise SystemExit(1)
try:
    tests = importlib.util.find_spec("test.test_asyncio")
except ImportError:
    tests = None
print(f"3.{sys.version_info.minor}", "yes" if tests else "no", sys._base_executable)
' "${2:-}" 2>/dev/null </dev/null
}

# candidates VERSION: every command that may be that Python, the PATH's first, then pyenv's.
# VERSION is 3.14, or 3.14t for the one without the GIL.
candidates() {
    local pyenv_root=${PYENV_ROOT:-}
    if [[ -z $pyenv_root ]] && command -v pyenv >/dev/null; then pyenv_root=$(pyenv root); fi
    type -aP "python$1" python3 python || true
    find "${pyenv_root:-$HOME/.pyenv}/versions" -mindepth 3 -maxdepth 3 -path "*/bin/python$1" \
        2>/dev/null | sort -Vr
}

# find_python VERSION: the interpreter's path. One that has CPython's own tests is preferred, since
# the conformance run needs them; otherwise the first that answers.
find_python() {
    local candidate version tests path first=
    while read -r candidate; do
        read -r version tests path < <(describe_python "$candidate") || continue
        [[ $version == "$1" ]] || continue
        if [[ $tests == yes ]]; then
            printf '%s\n' "$path"
            return 0
        fi
        first=${first:-$path}
    done < <(candidates "$1")
    [[ -n $first ]] && printf '%s\n' "$first"
}

# resolve_python NAME: NAME is 3.12, python3.12, or the path of an interpreter.
resolve_python() {
    local version tests path
    if [[ $1 =~ ^(python)?(3\.[0-9]+)$ ]]; then
        find_python "${BASH_REMATCH[2]}" || die "no CPython ${BASH_REMATCH[2]} found for '$1'"
    else
        read -r version tests path < <(describe_python "$1") || die "'$1' is not a CPython we can use"
        : "$version $tests"
        printf '%s\n' "$path"
    fi
}

# find_pythons: fills PYTHON_PATHS with every Python we support that is here, oldest first, or with
# those that the PYTHONS variable names.
find_pythons() {
    local name path
    PYTHON_PATHS=()
    for name in ${PYTHONS:-}; do
        path=$(resolve_python "$name") || exit 1
        PYTHON_PATHS+=("$path")
    done
    ((${#PYTHON_PATHS[@]})) && return 0
    for ((name = OLDEST_PYTHON; name <= NEWEST_PYTHON; name++)); do
        path=$(find_python "3.$name") && PYTHON_PATHS+=("$path")
    done
    ((${#PYTHON_PATHS[@]})) || die "no Python 3.$OLDEST_PYTHON or later found: apt-get install python3"
}

# find_free_threaded VERSION: the path of that Python without the GIL.
find_free_threaded() {
    local candidate version path
    while read -r candidate; do
        read -r version _ path < <(describe_python "$candidate" t) || continue
        [[ $version == "$1" ]] || continue
        printf '%s\n' "$path"
        return 0
    done < <(candidates "$1t")
    return 1
}

# version_of PYTHON: 3.12, or 3.14t
version_of() {
    "$1" -I -c '
import sys, sysconfig
print(f"3.{sys.version_info.minor}" + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))
'
}

# -- virtual environments ----------------------------------------------------------------------

# make_venv PYTHON FOLDER: a virtual environment of PYTHON with a pip that knows dependency groups.
make_venv() {
    local python=$1 folder=$2 version
    if [[ $("$folder/bin/python" -I -c 'import sys; print(sys._base_executable)' 2>/dev/null) != "$python" ]]; then
        rm -rf "$folder"
        mkdir -p "$(dirname "$folder")"
        version=$(version_of "$python")
        if ! "$python" -I -c 'import ensurepip, venv' 2>/dev/null; then
            apt_install "python$version-venv" || apt_install python3-venv || true
        fi
        if "$python" -I -c 'import ensurepip, venv' 2>/dev/null; then
            "$python" -I -m venv "$folder"
        else
            venv_without_ensurepip "$python" "$folder"
        fi
    fi
    "$folder/bin/python" -I -m pip install -q --upgrade 'pip>=25.1'
}

# Debian takes ensurepip out of its Python. virtualenv needs neither it nor root: by the system's pip
# where there is one, else as PyPA's zipapp.
venv_without_ensurepip() {
    local python=$1 folder=$2 tool=$ROOT/target/virtualenv
    say "$python has no ensurepip, and apt cannot be asked: fetching virtualenv"
    mkdir -p "$tool"
    if "$python" -I -m pip --version >/dev/null 2>&1; then
        "$python" -I -m pip install -q --target "$tool" virtualenv &&
            PYTHONPATH=$tool "$python" -m virtualenv -q "$folder" && return 0
    fi
    "$python" -I -c '
import sys, urllib.request
urllib.request.urlretrieve("https://bootstrap.pypa.io/virtualenv.pyz", sys.argv[1])
' "$tool/virtualenv.pyz" && "$python" "$tool/virtualenv.pyz" -q "$folder" && return 0
    die "no virtual environment can be made: apt-get install python$(version_of "$python")-venv"
}

# install_groups VENV GROUP...: dependency groups of pyproject.toml.
install_groups() {
    local venv=$1 group arguments=()
    shift
    for group; do arguments+=(--group "$ROOT/pyproject.toml:$group"); done
    "$venv/bin/python" -I -m pip install -q "${arguments[@]}"
}

# make_venv_if_online PYTHON FOLDER GROUP...: an environment with dependency groups; status 77, and a
# line that says why, where they are not there yet and the package index cannot be reached.
make_venv_if_online() {
    local python=$1 folder=$2
    shift 2
    make_venv "$python" "$folder" && install_groups "$folder" "$@" && return 0
    index_answers "$folder" && return 1
    printf 'skipped, the package index cannot be reached\n'
    return 77
}

# index_answers VENV: whether the environment's pip reaches the package index.
index_answers() {
    "$1/bin/python" -I -m pip index versions pip --retries 0 --timeout 10 >/dev/null 2>&1
}

# wheel_of VENV: the wheel that was built for the environment's Python.
wheel_of() { ls "$ROOT/target/wheels/$(version_of "$1/bin/python")"/*.whl; }

# build_free_threaded VENV VERSION: builds a wheel for that Python without the GIL, which need not be
# there, and looks whether it was compiled for it. As a debug build: what matters is that it links.
build_free_threaded() {
    local venv=$1 version=$2 wheels=$ROOT/target/wheels/$2t config=$ROOT/target/python-$2t.txt
    printf '%s\n' implementation=CPython "version=$version" shared=false pointer_width=64 \
        build_flags=Py_GIL_DISABLED >"$config"
    rm -rf "$wheels"
    (cd "$ROOT" && PYO3_CONFIG_FILE=$config CARGO_TARGET_DIR=$ROOT/target/free-threaded \
        "$venv/bin/maturin" build --profile dev --auditwheel skip --interpreter "python${version}t" \
        --target "$(rustc -vV | sed -n 's/^host: //p')" --out "$wheels") || return 1
    "$venv/bin/python" -I "$ROOT/tools/free_threaded.py" "$wheels"/*.whl "$version"
}

# install_cloverleaf VENV: builds the release wheel for the environment's Python and installs it.
install_cloverleaf() {
    local venv=$1 wheels
    wheels=$ROOT/target/wheels/$(version_of "$venv/bin/python")
    rm -rf "$wheels"
    (cd "$ROOT" && "$venv/bin/maturin" build --release --auditwheel skip \
        --interpreter "$venv/bin/python" --out "$wheels") || return 1
    "$venv/bin/python" -I -m pip install -q --force-reinstall --no-deps --no-index "$wheels"/*.whl || return 1
    "$venv/bin/python" -I -c 'import cloverleaf; print("installed:", cloverleaf.__file__)'
}
