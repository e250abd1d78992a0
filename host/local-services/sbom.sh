#!/usr/bin/env bash
# Lists what the gateway and the worker are made of: one CycloneDX document each, held against its schema.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

target=${CARGO_TARGET_DIR:-target}
out=$target/sbom
name=sbom-$$

# The tool writes one beside the Cargo.toml of each member.
trap 'find . \( -path ./target -o -name node_modules \) -prune -o -name "$name.json" -exec rm {} +' EXIT
"$target/tools/bin/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 --override-filename "$name"

mkdir -p "$out"
# Where it was built is nobody's business.
sed "s|file://$PWD/|file:///|g" "host/$name.json" >"$out/arcyou-gateway.cdx.json"
sed "s|file://$PWD/|file:///|g" "worker/$name.json" >"$out/arcyou-outbox-worker.cdx.json"
node host/local-services/tools/sbom/validate.mjs "$out"/*.cdx.json
