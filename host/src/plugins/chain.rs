//! The chain of plugins: [`Permitted`] → [`Screening`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::contract::Hook;
use super::manifest::ChainLimits;
use super::plugin::Plugin;
use super::provenance::Provenance;
use super::status::PluginStatus;
use super::verdict::{Draft, Ending, Folding, Judge as _, Note, Refusal, Ruling};
use crate::authorize::{Permitted, Submitted};
use crate::protocol::body::Body;

/// Plugins in their order, none at all included.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Arc<Plugin>>,
    limits: ChainLimits,
    /// Whether one of them may have to wait.
    waits: bool,
    /// Whether one of them is asked about joins.
    on_join: bool,
}

/// What the chain made of a join.
#[derive(Debug)]
pub enum Admission {
    /// It goes on.
    Allowed,
    /// A plugin refuses it.
    Refused(Rejection),
    /// A plugin failed, and its `on_error` refuses what it cannot judge.
    Failed {
        /// Which.
        by: Arc<Provenance>,
    },
}

/// What the chain made of a message.
#[derive(Debug)]
pub enum Screening {
    /// It is to be stored, or held.
    Screened(Screened),
    /// The sender is acknowledged, and that is all.
    Discarded {
        /// The plugin that wanted it gone.
        by: Arc<Provenance>,
    },
    /// A plugin refuses it.
    Rejected(Rejection),
    /// A plugin failed, and its `on_error` refuses what it cannot judge.
    Failed {
        /// That plugin.
        by: Arc<Provenance>,
    },
}

/// Why a message was refused. The sender sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The plugin, of which the sender sees the name.
    pub by: Arc<Provenance>,
    /// The plugin's own token: `[a-z0-9_.-]`, 1 to 64 bytes.
    pub code: String,
    /// A sentence for people; no control characters, at most 1 KiB.
    pub reason: String,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u32>,
}

/// A message that every plugin let through. Only the chain makes one, and only this can be stored.
#[derive(Debug)]
pub struct Screened {
    message: Submitted,
    annotations: Option<String>,
    decided_by: Option<Arc<Provenance>>,
    hold_reason: Option<String>,
}

/// What would become of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Preview {
    /// `stored`, `held`, `discarded`, `rejected` or `failed`.
    pub outcome: &'static str,
    /// The plugin that decided that, or else the last one that replaced the body.
    pub plugin: Option<String>,
    /// A rejection's token.
    pub code: Option<String>,
    /// Why it is held or rejected.
    pub reason: Option<String>,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u32>,
    /// The text of the body, if a plugin replaced it.
    pub body: Option<String>,
    /// What the plugins noted: the text of a JSON object with an object for each plugin.
    pub annotations: Option<String>,
}

impl Screened {
    /// The message, its body as the plugins left it.
    pub fn message(&self) -> &Submitted {
        &self.message
    }

    /// What the plugins noted: the text of a JSON object with an object for each plugin.
    pub fn annotations(&self) -> Option<&str> {
        self.annotations.as_deref()
    }

    /// The plugin that holds it, or else the last one that replaced its body.
    pub fn decided_by(&self) -> Option<&str> {
        self.decided_by.as_deref().map(|by| &*by.plugin)
    }

    /// Why it is to be held for review; none if it is to be stored.
    pub fn hold_reason(&self) -> Option<&str> {
        self.hold_reason.as_deref()
    }

    /// What the store needs: message, annotations, deciding plugin, reason to hold.
    pub fn into_parts(self) -> (Submitted, Option<String>, Option<Arc<Provenance>>, Option<String>) {
        (self.message, self.annotations, self.decided_by, self.hold_reason)
    }
}

impl Chain {
    pub(crate) fn new(plugins: Vec<Arc<Plugin>>, limits: ChainLimits) -> Self {
        let waits = plugins.iter().any(|plugin| plugin.waits());
        let on_join = plugins.iter().any(|plugin| plugin.has(Hook::OnJoin));
        Self { plugins, limits, waits, on_join }
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

    /// Asks the plugins about a message. Those that never wait take microseconds, and at the worst each plugin's deadline: on a
    /// thread that serves sockets, that is a pause for them. Those that are granted `kv` or `http` wait as any future does.
    pub async fn screen(&self, message: Permitted) -> Screening {
        if self.waits {
            // Boxed, as it is rare: what every send's future holds, every socket pays for.
            return Box::pin(self.screen_waiting(message)).await;
        }
        let ruling = self.judge(message.conversation(), message.sender(), message.role(), message.body());
        let by = self.provenance_of(&ruling);
        conclude(message, ruling, by)
    }

    /// Of the plugin that decided.
    fn provenance_of(&self, ruling: &Ruling) -> Option<Arc<Provenance>> {
        ruling.decided_by.as_ref().and_then(|name| self.find(name)).map(|plugin| plugin.provenance().clone())
    }

    async fn screen_waiting(&self, message: Permitted) -> Screening {
        let mut space = NO_TEXTS;
        let ids = id_texts(&mut space, message.conversation(), message.sender());
        let draft = self.draft(ids, message.role(), message.body().as_str());
        let ruling = self.wait_for(Folding::of_message(&self.plugins, &draft)).await;
        let by = self.provenance_of(&ruling);
        conclude(message, ruling, by)
    }

    /// Asks the plugins whether a participant may join. A join has no body: conditions on one are held to an empty text.
    pub async fn admit(&self, conversation: Uuid, user: Uuid, role: &str) -> Admission {
        if !self.on_join {
            return Admission::Allowed;
        }
        let mut space = NO_TEXTS;
        let ids = id_texts(&mut space, conversation, user);
        let draft = self.draft(ids, role, "");
        let ruling = self.wait_for(Folding::of_join(&self.plugins, &draft)).await;
        let by = self.provenance_of(&ruling).unwrap_or_default();
        match ruling.ending {
            Ending::Rejected(Refusal { code, reason, retry_after_ms }) => {
                Admission::Refused(Rejection { by, code, reason, retry_after_ms })
            }
            Ending::Failed => Admission::Failed { by },
            Ending::Stands | Ending::Held(_) | Ending::Discarded => Admission::Allowed,
        }
    }

    /// What would become of a message, for authors of plugins: nothing that comes out of it can be stored. Blocks while a
    /// plugin waits.
    pub fn preview(&self, conversation: Uuid, sender: Uuid, role: &str, body: &Body) -> Preview {
        let Ruling { ending, decided_by, body, notes } = self.judge(conversation, sender, role, body);
        let mut preview = Preview {
            outcome: "stored",
            plugin: decided_by.as_deref().map(str::to_owned),
            body: body.map(|body| body.as_str().to_owned()),
            annotations: annotations(&notes),
            ..Preview::default()
        };
        match ending {
            Ending::Stands => {}
            Ending::Held(reason) => (preview.outcome, preview.reason) = ("held", Some(reason)),
            Ending::Discarded => preview.outcome = "discarded",
            Ending::Failed => preview.outcome = "failed",
            Ending::Rejected(Refusal { code, reason, retry_after_ms }) => {
                preview.outcome = "rejected";
                (preview.code, preview.reason, preview.retry_after_ms) = (Some(code), Some(reason), retry_after_ms);
            }
        }
        preview
    }

    fn judge(&self, conversation: Uuid, sender: Uuid, role: &str, body: &Body) -> Ruling {
        let mut space = NO_TEXTS;
        let ids = id_texts(&mut space, conversation, sender);
        let draft = self.draft(ids, role, body.as_str());
        let folding = Folding::of_message(&self.plugins, &draft);
        if !self.waits {
            return folding.run();
        }
        // No thread, no runtime: then nothing can be said about the message.
        wait_here(self.wait_for(folding)).unwrap_or_else(|| Ruling { ending: Ending::Failed, ..Ruling::default() })
    }

    fn draft<'a>(&self, [conversation, sender]: [&'a str; 2], role: &'a str, body: &'a str) -> Draft<'a> {
        let now = self.plugins.first().map(|plugin| plugin.now());
        let until = now.map(|now| now + self.limits.deadline());
        Draft { conversation, sender, role, body, notes: &[], until, now }
    }

    /// Asks one after the other, waiting for those that wait.
    async fn wait_for(&self, mut folding: Folding<'_, Arc<Plugin>>) -> Ruling {
        while let Some((plugin, hook)) = folding.next() {
            let draft = folding.draft();
            let (answer, now) =
                if plugin.waits() { plugin.judge_on_fiber(hook, &draft).await } else { plugin.judge(hook, &draft) };
            folding.hear(plugin, answer, now);
        }
        folding.ruling()
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

/// Waits on this thread, which may be one of a runtime's and may not: so on another, with what this one logs to. None if there
/// is no other.
pub(super) fn wait_here<T: Send>(work: impl Future<Output = T> + Send) -> Option<T> {
    let log = tracing::dispatcher::get_default(Clone::clone);
    let run = || {
        let _log = tracing::dispatcher::set_default(&log);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(work))
    };
    thread::scope(|scope| scope.spawn(run).join()).ok()?.ok()
}

/// What a ruling by this plugin makes of the message that it is about.
fn conclude(message: Permitted, ruling: Ruling, by: Option<Arc<Provenance>>) -> Screening {
    let Ruling { ending, decided_by: _, body, notes } = ruling;
    let hold_reason = match ending {
        Ending::Stands => None,
        Ending::Held(reason) => Some(reason),
        Ending::Discarded => return Screening::Discarded { by: by.unwrap_or_default() },
        Ending::Rejected(Refusal { code, reason, retry_after_ms }) => {
            let by = by.unwrap_or_default();
            return Screening::Rejected(Rejection { by, code, reason, retry_after_ms });
        }
        Ending::Failed => return Screening::Failed { by: by.unwrap_or_default() },
    };
    let mut message = message.into_message();
    if let Some(body) = body {
        message.body = body;
    }
    Screening::Screened(Screened { message, annotations: annotations(&notes), decided_by: by, hold_reason })
}

/// `{"plugin":{"key":"value"}}`, or nothing.
fn annotations(notes: &[Note]) -> Option<String> {
    if notes.is_empty() {
        return None;
    }
    let mut by_plugin: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for Note { plugin, key, value } in notes {
        by_plugin.entry(plugin).or_default().insert(key, value);
    }
    serde_json::to_string(&by_plugin).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::protocol::body::BodyLimits;

    fn body(text: &str) -> Body {
        Body::parse(text, &BodyLimits { max_bytes: 100, max_depth: 3 }).unwrap()
    }

    fn permitted() -> Permitted {
        let (conversation, sender) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let message = Submitted { conversation, sender, body: body("{}"), idempotency_key: Some("k".into()) };
        Permitted::new(message, "member".into())
    }

    fn by() -> Arc<Provenance> {
        Arc::new(Provenance { plugin: "p".into(), sha256: "00".into(), version: None })
    }

    fn conclude_with(ending: Ending, replacement: Option<Body>) -> Screening {
        let note = |plugin: &str, key: &str| Note { plugin: plugin.into(), key: key.into(), value: "v\"".into() };
        let notes = vec![note("b", "x"), note("a", "x"), note("a", "y")];
        conclude(permitted(), Ruling { ending, decided_by: Some("p".into()), body: replacement, notes }, Some(by()))
    }

    #[test]
    fn an_empty_chain_lets_everything_through_untouched() {
        let screening = Chain::default().screen(permitted()).now_or_never().unwrap();
        let Screening::Screened(screened) = screening else { panic!("it must stand") };
        assert_eq!(screened.message().body, body("{}"));
        let (message, annotations, decided_by, hold_reason) = screened.into_parts();
        assert_eq!((message.conversation, message.idempotency_key.as_deref()), (Uuid::from_u128(1), Some("k")));
        assert_eq!((annotations, decided_by, hold_reason), (None, None, None));
    }

    #[test]
    fn what_stands_carries_the_last_body_and_all_notes() {
        let replaced = Some(body(r#"{"a":1}"#));
        let Screening::Screened(screened) = conclude_with(Ending::Stands, replaced.clone()) else {
            panic!("it must stand")
        };
        assert_eq!((Some(&screened.message().body), screened.decided_by()), (replaced.as_ref(), Some("p")));
        assert_eq!(screened.annotations(), Some(r#"{"a":{"x":"v\"","y":"v\""},"b":{"x":"v\""}}"#));
        let Screening::Screened(held) = conclude_with(Ending::Held("look".into()), None) else { panic!("it is kept") };
        assert_eq!((held.hold_reason(), &held.message().body), (Some("look"), &body("{}")));
    }

    #[test]
    fn what_does_not_stand_cannot_be_stored() {
        assert!(matches!(conclude_with(Ending::Discarded, None), Screening::Discarded { .. }));
        assert!(matches!(conclude_with(Ending::Failed, None), Screening::Failed { by } if &*by.plugin == "p"));
        let refusal = Refusal { code: "c".into(), reason: "r".into(), retry_after_ms: Some(5) };
        let Screening::Rejected(rejection) = conclude_with(Ending::Rejected(refusal), None) else {
            panic!("it is refused")
        };
        let expected = Rejection { by: by(), code: "c".into(), reason: "r".into(), retry_after_ms: Some(5) };
        assert_eq!(rejection, expected);
    }
}
