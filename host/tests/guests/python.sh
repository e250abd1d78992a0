# Builds the plugin in the working folder, with the tool of the plugin that is shipped, to the file that is named to it.
root=../../../../..
export VIRTUAL_ENV="$root/plugins/Python/script-guard/.venv"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir "$made/modules"
cp -r plugin.py "$root/plugin-sdk/python/arcyou" "$made/modules"
"$VIRTUAL_ENV/bin/python" -B "$root/plugin-sdk/python/world.py" "$made/modules" "$made/wit"
"$VIRTUAL_ENV/bin/componentize-py" --quiet --wit-path "$made/wit" --world plugin componentize plugin \
    --python-path "$made/modules" --stub-wasi --output "$1"
