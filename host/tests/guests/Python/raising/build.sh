#!/bin/sh
set -eu
cd "$(dirname "$0")"
root=../../../../..
# The tool of the plugin that is shipped.
export VIRTUAL_ENV="$root/plugins/Python/script-guard/.venv"

modules=$(mktemp -d)
trap 'rm -rf "$modules"' EXIT
cp plugin.py "$root/plugin-sdk/python/arcyou.py" "$modules"
"$VIRTUAL_ENV/bin/componentize-py" --quiet --wit-path "$root/plugin-sdk/worlds" --world validate componentize plugin \
    --python-path "$modules" --stub-wasi --output "$1"
