//! Builds plugins to `.wasm` files: crates with any suitable toolchain, plugins in other languages with their own
//! `build.sh`.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::place::{PlaceError, place, place_plugin};
use super::sources::Sources;
use crate::manifest;

/// The script that builds a plugin that is not a crate. Its argument is the path of the file to write.
const SCRIPT: &str = "build.sh";
const TARGET: &str = "wasm32-unknown-unknown";

/// Why plugins could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No compiler on this machine supports the target.
    #[error(
        "no Rust toolchain for {TARGET} is installed. One of these installs it:\n  \
         rustup target add {TARGET}\n  \
         apt-get install rustc-web cargo-web rust-web-src   (Debian, beside a rustup toolchain)"
    )]
    NoToolchain,
    /// A command cannot be started.
    #[error("{command} does not run: {source}")]
    Run { command: String, source: io::Error },
    /// A command failed; its output is on standard error.
    #[error("{command} failed in {}", dir.display())]
    Failed { command: String, dir: PathBuf },
    /// A plugin's script succeeded but wrote no file.
    #[error(
        "{SCRIPT} in {} wrote no file: it should write the component to the path that is its argument",
        dir.display()
    )]
    NoFile { dir: PathBuf },
    /// A directory is not a crate.
    #[error("{} is not a crate: {reason}", path.display())]
    NotACrate { path: PathBuf, reason: String },
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl From<PlaceError> for BuildError {
    fn from(PlaceError { path, source }: PlaceError) -> Self {
        Self::Write { path, source }
    }
}

/// Whether there is something to build: the folder is a plugin, or has some.
pub fn has_plugins(dir: &Path) -> bool {
    is_plugin(dir) || !plugins_in(dir).is_empty()
}

/// The subfolders that are plugins, sorted by name.
pub(super) fn plugins_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut plugins: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_plugin(path)).collect();
    plugins.sort();
    plugins
}

/// A plugin that was built.
#[derive(Debug)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// The folder with its source.
    pub dir: PathBuf,
    /// What was written: the `.wasm` file first, then its cases.
    pub files: Vec<PathBuf>,
}

/// Builds plugins to `<name>.wasm` in `out`, with their cases as `<name>.cases.toml`. Each of `dirs` is a plugin or a
/// folder of plugins. A plugin is a crate, or a folder with a `build.sh`, which has the folder's name. Intermediate
/// files of crates go to `target/plugins-build` in their workspace. Unchanged files are not written, so that no gateway
/// reloads them, and no other files in `out` are touched.
pub fn build(dirs: &[PathBuf], out: &Path) -> Result<Vec<Built>, BuildError> {
    let out = &absolute(out)?;
    let mut workspaces: BTreeMap<PathBuf, Vec<(PathBuf, String)>> = BTreeMap::new();
    let mut scripts = Vec::new();
    for dir in dirs.iter().flat_map(|dir| if is_plugin(dir) { vec![dir.clone()] } else { plugins_in(dir) }) {
        if is_crate(&dir) {
            let name = crate_name(&dir)?;
            workspaces.entry(workspace(&dir)?).or_default().push((dir, name));
        } else {
            scripts.push(dir);
        }
    }
    fs::create_dir_all(out).map_err(|source| BuildError::Write { path: out.to_owned(), source })?;
    let mut plugins = Vec::new();
    for (root, crates) in workspaces {
        let toolchain = Toolchain::find(&root).ok_or(BuildError::NoToolchain)?;
        let target_dir = root.join("target/plugins-build");
        let names: Vec<&str> = crates.iter().map(|(_, name)| name.as_str()).collect();
        run(toolchain.command(&root, &target_dir, &names), "build", &root)?;
        for (dir, name) in crates {
            let built = target_dir.join(TARGET).join("release").join(format!("{}.wasm", name.replace('-', "_")));
            let files = place_plugin(&built, &dir, &name, out)?;
            plugins.push(Built { name, dir, files });
        }
    }
    for dir in scripts {
        plugins.push(build_by_script(&dir, out)?);
    }
    Ok(plugins)
}

/// Makes `out` a mirror of the folders of plugins `dirs`, after `plugins` were built from them: their `plugins.toml`
/// goes there too, and what earlier builds made of sources that are gone by now is removed. Only for whoever owns
/// `out`.
pub(super) fn mirror(dirs: &[PathBuf], plugins: &[Built], out: &Path) -> Result<(), BuildError> {
    let mut sources = Sources::of(out);
    for plugin in plugins {
        note_plugin(&mut sources, &plugin.files, &plugin.dir);
    }
    for manifest in dirs.iter().map(|dir| dir.join(manifest::FILE_NAME)).filter(|manifest| manifest.is_file()) {
        let placed = place(&manifest, out, manifest::FILE_NAME)?;
        sources.note(&[placed], &manifest);
    }
    for removed in sources.prune().map_err(|source| BuildError::Write { path: out.to_owned(), source })? {
        eprintln!("removed {}: its source is gone", removed.display());
    }
    Ok(())
}

/// Notes where the files of a plugin come from: its code from the folder, its cases from a file there.
fn note_plugin(sources: &mut Sources, placed: &[PathBuf], dir: &Path) {
    for file in placed {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let cases = ["cases.toml", "cases.jsonl"].into_iter().find(|kind| name.ends_with(&format!(".{kind}")));
        sources.note(std::slice::from_ref(file), &cases.map_or_else(|| dir.to_owned(), |kind| dir.join(kind)));
    }
}

/// Runs a plugin's own script. Its output goes to standard error, as compilers' output does.
fn build_by_script(dir: &Path, out: &Path) -> Result<Built, BuildError> {
    let dir = &dir.canonicalize().map_err(|source| BuildError::Write { path: dir.to_owned(), source })?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let half = tempfile::tempdir().map_err(|source| BuildError::Write { path: env::temp_dir(), source })?;
    let built = half.path().join(format!("{name}.wasm"));
    let mut command = Command::new("sh");
    command.current_dir(dir).arg(SCRIPT).arg(&built);
    run(command, SCRIPT, dir)?;
    if !built.is_file() {
        return Err(BuildError::NoFile { dir: dir.clone() });
    }
    let files = place_plugin(&built, dir, &name, out)?;
    Ok(Built { name, dir: dir.clone(), files })
}

pub(super) fn is_plugin(dir: &Path) -> bool {
    is_crate(dir) || dir.join(SCRIPT).is_file()
}

fn is_crate(dir: &Path) -> bool {
    dir.join("Cargo.toml").is_file()
}

/// A compiler for WebAssembly, and how to call it.
#[derive(Debug, PartialEq, Eq)]
enum Toolchain {
    /// A toolchain that includes the target's standard library.
    Complete { cargo: OsString, rustc: OsString },
    /// Debian's toolchain, which includes the library's source; the linker comes from the rustup toolchain.
    FromSource { linker_dir: Option<PathBuf> },
}

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

impl Toolchain {
    fn find(dir: &Path) -> Option<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        for (rustc, cargo) in [(OsString::from("rustc"), cargo), (DEBIAN_RUSTC.into(), DEBIAN_CARGO.into())] {
            if library(&rustc, dir, Some(TARGET)).is_some_and(|dir| is_filled(&dir)) {
                return Some(Self::Complete { cargo, rustc });
            }
        }
        let sysroot = printed(&DEBIAN_RUSTC.into(), dir, &["--print", "sysroot"])?;
        let has_source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std").is_dir();
        if !has_source || !Path::new(DEBIAN_CARGO).is_file() {
            return None;
        }
        // …/lib/rustlib/<host>/lib and …/lib/rustlib/<host>/bin
        let beside = library(&"rustc".into(), dir, None).map(|library| library.with_file_name("bin"));
        let linker_dir = beside.filter(|bin| bin.join("rust-lld").is_file());
        let on_path = || env::split_paths(&env::var_os("PATH")?).find(|dir| dir.join("rust-lld").is_file());
        if linker_dir.is_none() && on_path().is_none() {
            return None;
        }
        Some(Self::FromSource { linker_dir })
    }

    fn command(&self, root: &Path, target_dir: &Path, packages: &[&str]) -> Command {
        let mut command = match self {
            Self::Complete { cargo, rustc } => {
                let mut command = Command::new(cargo);
                command.env("RUSTC", rustc);
                command
            }
            Self::FromSource { linker_dir } => {
                let mut command = Command::new(DEBIAN_CARGO);
                // The standard library is built together with the plugin, which needs unstable flags.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                let path = env::var_os("PATH").unwrap_or_default();
                let dirs = linker_dir.iter().cloned().chain(env::split_paths(&path));
                if let Ok(path) = env::join_paths(dirs) {
                    command.env("PATH", path);
                }
                command
            }
        };
        // Settings for the gateway's own build must not reach the plugins' build.
        for name in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"]
        {
            command.env_remove(name);
        }
        command.current_dir(root).args(["build", "--release", "--lib", "--target", TARGET]);
        command.arg("--target-dir").arg(target_dir);
        if matches!(self, Self::FromSource { .. }) {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        for package in packages {
            command.arg("-p").arg(package);
        }
        command
    }
}

fn run(mut command: Command, what: &str, dir: &Path) -> Result<(), BuildError> {
    let text = format!("{} {what}", command.get_program().to_string_lossy());
    match command.stdin(Stdio::null()).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(BuildError::Failed { command: text, dir: dir.to_owned() }),
        Err(source) => Err(BuildError::Run { command: text, source }),
    }
}

/// The output of a compiler, if it can be run.
fn printed(rustc: &OsString, dir: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(rustc).current_dir(dir).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The directory of a compiler's standard library for a target, or for the host.
fn library(rustc: &OsString, dir: &Path, target: Option<&str>) -> Option<PathBuf> {
    let mut arguments = vec!["--print", "target-libdir"];
    arguments.extend(target.iter().flat_map(|target| ["--target", target]));
    printed(rustc, dir, &arguments).map(PathBuf::from)
}

fn is_filled(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn absolute(path: &Path) -> Result<PathBuf, BuildError> {
    std::path::absolute(path).map_err(|source| BuildError::Write { path: path.to_owned(), source })
}

/// The root of the workspace that a crate belongs to.
fn workspace(dir: &Path) -> Result<PathBuf, BuildError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["locate-project", "--workspace", "--message-format", "plain"];
    let root = printed(&cargo, dir, &arguments).and_then(|manifest| Some(Path::new(&manifest).parent()?.to_owned()));
    root.ok_or_else(|| BuildError::NotACrate { path: dir.to_owned(), reason: "cargo finds no workspace".into() })
}

/// The package's name in its `Cargo.toml`.
fn crate_name(dir: &Path) -> Result<String, BuildError> {
    let wrong = |reason: String| BuildError::NotACrate { path: dir.to_owned(), reason };
    let text = fs::read_to_string(dir.join("Cargo.toml")).map_err(|error| wrong(error.to_string()))?;
    let manifest: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    name.map(str::to_owned).ok_or_else(|| wrong("its Cargo.toml names no package".into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_found_by_its_manifest() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(crate_name(here).unwrap(), "arcyou-plugin-host");
        assert!(workspace(here).unwrap().join("Cargo.lock").is_file());
        assert!(matches!(crate_name(Path::new("/")), Err(BuildError::NotACrate { .. })));
    }

    #[test]
    fn a_script_builds_what_is_no_crate() {
        let dir = tempfile::tempdir().unwrap();
        let (plugin, out) = (dir.path().join("plugins/of-my-own"), dir.path().join("out"));
        fs::create_dir_all(&plugin).unwrap();
        let built = |script: &str| {
            fs::write(plugin.join(SCRIPT), script).unwrap();
            build(&[dir.path().join("plugins")], &out)
        };
        fs::write(plugin.join("cases.toml"), "").unwrap();
        let plugins = built("printf wasm > \"$1\"").unwrap();
        assert_eq!(plugins[0].files, ["of-my-own.wasm", "of-my-own.cases.toml"].map(|file| out.join(file)));
        assert_eq!(fs::read(out.join("of-my-own.wasm")).unwrap(), b"wasm");
        assert!(matches!(built("exit 3"), Err(BuildError::Failed { .. })));
        let nothing = built("true").unwrap_err().to_string();
        assert!(nothing.contains("of-my-own") && nothing.contains("argument"), "{nothing}");
        // No partial file is left, and existing files stay.
        let files = || {
            let names = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
            names.sort();
            names
        };
        assert_eq!(files(), ["of-my-own.cases.toml", "of-my-own.wasm"]);
        // In a mirror a plugin does not outlive its source; what was put there by hand stays.
        let dirs = [dir.path().join("plugins")];
        mirror(&dirs, &plugins, &out).unwrap();
        fs::write(out.join("by-hand.wasm"), "mine").unwrap();
        fs::remove_dir_all(&plugin).unwrap();
        let other = dir.path().join("plugins/other");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join(SCRIPT), "printf wasm > \"$1\"").unwrap();
        mirror(&dirs, &build(&dirs, &out).unwrap(), &out).unwrap();
        assert_eq!(files(), ["by-hand.wasm", "other.wasm"]);
    }

    #[test]
    fn nothing_of_an_authors_replaces_what_is_an_operators() {
        let dir = tempfile::tempdir().unwrap();
        let (plugin, out) = (dir.path().join("rule"), dir.path().join("out"));
        [&plugin, &out].into_iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        fs::write(plugin.join(SCRIPT), "printf wasm > \"$1\"").unwrap();
        for file in ["plugins.toml", "plugin.toml"] {
            fs::write(plugin.join(file), "[config]\nof = \"the author\"\n").unwrap();
        }
        let operators = "[[plugin]]\nname = \"another\"\nenabled = false\n";
        fs::write(out.join("plugins.toml"), operators).unwrap();
        for dirs in [plugin.clone(), dir.path().to_owned()] {
            build(&[dirs], &out).unwrap();
            assert_eq!(fs::read_to_string(out.join("plugins.toml")).unwrap(), operators);
            assert_eq!(fs::read_dir(&out).unwrap().count(), 2, "its own and the plugin");
        }
    }

    #[test]
    fn only_a_build_of_the_library_needs_unstable_flags() {
        let arguments = |toolchain: Toolchain| {
            let command = toolchain.command(Path::new("/w"), Path::new("/t"), &["a", "b"]);
            command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let plain = "build --release --lib --target wasm32-unknown-unknown --target-dir /t";
        let complete = Toolchain::Complete { cargo: "cargo".into(), rustc: "rustc".into() };
        assert_eq!(arguments(complete), format!("{plain} -p a -p b"));
        let source = Toolchain::FromSource { linker_dir: None };
        assert_eq!(arguments(source), format!("{plain} -Zbuild-std=std,panic_abort -p a -p b"));
    }
}
