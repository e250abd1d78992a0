#!/usr/bin/env bash
# Checks what comes from outside, by deny.toml. Without a network it checks what it can, and says what it leaves out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf 'deny: %s\n' "$*" >&2; }

tool=${CARGO_TARGET_DIR:-target}/tools/deny/bin/cargo-deny
[ -x "$tool" ] || tool=$(command -v cargo-deny) || {
    say "nothing is checked: there is no cargo-deny"
    exit 0
}
# Those for other systems too.
cargo fetch --locked --quiet 2>/dev/null || {
    say "nothing is checked: not all crates are here, and they cannot be fetched"
    exit 0
}
deny=("$tool" --locked)
checks=(bans licenses sources)
if timeout 120 "$tool" --locked fetch db >/dev/null 2>&1; then
    checks+=(advisories)
else
    say "advisories are not checked: their database cannot be fetched"
    deny+=(--offline)
fi
"${deny[@]}" --log-level error check "${checks[@]}"

# A warning, in one line.
twice=$("${deny[@]}" --log-level warn check --hide-inclusion-graph bans 2>&1 |
    sed -n "s/^warning\[duplicate\].* crate '\(.*\)'$/\1/p" | paste -sd ' ')
[ -z "$twice" ] || say "in more than one version (cargo deny check bans says why): $twice"
