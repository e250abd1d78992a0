#!/bin/sh
set -eu
cd "$(dirname "$0")"
root=../../../../..
# The tool of the plugin that is shipped.
exec "$root/plugins/JavaScript/mention-limit/node_modules/.bin/componentize-qjs" --wit "$root/plugin-sdk/worlds" \
    --world validate --js plugin.js --module-root "$root" --stub-wasi --sync --output "$1"
