//! Counts the instructions that a plugin takes for a message. They are the same on every machine, busy or not.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use arcyou_protocol::body::{Body, BodyLimits};

use super::args::{COMPILE_TIMEOUT, PluginFile, entry_for};
use crate::chain::dry_run::{DryRun, SampleEdited, SampleMessage};
use crate::loading::loader::Loader;

/// A plugin that counts its instructions.
pub struct Meter(DryRun);

impl fmt::Debug for Meter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Meter").field(&self.0.plugin().entry().name).finish()
    }
}

impl Meter {
    /// Loads a plugin with the entry that a `plugins.toml` has for its file.
    pub fn load(wasm: &Path, plugins_toml: &Path, cache_dir: Option<&Path>) -> anyhow::Result<Self> {
        let file = wasm.file_name().unwrap_or_default().to_string_lossy();
        let plugin_file = PluginFile { wasm: wasm.to_owned(), entry: entry_for(plugins_toml, &file)? };
        let loader = Loader::metered(cache_dir, BodyLimits::default(), Arc::new(Instant::now))?;
        Self::start(&plugin_file, &loader.with_compile_timeout(COMPILE_TIMEOUT))
    }

    /// The same for a plugin and a loader that are there, which must be a metered one.
    pub(super) fn start(plugin_file: &PluginFile, loader: &Loader) -> anyhow::Result<Self> {
        let plugin = plugin_file.load(loader)?;
        let dry_run = DryRun::new(&plugin, plugin_file.entry.clone());
        dry_run.map(Self).map_err(|error| anyhow!(error.into_fault().text))
    }

    /// The instructions for a message with this body, from nobody in particular.
    pub fn count(&self, body: Body) -> anyhow::Result<u64> {
        self.count_sample(&sample(body, None))
    }

    /// The same for an edit of a message with the body `stands`.
    pub fn count_edit(&self, body: Body, stands: Body) -> anyhow::Result<u64> {
        self.count_sample(&sample(body, Some(SampleEdited { message_id: 1, version: 1, body: stands })))
    }

    pub(super) fn count_sample(&self, sample: &SampleMessage) -> anyhow::Result<u64> {
        let counted = || self.0.plugin().pool().last_usage().and_then(|usage| usage.fuel);
        let before = counted().context("the plugin has no instance left that counts")?;
        if let Some(failure) = self.0.run(sample).failure {
            bail!("the plugin fails when its instructions are counted: {failure}");
        }
        let after = counted().context("the plugin's instance was replaced, since its memory grew: raise memory_mib")?;
        Ok(after - before)
    }
}

fn sample(body: Body, edits: Option<SampleEdited>) -> SampleMessage {
    let (conversation, sender) = (SampleMessage::CONVERSATION, SampleMessage::SENDER);
    SampleMessage { conversation, sender, role: SampleMessage::ROLE.to_owned(), body, edits }
}
