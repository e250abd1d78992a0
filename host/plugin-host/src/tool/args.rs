//! Arguments that several commands share: the plugin and its configuration, and a message.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use arcyou_protocol::body::{Body, BodyLimits};
use serde_json::Value;
use uuid::Uuid;

use super::build;
use crate::chain::dry_run::SampleMessage;
use crate::chain::plugin::Plugin;
use crate::loading::cache::default_cache_dir;
use crate::loading::loader::LoadError;
use crate::loading::loader::{Loader, wasm_files};
use crate::manifest::{self, Entry};

/// The plugin that a command is about.
#[derive(Debug, clap::Args)]
pub(super) struct PluginArgs {
    /// A .wasm file, or a plugin's folder, which is built first
    #[arg(default_value = ".", value_name = "FILE|FOLDER")]
    plugin: PathBuf,
    /// A TOML file with the plugin's configuration, as under [plugin.config] in plugins.toml
    #[arg(long, value_name = "FILE", conflicts_with = "plugins_toml")]
    config: Option<PathBuf>,
    /// A plugins.toml whose entry for this file has configuration and limits
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
}

/// A file and its entry.
pub(super) struct PluginFile {
    pub(super) wasm: PathBuf,
    pub(super) entry: Entry,
}

impl PluginArgs {
    /// The file, which is built first if the argument is a folder.
    pub(super) fn resolve(&self) -> anyhow::Result<PluginFile> {
        let wasm = self.wasm()?;
        let file = wasm.file_name().unwrap_or_default().to_string_lossy();
        let entry = match (&self.plugins_toml, &self.config) {
            (Some(path), _) => entry_for(path, &file)?,
            (None, Some(path)) => Entry { config: read_config(path)?, ..Entry::unlisted(&file) },
            (None, None) => Entry::unlisted(&file),
        };
        if !manifest::is_name(&entry.name) {
            bail!("{file:?} is not a valid name for a plugin: use A-Z a-z 0-9 _ . -");
        }
        Ok(PluginFile { wasm, entry })
    }

    fn wasm(&self) -> anyhow::Result<PathBuf> {
        if !self.plugin.is_dir() {
            // Said before anything is said about its cases.
            ensure!(
                self.plugin.exists(),
                "{} does not exist; name a .wasm file, a crate, or a folder with a build.sh",
                self.plugin.display()
            );
            return Ok(self.plugin.clone());
        }
        let built = build::build(std::slice::from_ref(&self.plugin), &self.plugin.join("target/plugins"))
            .context("the plugin could not be built")?;
        let mut files = built.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        match (files.next(), files.next()) {
            (Some(file), None) => Ok(file),
            (None, _) => bail!(
                "{} is not a plugin: neither a .wasm file, nor a crate, nor a folder with a build.sh",
                self.plugin.display()
            ),
            (Some(_), Some(_)) => bail!("{} holds several plugins: name one", self.plugin.display()),
        }
    }
}

impl PluginFile {
    /// Loads the plugin as a gateway with this configuration would.
    pub(super) fn load(&self, loader: &Loader) -> Result<Plugin, LoadError> {
        loader.load_file(&self.wasm, self.entry.clone())
    }
}

impl SampleArgs {
    pub(super) fn read(&self) -> anyhow::Result<SampleMessage> {
        let Self { message, role, sender, conversation } = self;
        let shown = message.display();
        let text = if message.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            fs::read_to_string(message)
        };
        let text = text.with_context(|| format!("{shown} cannot be read"))?;
        let body = Body::parse(&text, &BodyLimits::default()).with_context(|| format!("{shown} is not a message"))?;
        Ok(SampleMessage { conversation: *conversation, sender: *sender, role: role.clone(), body })
    }
}

/// A loader as the gateway has it.
pub(super) fn loader() -> Result<Loader, LoadError> {
    Loader::new(default_cache_dir().as_deref(), BodyLimits::default(), Arc::new(Instant::now))
}

/// The same, with instructions counted.
pub(super) fn metered_loader() -> Result<Loader, LoadError> {
    Loader::metered(default_cache_dir().as_deref(), BodyLimits::default(), Arc::new(Instant::now))
}

fn read_config(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| format!("{shown} is not TOML"))?;
    manifest::toml_to_json(toml::Value::Table(table)).map_err(|error| anyhow::anyhow!("{shown}: {error}"))
}

pub(super) fn entry_for(path: &Path, file: &str) -> anyhow::Result<Entry> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    // `before` and `after` may name files that it does not list.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let manifest_ =
        manifest::parse(Some(&text), wasm_files(dir)?).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?;
    let entries = manifest_.entries;
    let found = entries.into_iter().find(|entry| entry.file == file);
    found.with_context(|| format!("{shown} has no plugin whose file is {file}"))
}
