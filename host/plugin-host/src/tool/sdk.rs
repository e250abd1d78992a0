//! The SDK that belongs to this gateway. The binary contains its sources, so that authors need no copy of the
//! repository.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use include_dir::{Dir, include_dir};
use toml::{Table, Value};

static SOURCES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugin-sdk");
/// The workspace that the SDK's manifests inherit from.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");
const MANIFEST: &str = "Cargo.toml";
const NAME: &str = "arcyou-plugin-sdk";

/// Writes the SDK to `dir`, which must be new, empty, or contain an SDK already.
pub(super) fn write(dir: &Path) -> anyhow::Result<()> {
    if !is_empty(dir) && !is_sdk(dir) {
        bail!("{} is not empty, and does not contain an SDK", dir.display());
    }
    write_folder(&SOURCES, dir)
}

/// Whether a directory contains an SDK.
pub(super) fn is_sdk(dir: &Path) -> bool {
    let manifest = fs::read_to_string(dir.join(MANIFEST)).ok().and_then(|text| text.parse::<Table>().ok());
    manifest.is_some_and(|table| {
        table.get("package").and_then(|package| package.get("name")).and_then(Value::as_str) == Some(NAME)
    })
}

/// Whether a directory is missing or empty.
pub(super) fn is_empty(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn write_folder(folder: &Dir<'_>, out: &Path) -> anyhow::Result<()> {
    for file in folder.files() {
        let path = out.join(file.path());
        let name = path.file_name().unwrap_or_default();
        let content = match file.contents_utf8() {
            Some(manifest) if name == MANIFEST => standalone(manifest)?.into_bytes(),
            _ => file.contents().to_vec(),
        };
        write_file(&path, content)?;
    }
    folder.dirs().try_for_each(|folder| write_folder(folder, out))
}

/// Writes a file, and creates the folders above it.
pub(super) fn write_file(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let dir = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(path, content));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// A manifest that inherits nothing, as `cargo package` writes it.
fn standalone(manifest: &str) -> anyhow::Result<String> {
    let workspace: Table = WORKSPACE.parse()?;
    let workspace = workspace.get("workspace").and_then(Value::as_table).context("there is no workspace")?;
    let inherited = |section: &str, key: &str| workspace.get(section)?.get(key).cloned();
    let mut manifest: Table = manifest.parse()?;
    manifest.remove("lints");
    if let Some(Value::Table(package)) = manifest.get_mut("package") {
        for (key, value) in package.iter_mut().filter(|(_, value)| inherits(value)) {
            *value = inherited("package", key).with_context(|| format!("the workspace has no {key}"))?;
        }
    }
    for section in ["dependencies", "dev-dependencies"] {
        let Some(Value::Table(dependencies)) = manifest.get_mut(section) else { continue };
        for (name, value) in dependencies.iter_mut().filter(|(_, value)| inherits(value)) {
            let whole = inherited("dependencies", name).with_context(|| format!("the workspace has no {name}"))?;
            *value = resolved(whole, value);
        }
    }
    Ok(manifest.to_string())
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// The workspace's dependency, with the member's additions.
fn resolved(whole: Value, own: &Value) -> Value {
    let mut whole = match whole {
        Value::Table(table) => table,
        version => Table::from_iter([("version".to_owned(), version)]),
    };
    // Crates in the SDK's folder are written out with it.
    if let Some(Value::String(path)) = whole.get_mut("path")
        && let Some(inside) = path.strip_prefix("plugin-sdk/")
    {
        *path = inside.to_owned();
    }
    for (key, value) in own.as_table().into_iter().flatten().filter(|(key, _)| *key != "workspace") {
        match (whole.get_mut(key), value) {
            (Some(Value::Array(features)), Value::Array(more)) => features.extend(more.iter().cloned()),
            _ => drop(whole.insert(key.clone(), value.clone())),
        }
    }
    Value::Table(whole)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn manifests_inherit_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sdk = dir.path().join("sdk");
        write(&sdk).unwrap();
        for manifest in ["Cargo.toml", "cases/Cargo.toml"] {
            let text = fs::read_to_string(sdk.join(manifest)).unwrap();
            assert!(!text.contains("workspace") && text.contains("edition = \"2024\""), "{text}");
        }
        assert!(sdk.join("wit/1.0.0/gateway.wit").is_file() && sdk.join("src/lib.rs").is_file());
        write(&sdk).unwrap();
        assert!(write(dir.path()).unwrap_err().to_string().contains("not empty"));
    }
}
