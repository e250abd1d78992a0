# Builds the plugin in the working folder, with the tool of the plugin that is shipped, to the file that is named to it.
root=../../../../..
world=$(mktemp -d)
trap 'rm -rf "$world"' EXIT
node "$root/plugin-sdk/javascript/world.mjs" plugin.js "$world"
"$root/plugins/JavaScript/mention-limit/node_modules/.bin/componentize-qjs" --wit "$world" --world plugin --js plugin.js \
    --module-root "$root" --stub-wasi --sync --output "$1"
