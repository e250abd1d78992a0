//! The schema as gateways create it: all migrations, in the order of their numbers.

use std::path::{Path, PathBuf};

pub(crate) fn sql() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut migrations: Vec<(u32, PathBuf)> = paths.filter_map(|path| Some((number(&path)?, path))).collect();
    migrations.sort_unstable();
    migrations.iter().map(|(_, path)| std::fs::read_to_string(path).unwrap()).collect()
}

/// The number of a migration, 7 for `V7__name.sql`; None for any other file.
fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix('V')?.split_once("__")?.0.parse().ok()
}
