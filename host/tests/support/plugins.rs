//! Plugins built from source, and directories of them for a gateway.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arcyou_gateway::plugins::build;
use tempfile::TempDir;

/// Where the plugins of this repository are, and those of the tests: built when they are first asked for.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("plugins-test");
        build::build(&[top.join("plugins"), top.join("host/tests/guests")], &out).unwrap();
        out
    })
}

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
    for name in plugins {
        std::fs::copy(built().join(format!("{name}.wasm")), dir.path().join(format!("{name}.wasm"))).unwrap();
    }
    std::fs::write(dir.path().join("plugins.toml"), config).unwrap();
    let path = dir.path().display().to_string();
    Directory(dir, path)
}
