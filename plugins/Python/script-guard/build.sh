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
modules=$(mktemp -d)
trap 'rm -rf "$modules"' EXIT
cp ./*.py "$sdk/python/arcyou.py" "$modules"
VIRTUAL_ENV=$PWD/.venv .venv/bin/componentize-py --quiet --wit-path "$sdk/worlds" --world validate componentize plugin \
    --python-path "$modules" --stub-wasi --output "$1"
