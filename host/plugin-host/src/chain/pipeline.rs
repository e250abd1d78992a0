//! The chain of plugins that the gateway calls for a message or a join.

use std::sync::Arc;
use std::thread;

use arcyou_protocol::body::Body;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::evaluation::{Decision, Disposition, Evaluation, Judge as _, Rejection};
use super::plugin::Plugin;
use super::preview::Preview;
use super::provenance::Provenance;
use super::status::PluginStatus;
use crate::bindings::Hook;
use crate::manifest::ChainLimits;
use crate::runtime::input::{EditedInput, HookInput};

/// Plugins in their order. A chain may be empty.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Arc<Plugin>>,
    limits: ChainLimits,
    /// Whether any plugin may have to wait.
    may_wait: bool,
    /// Whether any plugin has the hook `on-join`.
    on_join: bool,
}

/// A message or an edit for the plugins to judge.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub conversation: Uuid,
    /// Who sends the message, or edits it.
    pub sender: Uuid,
    /// The sender's role in the conversation.
    pub role: &'a str,
    /// The body as the sender sent it.
    pub body: &'a Body,
    /// What it edits. None: it is a new message.
    pub edits: Option<Edited<'a>>,
}

/// What an edit is about: a stored message, as it stands now.
#[derive(Debug, Clone, Copy)]
pub struct Edited<'a> {
    pub message_id: i64,
    /// The version that stands.
    pub version: u32,
    /// The body that stands. Limits that are younger than it do not apply to it.
    pub body: &'a Body,
}

/// The decision about a join.
#[derive(Debug)]
pub enum Admission {
    Allowed,
    /// A plugin refuses the join.
    Refused(Rejection),
    /// A plugin failed or was not called, and its `on_error` refuses the join.
    Failed {
        by: Arc<Provenance>,
    },
}

impl Chain {
    pub(crate) fn new(plugins: Vec<Arc<Plugin>>, limits: ChainLimits) -> Self {
        let may_wait = plugins.iter().any(|plugin| plugin.may_wait());
        let on_join = plugins.iter().any(|plugin| plugin.has(Hook::OnJoin));
        Self { plugins, limits, may_wait, on_join }
    }

    pub(crate) fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// Whether there are no plugins.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    /// A chain of other plugins with the same limits.
    pub(crate) fn with_plugins(&self, plugins: Vec<Arc<Plugin>>) -> Self {
        Self::new(plugins, self.limits)
    }

    /// The plugin with this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.plugins.iter().find(|plugin| &*plugin.provenance().plugin == name)
    }

    /// How many plugins there are.
    pub fn len(&self) -> usize {
        self.plugins.len()
    }

    /// How each plugin is doing, in the chain's order.
    pub fn status(&self) -> Vec<PluginStatus> {
        self.plugins.iter().map(|plugin| plugin.status()).collect()
    }

    /// Judges a message. Plugins that never wait are called on this thread: that takes microseconds, at worst each
    /// plugin's deadline. Plugins that are granted `kv` or `http` wait as any future does.
    pub async fn judge(&self, message: Candidate<'_>) -> Decision {
        if self.may_wait {
            // Boxed, since it is rare, and every socket pays for the size of this future.
            return Box::pin(self.judge_async(message)).await;
        }
        self.judge_sync(message)
    }

    fn judge_sync(&self, message: Candidate<'_>) -> Decision {
        let mut buffers = EMPTY_ID_BUFFERS;
        let ids = encode_ids(&mut buffers, message.conversation, message.sender);
        Evaluation::of_message(&self.plugins, &self.message_input(ids, message)).run()
    }

    async fn judge_async(&self, message: Candidate<'_>) -> Decision {
        let mut buffers = EMPTY_ID_BUFFERS;
        let ids = encode_ids(&mut buffers, message.conversation, message.sender);
        let input = self.message_input(ids, message);
        self.evaluate_async(Evaluation::of_message(&self.plugins, &input)).await
    }

    /// Judges a join. A join has no body: conditions on the body see an empty text.
    pub async fn admit(&self, conversation: Uuid, user: Uuid, role: &str) -> Admission {
        if !self.on_join {
            return Admission::Allowed;
        }
        let mut buffers = EMPTY_ID_BUFFERS;
        let ids = encode_ids(&mut buffers, conversation, user);
        let input = self.input(ids, role, "");
        match self.evaluate_async(Evaluation::of_join(&self.plugins, &input)).await.disposition {
            Disposition::Rejected(rejection) => Admission::Refused(rejection),
            Disposition::Failed { by, .. } => Admission::Failed { by },
            Disposition::Accepted | Disposition::Held { .. } | Disposition::Discarded { .. } => Admission::Allowed,
        }
    }

    /// The outcome that a message would have, for authors of plugins. A preview cannot be stored. Blocks while a plugin
    /// waits.
    pub fn preview(&self, message: Candidate<'_>) -> Preview {
        if !self.may_wait {
            return self.judge_sync(message).into();
        }
        // Without a thread or a runtime, nothing can be said about the message.
        let decision = block_on_new_thread(self.judge_async(message));
        decision.map_or_else(|| Preview { outcome: "failed", ..Preview::default() }, Preview::from)
    }

    fn message_input<'a>(&self, ids: [&'a str; 2], message: Candidate<'a>) -> HookInput<'a> {
        let Candidate { conversation: _, sender: _, role, body, edits } = message;
        let edits =
            edits.map(|Edited { message_id, version, body }| EditedInput { message_id, version, body: body.as_str() });
        HookInput { edits, ..self.input(ids, role, body.as_str()) }
    }

    fn input<'a>(&self, [conversation, sender]: [&'a str; 2], role: &'a str, body: &'a str) -> HookInput<'a> {
        let now = self.plugins.first().map(|plugin| plugin.now());
        let deadline = now.map(|now| now + self.limits.deadline());
        HookInput { conversation, sender, role, body, annotations: &[], edits: None, deadline, now }
    }

    /// Calls all judges, one after the other, waiting for those that wait.
    async fn evaluate_async(&self, mut evaluation: Evaluation<'_, Arc<Plugin>>) -> Decision {
        while let Some((plugin, hook)) = evaluation.next_judge() {
            let input = evaluation.input();
            let (result, now) =
                if plugin.may_wait() { plugin.judge_on_fiber(hook, &input).await } else { plugin.judge(hook, &input) };
            evaluation.apply(plugin, result, now);
        }
        evaluation.into_decision()
    }
}

/// Buffers for the texts of two ids.
type IdBuffers = [[u8; Hyphenated::LENGTH]; 2];

const EMPTY_ID_BUFFERS: IdBuffers = [[0; Hyphenated::LENGTH]; 2];

/// The texts of both ids, in lower case with hyphens.
fn encode_ids(buffers: &mut IdBuffers, conversation: Uuid, sender: Uuid) -> [&str; 2] {
    let [first, second] = buffers;
    [conversation.as_hyphenated().encode_lower(first), sender.as_hyphenated().encode_lower(second)]
}

/// Runs a future on a new thread, since this one may belong to a runtime. The new thread uses this thread's log
/// subscriber. None if the thread or its runtime cannot be started.
pub(super) fn block_on_new_thread<T: Send>(work: impl Future<Output = T> + Send) -> Option<T> {
    let log = tracing::dispatcher::get_default(Clone::clone);
    let run = || {
        let _log = tracing::dispatcher::set_default(&log);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(work))
    };
    thread::scope(|scope| scope.spawn(run).join()).ok()?.ok()
}
