//! Cases beside a plugin's file: the plugin must pass them before it is used.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arcyou_plugin_cases::{Case, CaseEdited, CaseFile, Got, Mismatch, VerdictKind};
use arcyou_protocol::body::Body;
use serde_json::Value;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

use crate::bounded::Bounded;
use crate::chain::dry_run::{DryRun, DryRunResult, SampleEdited, SampleMessage};
use crate::chain::plugin::Plugin;
use crate::chain::preview::Preview;
use crate::manifest::Entry;
use crate::runtime::limits::Limits;

/// Bytes of a case file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The minimum deadline of a call: a pause of a busy machine must not reject a version.
const MIN_DEADLINE_MS: Bounded<1, 10_000> = Bounded::new(5_000);

/// A case file that a plugin does not pass, or that cannot be read.
#[derive(Debug)]
pub struct CaseFailure {
    file: PathBuf,
    reason: String,
}

impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

/// The case file of a `.wasm` file: `name.cases.toml` or `name.cases.jsonl` beside `name.wasm`.
pub(crate) fn case_file_of(wasm: &Path) -> Option<PathBuf> {
    ["cases.toml", "cases.jsonl"].map(|name| wasm.with_extension(name)).into_iter().find(|file| file.exists())
}

/// Reads a case file. The error says what to change, and where.
pub(crate) fn read(file: &Path) -> Result<CaseFile, CaseFailure> {
    let failure = |reason: String| CaseFailure { file: file.to_owned(), reason };
    let text = || match fs::metadata(file)?.len() {
        0..=MAX_FILE_BYTES => fs::read_to_string(file),
        _ => Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes"))),
    };
    let text = text().map_err(|error| failure(error.to_string()))?;
    CaseFile::parse(&text).map_err(|error| failure(error.to_string()))
}

/// Runs the cases beside a plugin's file, if there are any. Fails at the first case that does not pass.
pub(crate) fn run_cases_beside(wasm: &Path, plugin: &Plugin) -> Result<(), CaseFailure> {
    let Some(file) = case_file_of(wasm) else { return Ok(()) };
    let cases = read(&file)?;
    for case in cases.cases() {
        // What is logged about a case is about no message: `plugin test` shows it, and the log of a gateway does not.
        let result = tracing::subscriber::with_default(NoSubscriber::new(), || run_case(plugin, &cases, case));
        result.map_err(|mismatch| CaseFailure { file: file.clone(), reason: mismatch.to_string() })?;
    }
    Ok(())
}

/// Runs one case with an instance of its own, so that no case depends on another.
pub(crate) fn run_case(plugin: &Plugin, file: &CaseFile, case: &Case) -> Result<(), Mismatch> {
    let unjudged = |why: String| Mismatch::unjudged(case, why);
    let entry = plugin.entry();
    let sample = sample(plugin, case).map_err(unjudged)?;
    let dry_run = DryRun::new(plugin, entry_for(entry, file.config(case, &entry.config)));
    let dry_run = dry_run.map_err(|error| unjudged(error.into_fault().text))?;
    case.compare(&to_got(&entry.name, dry_run.run(&sample)))
}

/// The plugin's entry, but without conditions and with more time.
fn entry_for(entry: &Entry, config: Value) -> Entry {
    let deadline_ms = Bounded::new(entry.limits.deadline_ms.get().max(MIN_DEADLINE_MS.get()));
    let limits = Limits { deadline_ms, ..entry.limits };
    Entry { name: entry.name.clone(), limits, grants: entry.grants.clone(), config, ..Entry::unlisted(&entry.file) }
}

fn sample(plugin: &Plugin, case: &Case) -> Result<SampleMessage, String> {
    let id = |what: &str, text: Option<&str>, otherwise: Uuid| {
        text.map_or(Ok(otherwise), |text| text.parse().map_err(|_| format!("its {what} {text:?} is not a UUID")))
    };
    let edited = |edited: &CaseEdited| {
        let body = Body::parse(&edited.body().to_string(), plugin.body_limits());
        let body = body.map_err(|error| format!("what it edits: {error}"))?;
        Ok::<_, String>(SampleEdited { message_id: edited.message_id(), version: edited.version(), body })
    };
    Ok(SampleMessage {
        conversation: id("conversation_id", case.conversation_id(), SampleMessage::CONVERSATION)?,
        sender: id("sender_id", case.sender_id(), SampleMessage::SENDER)?,
        role: case.sender_role().unwrap_or(SampleMessage::ROLE).to_owned(),
        body: Body::parse(&case.body().to_string(), plugin.body_limits()).map_err(|error| error.to_string())?,
        edits: case.edits().map(edited).transpose()?,
    })
}

/// A dry run's result in the terms of a case file.
pub(crate) fn to_got(plugin: &str, result: DryRunResult) -> Got {
    let Preview { outcome, plugin: _, code, reason, retry_after_ms, body, annotations } = result.preview;
    let body: Option<Value> = body.and_then(|text| serde_json::from_str(&text).ok());
    let verdict = match outcome {
        "held" => VerdictKind::Hold,
        "discarded" => VerdictKind::Discard,
        "rejected" => VerdictKind::Reject,
        "stored" if body.is_some() => VerdictKind::Replace,
        "stored" => VerdictKind::Accept,
        _ => VerdictKind::Fail,
    };
    let mut by_plugin: BTreeMap<String, BTreeMap<String, String>> =
        annotations.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let annotations = by_plugin.remove(plugin).unwrap_or_default();
    Got { verdict, code, reason: reason.or(result.failure), retry_after_ms, body, annotations }
}
