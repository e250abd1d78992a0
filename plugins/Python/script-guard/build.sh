#!/bin/sh
# Writes the component to the file that is named to it.
set -eu
cd "$(dirname "$0")"
sdk=../../../plugin-sdk

if ! cmp -s requirements.txt .venv/requirements.txt; then
    python3 -m venv --clear .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --no-input --only-binary=:all: --require-hashes -r requirements.txt
    cp requirements.txt .venv/
fi
# A copy, since Python leaves its own files beside what it imports.
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir "$made/modules"
cp -r ./*.py "$sdk/python/arcyou" "$made/modules"
# The hooks are those whose classes the module has.
.venv/bin/python -B "$sdk/python/world.py" "$made/modules" "$made/wit"
VIRTUAL_ENV=$PWD/.venv .venv/bin/componentize-py --quiet --wit-path "$made/wit" --world plugin componentize plugin \
    --python-path "$made/modules" --stub-wasi --output "$1"
