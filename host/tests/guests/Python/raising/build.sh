#!/bin/sh
set -eu
cd "$(dirname "$0")"
root=../../../../..
modules=$(mktemp -d)
trap 'rm -rf "$modules"' EXIT
cp plugin.py "$root/plugin-sdk/python/arcyou.py" "$modules"
# The tool of the plugin that is shipped.
"$root/plugins/Python/script-guard/.venv/bin/componentize-py" --quiet --wit-path "$root/plugin-sdk/worlds" --world validate \
    componentize plugin --python-path "$modules" --stub-wasi --output "$1"
