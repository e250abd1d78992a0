//! The schema as gateways make it: every file of `migrations/` that they apply, in the order of its number.

use std::path::{Path, PathBuf};

pub(crate) fn sql() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut migrations: Vec<(u32, PathBuf)> = paths.filter_map(|path| Some((number(&path)?, path))).collect();
    migrations.sort_unstable();
    migrations.iter().map(|(_, path)| std::fs::read_to_string(path).unwrap()).collect()
}

/// 7 of `V7__name.sql`; of any other file nothing.
fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix('V')?.split_once("__")?.0.parse().ok()
}
