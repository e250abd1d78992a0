//! `arcyou-gateway held …`: messages that plugins held, for people to decide on.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use arcyou_platform::database::{self, DatabaseUrl};
use arcyou_platform::env::{Errors, Process, Reader};
use arcyou_platform::terminal::{clipped, is_broken_pipe, print, printable, table};
use clap::Subcommand;
use uuid::Uuid;

use crate::store::{DecisionPage, HeldMessage, HeldPage, Released, ReviewDecision, Reviewer, Store};

/// How much of a body and of a reason a table shows.
const BODY_WIDTH: usize = 60;
const REASON_WIDTH: usize = 40;

/// What `arcyou-gateway held` can do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists the messages that wait for a decision, oldest first
    List {
        /// Of this conversation alone
        #[arg(long)]
        conversation: Option<Uuid>,
        /// Only those after this id
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// At most so many
        #[arg(long, default_value_t = HeldPage::DEFAULT_LIMIT, value_parser = clap::value_parser!(i64).range(1..=HeldPage::MAX_LIMIT))]
        limit: i64,
        /// As a JSON array, with whole bodies
        #[arg(long)]
        json: bool,
    },
    /// Lists what was decided, newest first, and by whom
    Decisions {
        /// In this conversation alone
        #[arg(long)]
        conversation: Option<Uuid>,
        /// About this held message alone
        #[arg(long)]
        held: Option<i64>,
        /// Only those before this id, of the column AUDIT
        #[arg(long)]
        before: Option<i64>,
        /// At most so many
        #[arg(long, default_value_t = HeldPage::DEFAULT_LIMIT, value_parser = clap::value_parser!(i64).range(1..=HeldPage::MAX_LIMIT))]
        limit: i64,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Stores and broadcasts held messages and edits: a message takes its place at the end of its conversation now
    Release(Decision),
    /// Decides that held messages are never shown
    Refuse(Decision),
}

/// Which messages a decision is about, and who decides.
#[derive(Debug, clap::Args)]
pub struct Decision {
    /// Their ids, as `held list` shows them
    #[arg(required = true)]
    ids: Vec<i64>,
    /// Who decides, for the log and the audit rows [default: $USER]
    #[arg(long = "as", value_name = "NAME")]
    reviewer: Option<Reviewer>,
}

impl Decision {
    /// Fails as a wrong environment does: services and containers have no `USER`.
    fn reviewer(&self) -> Result<Reviewer, Errors> {
        let mut env = Reader::new(&Process);
        let reviewer = self.reviewer.clone().or_else(|| env.required("USER", "say who decides: --as NAME"));
        env.finish_with(|| reviewer)
    }
}

/// Executes the command. An id that waits for no decision is an error, after the others were dealt with.
pub async fn execute(action: Action, database: &DatabaseUrl) -> anyhow::Result<()> {
    let store = Store::new(database::pool(&database.clone().application_name("arcyou-gateway held"), 1)?);
    match act(action, &store).await {
        // Whoever reads has read enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

async fn act(action: Action, store: &Store) -> anyhow::Result<()> {
    let others = match action {
        Action::List { conversation, after, limit, json } => {
            return list(store, HeldPage { conversation, after, limit }, json).await;
        }
        Action::Decisions { conversation, held, before, limit, json } => {
            return decisions(store, DecisionPage { conversation, before, held, limit }, json).await;
        }
        Action::Release(decision) => {
            decide(decision, async |id, reviewer| {
                let released = store.release(id, reviewer).await.with_context(|| format!("while releasing {id}"))?;
                Ok(released.map(|Released { message, .. }| {
                    format!("released {id} as message {}, seq {}", message.id, message.seq)
                }))
            })
            .await?
        }
        Action::Refuse(decision) => {
            decide(decision, async |id, reviewer| {
                let waited = store.refuse(id, reviewer).await.with_context(|| format!("while refusing {id}"))?;
                Ok(waited.then(|| format!("refused {id}")))
            })
            .await?
        }
    };
    if !others.is_empty() {
        bail!("no held message waits for a decision under {}", others.join(", "));
    }
    Ok(())
}

/// Decides on one held message after the other, so that none is locked while another is waited for; prints what became
/// of each, and answers with the ids under which none waits.
async fn decide(
    decision: Decision,
    deal_with: impl AsyncFn(i64, &Reviewer) -> anyhow::Result<Option<String>>,
) -> anyhow::Result<Vec<String>> {
    let reviewer = decision.reviewer()?;
    let mut others = Vec::new();
    for id in decision.ids.into_iter().collect::<BTreeSet<_>>() {
        match deal_with(id, &reviewer).await? {
            Some(done) => print(&done)?,
            None => others.push(id.to_string()),
        }
    }
    Ok(others)
}

async fn list(store: &Store, page: HeldPage, json: bool) -> anyhow::Result<()> {
    let mut held = store.held(HeldPage { limit: page.limit + 1, ..page }).await?;
    let more = held.len() as i64 > page.limit;
    held.truncate(usize::try_from(page.limit)?);
    if json {
        print(&serde_json::to_string_pretty(&held)?)?;
    } else if held.is_empty() {
        print("no held messages")?;
    } else {
        print(&table(
            ["ID", "HELD", "CONVERSATION", "SENDER", "BY", "EDITS", "REASON", "BODY"],
            held.iter().map(line).collect(),
        ))?;
    }
    if let (true, Some(last)) = (more, held.last()) {
        eprintln!("there are more: --after {}", last.id);
    }
    Ok(())
}

async fn decisions(store: &Store, page: DecisionPage, json: bool) -> anyhow::Result<()> {
    let decisions = store.review_decisions(page).await?;
    if json {
        print(&serde_json::to_string_pretty(&decisions)?)?;
    } else if decisions.is_empty() {
        print("no decisions")?;
    } else {
        print(&table(
            ["AUDIT", "DECIDED", "HELD", "VERDICT", "MESSAGE", "REVIEWER", "PLUGIN", "CONVERSATION", "SENDER"],
            decisions.iter().map(decision_line).collect(),
        ))?;
    }
    Ok(())
}

fn decision_line(decision: &ReviewDecision) -> [String; 9] {
    let ReviewDecision { id, decided_at, held_id, verdict, reviewer, conversation_id, sender_id, held_by, message_id } =
        decision;
    [
        id.to_string(),
        decided_at.clone(),
        held_id.to_string(),
        printable(verdict),
        message_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        printable(reviewer),
        printable(held_by),
        conversation_id.to_string(),
        sender_id.to_string(),
    ]
}

fn line(message: &HeldMessage) -> [String; 8] {
    let HeldMessage { id, conversation_id, sender_id, sender_participates, body, edits, held_by, reason, created_at } =
        message;
    let gone = if *sender_participates { "" } else { " (left)" };
    [
        id.to_string(),
        created_at.clone(),
        conversation_id.to_string(),
        format!("{sender_id}{gone}"),
        printable(held_by),
        edits.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        clipped(reason, REASON_WIDTH),
        clipped(body.get(), BODY_WIDTH),
    ]
}
