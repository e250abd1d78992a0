#!/bin/sh
# Writes the component to the file that is named to it.
set -eu
cd "$(dirname "$0")"
sdk=../../../plugin-sdk

[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund
# Files outside of the module root cannot be imported.
exec node_modules/.bin/componentize-qjs --wit "$sdk/worlds" --world validate --js plugin.js --module-root "$sdk/.." \
    --stub-wasi --sync --output "$1"
