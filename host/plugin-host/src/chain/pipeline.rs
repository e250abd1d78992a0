//! The chain of plugins: what the gateway asks about a message or a join.

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
use crate::runtime::input::HookInput;

/// Plugins in their order, none at all included.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Arc<Plugin>>,
    limits: ChainLimits,
    /// Whether one of them may have to wait.
    may_wait: bool,
    /// Whether one of them is asked about joins.
    on_join: bool,
}

/// A message that the plugins are asked about.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The conversation that it is for.
    pub conversation: Uuid,
    /// The user who sends it.
    pub sender: Uuid,
    /// The sender's role in the conversation.
    pub role: &'a str,
    /// The body as it came.
    pub body: &'a Body,
}

/// What the chain made of a join.
#[derive(Debug)]
pub enum Admission {
    Allowed,
    /// A plugin refuses it.
    Refused(Rejection),
    /// A plugin failed, and its `on_error` refuses what it cannot judge.
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

    /// Whether nothing is ever asked.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    /// The same limits for other plugins.
    pub(crate) fn with(&self, plugins: Vec<Arc<Plugin>>) -> Self {
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

    /// Asks the plugins about a message. Those that never wait take microseconds, and at the worst each plugin's
    /// deadline: on a thread that serves sockets, that is a pause for them. Those that are granted `kv` or `http` wait
    /// as any future does.
    pub async fn judge(&self, message: Candidate<'_>) -> Decision {
        if self.may_wait {
            // Boxed, as it is rare: what every send's future holds, every socket pays for.
            return Box::pin(self.judge_waiting(message)).await;
        }
        self.judge_at_once(message)
    }

    fn judge_at_once(&self, message: Candidate<'_>) -> Decision {
        let mut space = NO_TEXTS;
        let ids = id_texts(&mut space, message.conversation, message.sender);
        Evaluation::of_message(&self.plugins, &self.input(ids, message.role, message.body.as_str())).run()
    }

    async fn judge_waiting(&self, message: Candidate<'_>) -> Decision {
        let mut space = NO_TEXTS;
        let ids = id_texts(&mut space, message.conversation, message.sender);
        let input = self.input(ids, message.role, message.body.as_str());
        self.wait_for(Evaluation::of_message(&self.plugins, &input)).await
    }

    /// Asks the plugins whether a participant may join. A join has no body: conditions on one are held to an empty
    /// text.
    pub async fn admit(&self, conversation: Uuid, user: Uuid, role: &str) -> Admission {
        if !self.on_join {
            return Admission::Allowed;
        }
        let mut space = NO_TEXTS;
        let ids = id_texts(&mut space, conversation, user);
        let input = self.input(ids, role, "");
        match self.wait_for(Evaluation::of_join(&self.plugins, &input)).await.disposition {
            Disposition::Rejected(rejection) => Admission::Refused(rejection),
            Disposition::Failed { by } => Admission::Failed { by },
            Disposition::Accepted | Disposition::Held { .. } | Disposition::Discarded { .. } => Admission::Allowed,
        }
    }

    /// What would become of a message, for authors of plugins: nothing that comes out of it can be stored. Blocks while
    /// a plugin waits.
    pub fn preview(&self, conversation: Uuid, sender: Uuid, role: &str, body: &Body) -> Preview {
        let message = Candidate { conversation, sender, role, body };
        if !self.may_wait {
            return self.judge_at_once(message).into();
        }
        // No thread, no runtime: then nothing can be said about the message.
        let decision = block_on_new_thread(self.judge_waiting(message));
        decision.map_or_else(|| Preview { outcome: "failed", ..Preview::default() }, Preview::from)
    }

    fn input<'a>(&self, [conversation, sender]: [&'a str; 2], role: &'a str, body: &'a str) -> HookInput<'a> {
        let now = self.plugins.first().map(|plugin| plugin.now());
        let deadline = now.map(|now| now + self.limits.deadline());
        HookInput { conversation, sender, role, body, annotations: &[], deadline, now }
    }

    /// Asks one after the other, waiting for those that wait.
    async fn wait_for(&self, mut evaluation: Evaluation<'_, Arc<Plugin>>) -> Decision {
        while let Some((plugin, hook)) = evaluation.next_judge() {
            let input = evaluation.input();
            let (answer, now) =
                if plugin.may_wait() { plugin.judge_on_fiber(hook, &input).await } else { plugin.judge(hook, &input) };
            evaluation.apply(plugin, answer, now);
        }
        evaluation.into_decision()
    }
}

/// Space for the ids' texts.
type IdTexts = [[u8; Hyphenated::LENGTH]; 2];

const NO_TEXTS: IdTexts = [[0; Hyphenated::LENGTH]; 2];

/// The conversation's and the sender's, in lower case with hyphens.
fn id_texts(space: &mut IdTexts, conversation: Uuid, sender: Uuid) -> [&str; 2] {
    let [first, second] = space;
    [conversation.as_hyphenated().encode_lower(first), sender.as_hyphenated().encode_lower(second)]
}

/// Waits on this thread, which may be one of a runtime's and may not: so on another, with what this one logs to. None
/// if there is no other.
pub(super) fn block_on_new_thread<T: Send>(work: impl Future<Output = T> + Send) -> Option<T> {
    let log = tracing::dispatcher::get_default(Clone::clone);
    let run = || {
        let _log = tracing::dispatcher::set_default(&log);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(work))
    };
    thread::scope(|scope| scope.spawn(run).join()).ok()?.ok()
}
