//! Plugins built from source, and directories of them for a gateway.

use std::path::Path;

use tempfile::TempDir;

pub(crate) use super::guests::built;

/// A directory for `PLUGINS_DIR`.
pub struct Directory(TempDir, String);

impl Directory {
    pub fn variable(&self) -> (&str, &str) {
        ("PLUGINS_DIR", &self.1)
    }

    /// Replaces its `plugins.toml`.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.0.path().join("plugins.toml"), config).unwrap();
    }
}

/// A directory with these plugins and this `plugins.toml`.
pub fn directory(plugins: &[&str], config: &str) -> Directory {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), plugins, config);
    let path = dir.path().display().to_string();
    Directory(dir, path)
}

/// Puts these plugins and this `plugins.toml` into a directory.
pub fn fill(directory: &Path, plugins: &[&str], config: &str) {
    for name in plugins {
        std::fs::copy(built().join(format!("{name}.wasm")), directory.join(format!("{name}.wasm"))).unwrap();
    }
    std::fs::write(directory.join("plugins.toml"), config).unwrap();
}
