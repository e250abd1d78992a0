//! Plugins on messages that nobody sent: for authors, and before a version may judge any. The one place that asks so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcyou_protocol::body::Body;
use uuid::Uuid;

use super::evaluation::Judge as _;
use super::pipeline::{Chain, block_on_new_thread};
use super::plugin::Plugin;
use super::preview::Preview;
use crate::bindings::Hook;
use crate::manifest::{ChainLimits, Entry};
use crate::runtime::fault::Fault;
use crate::runtime::input::HookInput;
use crate::runtime::instance::{ResourceUsage, StartError};

/// A message that nobody sent.
#[derive(Debug, Clone)]
pub(crate) struct SampleMessage {
    pub(crate) conversation: Uuid,
    pub(crate) sender: Uuid,
    pub(crate) role: String,
    pub(crate) body: Body,
}

impl SampleMessage {
    /// As the SDK's `testing::message` has it.
    pub(crate) const CONVERSATION: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_c0de);
    pub(crate) const SENDER: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_0001);
    pub(crate) const ROLE: &'static str = "member";
}

/// A chain of one plugin, with instances of its own.
pub(crate) struct DryRun {
    plugin: Arc<Plugin>,
    chain: Chain,
}

/// What came of asking once.
#[derive(Debug)]
pub(crate) struct DryRunResult {
    pub(crate) preview: Preview,
    /// Why it failed, if it did: the kind and the text.
    pub(crate) failure: Option<String>,
    pub(crate) took: Duration,
    /// By its instance until now; none if it failed.
    pub(crate) used: Option<ResourceUsage>,
}

impl DryRun {
    /// Of the code of `plugin` under this entry.
    pub(crate) fn new(plugin: &Plugin, entry: Entry) -> Result<Self, StartError> {
        let plugin = Arc::new(plugin.dry_run_copy(entry)?);
        Ok(Self { chain: Chain::new(vec![plugin.clone()], ChainLimits::UNBOUNDED), plugin })
    }

    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// What the gateway would make of a message.
    pub(crate) fn preview(&self, sample: &SampleMessage) -> Preview {
        self.chain.preview(sample.conversation, sample.sender, &sample.role, &sample.body)
    }

    /// The same with what it took.
    pub(crate) fn attempt(&self, sample: &SampleMessage) -> DryRunResult {
        let failures = self.plugin.status().failures;
        let started = Instant::now();
        let preview = self.preview(sample);
        let took = started.elapsed();
        let status = self.plugin.status();
        let failure = status.last_failure.filter(|_| status.failures > failures);
        let used = self.plugin.pool().last_usage().filter(|_| failure.is_none());
        DryRunResult { preview, failure, took, used }
    }

    /// One hook on one message, as it stood in some chain. Answers the failure, if it fails.
    pub(crate) fn ask(&self, hook: Hook, input: &HookInput<'_>) -> Option<Fault> {
        let failures = self.plugin.status().failures;
        if self.plugin.may_wait() {
            block_on_new_thread(self.plugin.judge_on_fiber(hook, input));
        } else {
            let _ = self.plugin.judge(hook, input);
        }
        self.plugin.last_fault().filter(|_| self.plugin.status().failures > failures)
    }
}
