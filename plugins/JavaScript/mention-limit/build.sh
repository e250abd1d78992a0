#!/bin/sh
# Writes the component to the file that is named to it.
set -eu
cd "$(dirname "$0")"
sdk=../../../plugin-sdk

[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund
# The hooks are those that the module exports.
world=$(mktemp -d)
trap 'rm -rf "$world"' EXIT
node "$sdk/javascript/world.mjs" plugin.js "$world"
# Files outside of the module root cannot be imported.
node_modules/.bin/componentize-qjs --wit "$world" --world plugin --js plugin.js --module-root "$sdk/.." \
    --stub-wasi --sync --output "$1"
