//! Arguments that several commands share: the plugin and its configuration, and a message.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use arcyou_protocol::body::{Body, BodyLimits};
use serde_json::Value;
use uuid::Uuid;

use super::author::author_file;
use super::build::{self, Built};
use crate::chain::dry_run::{SampleEdited, SampleMessage};
use crate::chain::plugin::Plugin;
use crate::loading::cache::default_cache_dir;
use crate::loading::error::LoadError;
use crate::loading::loader::{Loader, wasm_files};
use crate::manifest::{self, AuthorFile, Entry};

/// The plugin that a command is about.
#[derive(Debug, clap::Args)]
pub(super) struct PluginArgs {
    /// A .wasm file, or a plugin's folder, which is built first
    #[arg(default_value = ".", value_name = "FILE|FOLDER")]
    plugin: PathBuf,
    /// A TOML file with the plugin's configuration, as under [plugin.config] in plugins.toml; in place of [config] in
    /// the folder's plugin.toml
    #[arg(long, value_name = "FILE", conflicts_with = "plugins_toml")]
    config: Option<PathBuf>,
    /// A plugins.toml whose entry for this file has configuration, grants and limits; in place of the folder's
    /// plugin.toml
    #[arg(long, value_name = "FILE")]
    plugins_toml: Option<PathBuf>,
}

/// A sample message.
#[derive(Debug, clap::Args)]
pub(super) struct SampleArgs {
    /// The message's body: a file with a JSON object such as {"text": "hi"}, or - for standard input
    #[arg(long, value_name = "FILE")]
    message: PathBuf,
    /// The sender's role in the conversation
    #[arg(long, default_value = SampleMessage::ROLE)]
    role: String,
    /// The sender
    #[arg(long, value_name = "UUID", default_value_t = SampleMessage::SENDER)]
    sender: Uuid,
    /// The conversation
    #[arg(long, value_name = "UUID", default_value_t = SampleMessage::CONVERSATION)]
    conversation: Uuid,
    /// The message is an edit, and this is the body that stands now: a file with a JSON object, or - for standard input
    #[arg(long, value_name = "FILE")]
    edits: Option<PathBuf>,
    /// The id of the message that it edits
    #[arg(long, value_name = "ID", default_value_t = 1, requires = "edits")]
    edits_id: i64,
    /// The version of it that stands
    #[arg(long, value_name = "N", default_value_t = 1, requires = "edits", value_parser = clap::value_parser!(u32).range(1..))]
    edits_version: u32,
}

/// A file and its entry.
pub(super) struct PluginFile {
    pub(super) wasm: PathBuf,
    pub(super) entry: Entry,
}

impl PluginArgs {
    /// The argument, if it is a plugins directory: a folder of `.wasm` files, or with a `plugins.toml`, and without
    /// sources.
    pub(super) fn plugins_dir(&self) -> anyhow::Result<Option<&Path>> {
        let dir = self.plugin.as_path();
        if !dir.is_dir() || build::is_plugin(dir) || !build::plugins_in(dir).is_empty() {
            return Ok(None);
        }
        if wasm_files(dir)?.is_empty() && !dir.join(manifest::FILE_NAME).is_file() {
            return Ok(None);
        }
        if self.config.is_some() || self.plugins_toml.is_some() {
            bail!("{} has a plugins.toml of its own: --config and --plugins-toml are for one plugin", dir.display());
        }
        Ok(Some(dir))
    }

    /// The file, which is built first if the argument is a folder.
    pub(super) fn resolve(&self) -> anyhow::Result<PluginFile> {
        let (wasm, source) = self.wasm()?;
        let file = wasm.file_name().unwrap_or_default().to_string_lossy();
        let mut entry = match &self.plugins_toml {
            Some(path) => entry_for(path, &file)?,
            None => own_entry(&file, source.as_deref())?,
        };
        if let Some(path) = &self.config {
            entry.config = read_config(path)?;
        }
        if !manifest::is_name(&entry.name) {
            bail!("{file:?} is not a valid name for a plugin: use A-Z a-z 0-9 _ . -");
        }
        Ok(PluginFile { wasm, entry })
    }

    /// The file, and the folder with its source, if it was built.
    fn wasm(&self) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
        if !self.plugin.is_dir() {
            // Said before anything is said about its cases.
            ensure!(
                self.plugin.exists(),
                "{} does not exist; name a .wasm file, a crate, or a folder with a build.sh",
                self.plugin.display()
            );
            return Ok((self.plugin.clone(), None));
        }
        let built = build::build(std::slice::from_ref(&self.plugin), &self.plugin.join("target/plugins"))
            .context("the plugin could not be built")?;
        let mut plugins = built.into_iter();
        match (plugins.next(), plugins.next()) {
            (Some(Built { dir, files, .. }), None) => {
                Ok((files.into_iter().next().context("nothing was built")?, Some(dir)))
            }
            (None, _) => bail!(
                "{} is not a plugin: neither a .wasm file, nor a crate, nor a folder with a build.sh",
                self.plugin.display()
            ),
            (Some(_), Some(_)) => bail!("{} holds several plugins: name one", self.plugin.display()),
        }
    }
}

/// What the plugin's author says that it needs, or the defaults.
fn own_entry(file: &str, source: Option<&Path>) -> anyhow::Result<Entry> {
    let unlisted = Entry::unlisted(file);
    let Some((dir, author)) = source.and_then(|dir| Some((dir, author_file(dir).transpose()?))) else {
        return Ok(unlisted);
    };
    let shown = dir.join(AuthorFile::NAME);
    author?.entry(&unlisted.name).map_err(|error| anyhow::anyhow!("{}: {error}", shown.display()))
}

impl PluginFile {
    /// Loads the plugin as a gateway with this configuration would.
    pub(super) fn load(&self, loader: &Loader) -> Result<Plugin, LoadError> {
        loader.load_file(&self.wasm, self.entry.clone())
    }
}

impl SampleArgs {
    pub(super) fn read(&self) -> anyhow::Result<SampleMessage> {
        let Self { message, role, sender, conversation, edits, edits_id: message_id, edits_version: version } = self;
        let is_stdin = |file: &Path| file.as_os_str() == "-";
        ensure!(
            !(is_stdin(message) && edits.as_deref().is_some_and(is_stdin)),
            "--message and --edits cannot both be read from standard input"
        );
        let body = read_body(message)?;
        let edited = |file: &PathBuf| {
            Ok::<_, anyhow::Error>(SampleEdited { message_id: *message_id, version: *version, body: read_body(file)? })
        };
        let edits = edits.as_ref().map(edited).transpose()?;
        Ok(SampleMessage { conversation: *conversation, sender: *sender, role: role.clone(), body, edits })
    }
}

/// A message's body from a file, or from standard input if it is named `-`.
fn read_body(file: &Path) -> anyhow::Result<Body> {
    let shown = file.display();
    let text =
        if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { fs::read_to_string(file) };
    let text = text.with_context(|| format!("{shown} cannot be read"))?;
    Body::parse(&text, &BodyLimits::default()).with_context(|| format!("{shown} is not a message"))
}

/// How long the compiler may take. Whoever runs a command on a busy machine can wait, and can interrupt it.
pub(super) const COMPILE_TIMEOUT: Duration = Duration::from_secs(600);

/// A loader as the gateway has it, with more time.
pub(super) fn loader() -> Result<Loader, LoadError> {
    let loader = Loader::new(default_cache_dir().as_deref(), BodyLimits::default(), Arc::new(Instant::now))?;
    Ok(loader.with_compile_timeout(COMPILE_TIMEOUT))
}

/// The same, with instructions counted.
pub(super) fn metered_loader() -> Result<Loader, LoadError> {
    let loader = Loader::metered(default_cache_dir().as_deref(), BodyLimits::default(), Arc::new(Instant::now))?;
    Ok(loader.with_compile_timeout(COMPILE_TIMEOUT))
}

fn read_config(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| format!("{shown} is not TOML"))?;
    manifest::toml_to_json(toml::Value::Table(table)).map_err(|error| anyhow::anyhow!("{shown}: {error}"))
}

pub(super) fn entry_for(path: &Path, file: &str) -> anyhow::Result<Entry> {
    let found = read_manifest(path)?.into_iter().find(|entry| entry.file == file);
    found.with_context(|| format!("{} has no plugin whose file is {file}", path.display()))
}

/// The entries of a `plugins.toml`, and of the files beside it.
pub(super) fn read_manifest(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    // `before` and `after` may name files that it does not list.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parsed = manifest::parse(Some(&text), wasm_files(dir)?).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?;
    Ok(parsed.entries)
}
