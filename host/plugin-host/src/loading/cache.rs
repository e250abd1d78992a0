//! The cache of compiled plugins, in a directory that only this user can write.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::hex;
use crate::private_dir::create_private_dir;

/// Entries that were not used for this long are deleted.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The cache directory, according to the XDG base directory specification.
pub fn default_cache_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("arcyou-gateway"))
}

/// A directory of compiled code. Its files are executed without further checks, so a directory that others can write is
/// rejected.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens or creates the directory. Fails if it is not private.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        create_private_dir(dir)?;
        let cache = Self { dir: dir.to_owned() };
        cache.prune();
        Ok(cache)
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let used = entry.metadata().and_then(|metadata| metadata.modified());
            let old = used.is_ok_and(|used| SystemTime::now().duration_since(used).is_ok_and(|age| age > MAX_AGE));
            if old && entry.path().extension().is_some_and(|extension| extension == "compiled") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The compiled code for this WebAssembly. None if it is missing or damaged.
    pub(crate) fn get(&self, engine: &Engine, wasm: &[u8]) -> Option<Component> {
        let path = self.path(engine, wasm);
        let stored = fs::read(&path).ok()?;
        let (sum, code) = stored.split_at_checked(32)?;
        if Sha256::digest(code).as_slice() != sum {
            return None;
        }
        if let Ok(file) = fs::File::open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        // SAFETY: only this user can write the directory (see `open`), `put` wrote this code (its digest matches), and
        // the file's name binds it to this engine's version and settings.
        #[allow(unsafe_code)]
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    /// Stores compiled code. The file is written atomically.
    pub(crate) fn put(&self, engine: &Engine, wasm: &[u8], component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(io::Error::other)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(Sha256::digest(&code).as_slice())?;
        file.write_all(&code)?;
        file.persist(self.path(engine, wasm))?;
        Ok(())
    }

    fn path(&self, engine: &Engine, wasm: &[u8]) -> PathBuf {
        let mut key = Digester(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut key);
        key.0.update(wasm);
        self.dir.join(format!("{}.compiled", hex(&key.0.finalize())))
    }
}

/// Feeds whatever is hashed to SHA-256.
struct Digester(Sha256);

impl Hasher for Digester {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: `path` takes the digest instead.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The smallest component: only a header.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn stores_code_and_detects_damage() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let cache = Cache::open(&dir.path().join("new/cache")).unwrap();
        assert!(cache.get(&engine, EMPTY).is_none());
        let component = Component::new(&engine, EMPTY).unwrap();
        cache.put(&engine, EMPTY, &component).unwrap();
        assert!(cache.get(&engine, EMPTY).is_some());
        assert!(cache.get(&engine, b"other").is_none());
        let path = cache.path(&engine, EMPTY);
        let mut stored = fs::read(&path).unwrap();
        *stored.last_mut().unwrap() ^= 1;
        fs::write(&path, &stored).unwrap();
        assert!(cache.get(&engine, EMPTY).is_none());
        fs::write(&path, b"short").unwrap();
        assert!(cache.get(&engine, EMPTY).is_none());
    }

    #[test]
    fn rejects_a_directory_that_others_can_write() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Cache::open(dir.path()).is_ok());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(dir.path()).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(Cache::open(&link).is_err());
    }
}
