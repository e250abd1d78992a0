//! Plugins on messages that nobody sent: for authors, and before a version may judge any. The one place that asks so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::chain::{Chain, Preview, wait_here};
use super::contract::Hook;
use super::instance::{StartError, Used};
use super::manifest::{ChainLimits, Entry};
use super::plugin::Plugin;
use super::record::Failure;
use super::verdict::{Draft, Judge as _};
use crate::protocol::body::Body;

/// A message that nobody sent.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) conversation: Uuid,
    pub(crate) sender: Uuid,
    pub(crate) role: String,
    pub(crate) body: Body,
}

impl Sample {
    /// As the SDK's `testing::message` has it.
    pub(crate) const CONVERSATION: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_c0de);
    pub(crate) const SENDER: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_0001);
    pub(crate) const ROLE: &'static str = "member";
}

/// A chain of one plugin, with instances of its own.
pub(crate) struct Trial {
    plugin: Arc<Plugin>,
    chain: Chain,
}

/// What came of asking once.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) preview: Preview,
    /// Why it failed, if it did: the kind and the text.
    pub(crate) failure: Option<String>,
    pub(crate) took: Duration,
    /// By its instance until now; none if it failed.
    pub(crate) used: Option<Used>,
}

impl Trial {
    /// Of the code of `plugin` under this entry.
    pub(crate) fn new(plugin: &Plugin, entry: Entry) -> Result<Self, StartError> {
        let plugin = Arc::new(plugin.sibling(entry)?);
        Ok(Self { chain: Chain::new(vec![plugin.clone()], ChainLimits::PATIENT), plugin })
    }

    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// What the gateway would make of a message.
    pub(crate) fn preview(&self, sample: &Sample) -> Preview {
        self.chain.preview(sample.conversation, sample.sender, &sample.role, &sample.body)
    }

    /// The same with what it took.
    pub(crate) fn attempt(&self, sample: &Sample) -> Attempt {
        let failures = self.plugin.status().failures;
        let started = Instant::now();
        let preview = self.preview(sample);
        let took = started.elapsed();
        let status = self.plugin.status();
        let failure = status.last_failure.filter(|_| status.failures > failures);
        let used = self.plugin.pool().used().filter(|_| failure.is_none());
        Attempt { preview, failure, took, used }
    }

    /// One hook on one message, as it stood in some chain. Answers the failure, if it fails.
    pub(crate) fn ask(&self, hook: Hook, draft: &Draft<'_>) -> Option<Failure> {
        let failures = self.plugin.status().failures;
        if self.plugin.waits() {
            wait_here(self.plugin.judge_on_fiber(hook, draft));
        } else {
            let _ = self.plugin.judge(hook, draft);
        }
        self.plugin.last_fault().filter(|_| self.plugin.status().failures > failures)
    }
}
