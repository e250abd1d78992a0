//! Dry runs: plugins judge sample messages, for authors and before a version is usage. No result has an effect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcyou_protocol::body::Body;
use uuid::Uuid;

use super::evaluation::Judge as _;
use super::pipeline::{Candidate, Chain, Edited, block_on_new_thread};
use super::plugin::Plugin;
use super::preview::Preview;
use crate::bindings::Hook;
use crate::manifest::{ChainLimits, Entry};
use crate::runtime::fault::Fault;
use crate::runtime::input::HookInput;
use crate::runtime::instance::{ResourceUsage, StartError};

/// A message that nobody sent, or an edit that nobody made.
#[derive(Debug, Clone)]
pub(crate) struct SampleMessage {
    pub(crate) conversation: Uuid,
    pub(crate) sender: Uuid,
    pub(crate) role: String,
    pub(crate) body: Body,
    pub(crate) edits: Option<SampleEdited>,
}

/// What such an edit is about.
#[derive(Debug, Clone)]
pub(crate) struct SampleEdited {
    pub(crate) message_id: i64,
    pub(crate) version: u32,
    pub(crate) body: Body,
}

impl SampleMessage {
    /// The same values as in the SDK's `testing::message`.
    pub(crate) const CONVERSATION: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_c0de);
    pub(crate) const SENDER: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_0001);
    pub(crate) const ROLE: &'static str = "member";
}

/// A chain of a single plugin, with instances of its own.
pub(crate) struct DryRun {
    plugin: Arc<Plugin>,
    chain: Chain,
}

/// The result of judging one sample.
#[derive(Debug)]
pub(crate) struct DryRunResult {
    pub(crate) preview: Preview,
    /// The kind and the text of the fault, if the plugin failed.
    pub(crate) failure: Option<String>,
    pub(crate) elapsed: Duration,
    /// The usage of its instance so far. None if the plugin failed.
    pub(crate) usage: Option<ResourceUsage>,
}

impl DryRun {
    /// A dry run of the code of `plugin` with this entry.
    pub(crate) fn new(plugin: &Plugin, entry: Entry) -> Result<Self, StartError> {
        let plugin = Arc::new(plugin.dry_run_copy(entry)?);
        Ok(Self { chain: Chain::new(vec![plugin.clone()], ChainLimits::UNBOUNDED), plugin })
    }

    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The outcome that a message would have.
    pub(crate) fn preview(&self, sample: &SampleMessage) -> Preview {
        let SampleMessage { conversation, sender, role, body, edits } = sample;
        let edits = edits.as_ref().map(|SampleEdited { message_id, version, body }| Edited {
            message_id: *message_id,
            version: *version,
            body,
        });
        self.chain.preview(Candidate { conversation: *conversation, sender: *sender, role, body, edits })
    }

    /// The same, with the fault, the time and the resources.
    pub(crate) fn run(&self, sample: &SampleMessage) -> DryRunResult {
        let failures = self.plugin.status().failures;
        let started = Instant::now();
        let preview = self.preview(sample);
        let elapsed = started.elapsed();
        let status = self.plugin.status();
        let failure = status.last_failure.filter(|_| status.failures > failures);
        let usage = self.plugin.pool().last_usage().filter(|_| failure.is_none());
        DryRunResult { preview, failure, elapsed, usage }
    }

    /// Calls one hook with an input from a recorded call. Returns the fault, if the call fails.
    pub(crate) fn call_hook(&self, hook: Hook, input: &HookInput<'_>) -> Option<Fault> {
        let failures = self.plugin.status().failures;
        if self.plugin.may_wait() {
            block_on_new_thread(self.plugin.judge_on_fiber(hook, input));
        } else {
            let _ = self.plugin.judge(hook, input);
        }
        self.plugin.last_fault().filter(|_| self.plugin.status().failures > failures)
    }
}
