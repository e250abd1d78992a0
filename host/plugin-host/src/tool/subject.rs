//! The plugin that a command is about, and how it is configured.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use arcyou_platform::terminal::print;
use arcyou_protocol::body::{Body, BodyLimits};
use serde_json::Value;
use uuid::Uuid;

use super::build;
use crate::chain::dry_run::Sample;
use crate::chain::plugin::Plugin;
use crate::loading::cache::default_cache_dir;
use crate::loading::loader::LoadError;
use crate::loading::loader::{Loader, wasm_files};
use crate::manifest::{self, Entry};

/// Which plugin.
#[derive(Debug, clap::Args)]
pub(super) struct Subject {
    /// A .wasm file, or a plugin's folder, which is built first
    #[arg(default_value = ".", value_name = "FILE|FOLDER")]
    plugin: PathBuf,
    /// Its configuration: a TOML file with what stands under [plugin.config] in plugins.toml
    #[arg(long, value_name = "FILE", conflicts_with = "plugins_toml")]
    config: Option<PathBuf>,
    /// A plugins.toml: the entry for this file says configuration and limits
    #[arg(long, value_name = "FILE")]
    plugins_toml: Option<PathBuf>,
}

/// A message.
#[derive(Debug, clap::Args)]
pub(super) struct SampleArgs {
    /// The message's body: a file with a JSON object such as {"text": "hi"}, or - for standard input
    #[arg(long, value_name = "FILE")]
    message: PathBuf,
    /// The sender's role in the conversation
    #[arg(long, default_value = Sample::ROLE)]
    role: String,
    /// The sender
    #[arg(long, value_name = "UUID", default_value_t = Sample::SENDER)]
    sender: Uuid,
    /// The conversation
    #[arg(long, value_name = "UUID", default_value_t = Sample::CONVERSATION)]
    conversation: Uuid,
}

/// A file and what is configured for it.
pub(super) struct Found {
    pub(super) wasm: PathBuf,
    pub(super) entry: Entry,
}

impl Subject {
    /// The file, built now if it is a folder.
    pub(super) fn find(&self) -> anyhow::Result<Found> {
        let wasm = self.wasm()?;
        let file = wasm.file_name().unwrap_or_default().to_string_lossy();
        let entry = match (&self.plugins_toml, &self.config) {
            (Some(path), _) => listed(path, &file)?,
            (None, Some(path)) => Entry { config: configured(path)?, ..Entry::unlisted(&file) },
            (None, None) => Entry::unlisted(&file),
        };
        if !manifest::is_name(&entry.name) {
            bail!("{file:?} is no name for a plugin: A-Z a-z 0-9 _ . - are");
        }
        Ok(Found { wasm, entry })
    }

    fn wasm(&self) -> anyhow::Result<PathBuf> {
        if !self.plugin.is_dir() {
            return Ok(self.plugin.clone());
        }
        let built = build::build(std::slice::from_ref(&self.plugin), &self.plugin.join("target/plugins"))
            .context("the plugin could not be built")?;
        let mut files = built.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        match (files.next(), files.next()) {
            (Some(file), None) => Ok(file),
            (None, _) => bail!(
                "{} is no plugin: neither a .wasm file, nor a crate, nor a folder with a build.sh",
                self.plugin.display()
            ),
            (Some(_), Some(_)) => bail!("{} holds several plugins: name one", self.plugin.display()),
        }
    }
}

impl Found {
    /// The plugin, as a gateway with this configuration would load it.
    pub(super) fn load(&self, loader: &Loader) -> Result<Plugin, LoadError> {
        loader.load_file(&self.wasm, self.entry.clone())
    }
}

impl SampleArgs {
    pub(super) fn read(&self) -> anyhow::Result<Sample> {
        let Self { message, role, sender, conversation } = self;
        let shown = message.display();
        let text = if message.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            fs::read_to_string(message)
        };
        let text = text.with_context(|| format!("{shown} cannot be read"))?;
        let body = Body::parse(&text, &BodyLimits::default()).with_context(|| format!("{shown} is no message"))?;
        Ok(Sample { conversation: *conversation, sender: *sender, role: role.clone(), body })
    }
}

/// What makes plugins as the gateway does.
pub(super) fn loader() -> Result<Loader, LoadError> {
    Loader::new(default_cache_dir().as_deref(), BodyLimits::default(), Arc::new(Instant::now))
}

/// The same, counting instructions.
pub(super) fn metered_loader() -> Result<Loader, LoadError> {
    Loader::metered(default_cache_dir().as_deref(), BodyLimits::default(), Arc::new(Instant::now))
}

fn configured(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| format!("{shown} is no TOML"))?;
    manifest::json(toml::Value::Table(table)).map_err(|error| anyhow::anyhow!("{shown}: {error}"))
}

fn listed(path: &Path, file: &str) -> anyhow::Result<Entry> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    // What it does not list may be named in it all the same.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let plan = manifest::plan(Some(&text), wasm_files(dir)?).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?;
    let entries = plan.entries;
    let found = entries.into_iter().find(|entry| entry.file == file);
    found.with_context(|| format!("{shown} has no plugin whose file is {file}"))
}

/// One line of a report: what, and what there is to say about it.
pub(super) fn say(what: &str, text: impl Display) {
    report(format_args!("{what:<12} {text}"));
}

/// A line. Whoever reads may have read enough, as `head` does: what is to be done is done all the same.
pub(super) fn report(text: impl Display) {
    let _ = print(&text.to_string());
}

pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn kib(bytes: usize) -> String {
    format!("{} KiB", grouped(bytes.div_ceil(1024) as u64))
}

/// Paths as one text.
pub(super) fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
