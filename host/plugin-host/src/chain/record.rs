//! Records of failed calls, so that an author can reproduce them: the message, the plugin's configuration and its file.
//! A separate thread writes them to a private directory, within limits; [`kept_records`] says what is there.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcyou_protocol::body::BodyLimits;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use super::provenance::Provenance;
use crate::bindings::Hook;
use crate::capabilities::{Capability, Grants, HttpLimits, KvLimits};
use crate::manifest::Entry;
use crate::private_dir::create_private_dir;
use crate::runtime::fault::Fault;
use crate::runtime::input::{Annotation, EditedInput, HookInput};
use crate::runtime::limits::{Isolation, Limits};
use crate::unwritable::Unwritable;

/// Limits for the number of records and their bytes. The oldest ones are deleted.
const MAX_RECORDS: usize = 100;
const MAX_BYTES: u64 = 16 << 20;
/// Records that wait to be written. More are dropped.
const QUEUE_LENGTH: usize = 16;
/// Rate limit for one plugin: a burst, then one record per period. A plugin that fails constantly usually fails in the
/// same way.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);
const REFILL_PERIOD: Duration = Duration::from_secs(30);
/// The end of a record's file name.
const SUFFIX: &str = ".record.json";

/// The directory for records, according to the XDG base directory specification.
pub fn default_records_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("arcyou-gateway/plugin-records"))
}

/// A record in a directory, and whose message it quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRecord {
    /// Its file.
    pub path: PathBuf,
    /// The conversation of the message.
    pub conversation: Uuid,
    /// Who sent or edited the message.
    pub sender: Uuid,
    /// When it was written, by the clock of this machine.
    pub written: SystemTime,
}

/// The records in a directory, which may not be there. Of other files, and of what somebody made unreadable, it says
/// nothing. Reads every record: at most 16 MiB.
///
/// # Errors
/// Fails if the directory cannot be listed.
pub fn kept_records(dir: &Path) -> io::Result<Vec<KeptRecord>> {
    #[derive(Deserialize)]
    struct Quoting {
        message: Quoted,
    }
    #[derive(Deserialize)]
    struct Quoted {
        conversation_id: Uuid,
        sender_id: Uuid,
    }
    let kept = |(path, metadata): (PathBuf, fs::Metadata)| {
        let Quoting { message } = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let written = metadata.modified().ok()?;
        Some(KeptRecord { path, conversation: message.conversation_id, sender: message.sender_id, written })
    };
    match record_files(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        files => Ok(files?.into_iter().filter_map(kept).collect()),
    }
}

fn record_files(dir: &Path) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
    let is_record = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with(SUFFIX);
    let entries = fs::read_dir(dir)?.flatten().filter(is_record);
    Ok(entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).collect())
}

/// The plugin that a record is about.
#[derive(Clone, Copy)]
pub(crate) struct RecordedPlugin<'a> {
    pub(crate) provenance: &'a Provenance,
    pub(crate) entry: &'a Entry,
    pub(crate) body_limits: BodyLimits,
}

/// One failed call, with everything that is needed to reproduce it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) plugin: String,
    pub(crate) version: Option<String>,
    pub(crate) sha256: String,
    /// The path of the plugin's file.
    pub(crate) file: PathBuf,
    pub(crate) failure: Fault,
    pub(crate) hook: String,
    pub(crate) message: RecordedMessage,
    pub(crate) config: Json,
    pub(crate) limits: Limits,
    pub(crate) isolation: Isolation,
    /// As in `plugins.toml`.
    #[serde(default)]
    pub(crate) grants: Vec<Capability>,
    #[serde(default)]
    pub(crate) kv: Option<KvLimits>,
    #[serde(default)]
    pub(crate) http: Option<HttpLimits>,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_body_depth: usize,
}

/// The message as the plugin saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedMessage {
    conversation_id: String,
    sender_id: String,
    sender_role: String,
    body: String,
    /// Plugin, key and value.
    annotations: Vec<(String, String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edits: Option<RecordedEdited>,
}

/// What the edit was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedEdited {
    message_id: i64,
    version: u32,
    body: String,
}

impl Record {
    fn new(plugin: &RecordedPlugin<'_>, file: PathBuf, hook: Hook, input: &HookInput<'_>, fault: &Fault) -> Self {
        let RecordedPlugin { provenance: by, entry, body_limits: BodyLimits { max_bytes, max_depth } } = *plugin;
        let Entry { limits, isolation, config, grants, .. } = entry;
        let (grants, kv, http) = grants.parts();
        let annotation =
            |annotation: &Annotation| (annotation.plugin.to_string(), annotation.key.clone(), annotation.value.clone());
        Self {
            plugin: by.plugin.to_string(),
            version: by.version.as_deref().map(str::to_owned),
            sha256: by.sha256.to_string(),
            file,
            failure: fault.clone(),
            hook: hook.name().to_owned(),
            message: RecordedMessage {
                conversation_id: input.conversation.to_owned(),
                sender_id: input.sender.to_owned(),
                sender_role: input.role.to_owned(),
                body: input.body.to_owned(),
                annotations: input.annotations.iter().map(annotation).collect(),
                edits: input.edits.map(|EditedInput { message_id, version, body }| RecordedEdited {
                    message_id,
                    version,
                    body: body.to_owned(),
                }),
            },
            config: config.clone(),
            limits: *limits,
            isolation: *isolation,
            grants,
            kv,
            http,
            max_body_bytes: max_bytes,
            max_body_depth: max_depth,
        }
    }

    /// The plugin's configuration. Fails if somebody changed the record into a contradiction.
    pub(crate) fn entry(&self, file: &str) -> Result<Entry, String> {
        Ok(Entry {
            name: self.plugin.clone(),
            limits: self.limits,
            isolation: self.isolation,
            config: self.config.clone(),
            grants: Grants::new(self.grants.clone(), self.kv, self.http.clone())?,
            ..Entry::unlisted(file)
        })
    }

    pub(crate) fn hook(&self) -> Option<Hook> {
        Hook::ALL.into_iter().find(|hook| hook.name() == self.hook)
    }

    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits { max_bytes: self.max_body_bytes, max_depth: self.max_body_depth }
    }
}

impl RecordedMessage {
    pub(crate) fn annotations(&self) -> Vec<Annotation> {
        let annotation = |(plugin, key, value): &(String, String, String)| Annotation {
            plugin: plugin.as_str().into(),
            key: key.clone(),
            value: value.clone(),
        };
        self.annotations.iter().map(annotation).collect()
    }

    /// The input of the hook. `annotations` are [`RecordedMessage::annotations`].
    pub(crate) fn input<'a>(&'a self, annotations: &'a [Annotation]) -> HookInput<'a> {
        let Self { conversation_id, sender_id, sender_role, body, annotations: _, edits } = self;
        HookInput {
            conversation: conversation_id,
            sender: sender_id,
            role: sender_role,
            body,
            annotations,
            edits: edits.as_ref().map(|edited| EditedInput {
                message_id: edited.message_id,
                version: edited.version,
                body: &edited.body,
            }),
            deadline: None,
            now: None,
        }
    }
}

/// Sends records to the thread that writes them. Clones share it.
#[derive(Clone)]
pub(crate) struct Recorder {
    records: SyncSender<Record>,
    unwritable: Unwritable,
}

impl Recorder {
    /// Opens or creates the directory, and starts the thread that writes to it until every clone is dropped.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        create_private_dir(dir)?;
        let (sender, records) = sync_channel(QUEUE_LENGTH);
        let (dir, unwritable) = (dir.to_owned(), Unwritable::default());
        let noted = unwritable.clone();
        thread::Builder::new().name("plugin-records".into()).spawn(move || write_records(&dir, &records, &noted))?;
        Ok(Self { records: sender, unwritable })
    }

    /// Why records cannot be kept.
    pub(crate) fn unwritable(&self) -> &Unwritable {
        &self.unwritable
    }
}

/// Records the failed calls of one plugin.
pub(crate) struct PluginRecorder {
    pub(crate) recorder: Recorder,
    pub(crate) file: PathBuf,
}

impl PluginRecorder {
    pub(crate) fn record(&self, plugin: &RecordedPlugin<'_>, hook: Hook, input: &HookInput<'_>, fault: &Fault) {
        let record = Record::new(plugin, self.file.clone(), hook, input, fault);
        if self.recorder.records.try_send(record).is_err() {
            metrics::counter!("arcyou_plugin_records_dropped_total").increment(1);
        }
    }
}

fn write_records(dir: &Path, records: &Receiver<Record>, unwritable: &Unwritable) {
    let mut limiters: HashMap<String, DefaultDirectRateLimiter> = HashMap::new();
    while let Ok(record) = records.recv() {
        let limiter = limiters.entry(record.plugin.clone()).or_insert_with(limiter);
        if limiter.check().is_err() {
            metrics::counter!("arcyou_plugin_records_dropped_total").increment(1);
            continue;
        }
        let written = make_room(dir).and_then(|()| write_record(dir, &record));
        unwritable.note(&written);
        match written {
            Ok(path) => {
                tracing::warn!(plugin = record.plugin, file = %path.display(), "what the plugin failed on is kept")
            }
            Err(error) => tracing::warn!(dir = %dir.display(), %error, "what a plugin failed on cannot be kept"),
        }
    }
}

fn limiter() -> DefaultDirectRateLimiter {
    let quota = Quota::with_period(REFILL_PERIOD).unwrap_or_else(|| Quota::per_minute(NonZeroU32::MIN));
    RateLimiter::direct(quota.allow_burst(BURST))
}

/// Writes the file atomically and readable for this user only.
fn write_record(dir: &Path, record: &Record) -> io::Result<PathBuf> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer_pretty(&mut file, record)?;
    file.write_all(b"\n")?;
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let path = dir.join(format!("{nanos:020}-{}-{}{SUFFIX}", record.plugin, record.failure.kind.name()));
    file.persist(&path)?;
    Ok(path)
}

/// Deletes the oldest records until there is room for one more.
fn make_room(dir: &Path) -> io::Result<()> {
    let mut found: Vec<(PathBuf, u64)> =
        record_files(dir)?.into_iter().map(|(path, metadata)| (path, metadata.len())).collect();
    found.sort();
    let mut bytes: u64 = found.iter().map(|(_, bytes)| bytes).sum();
    let count = found.len();
    for (at, (path, size)) in found.into_iter().enumerate() {
        if count - at < MAX_RECORDS && bytes <= MAX_BYTES {
            break;
        }
        fs::remove_file(path)?;
        bytes -= size;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_records_are_deleted_and_other_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(dir.path()).unwrap().count();
        fs::write(dir.path().join("mine.txt"), "").unwrap();
        for n in 0..MAX_RECORDS + 3 {
            fs::write(dir.path().join(format!("{n:020}{SUFFIX}")), "{}").unwrap();
        }
        make_room(dir.path()).unwrap();
        assert_eq!(count(), 1 + MAX_RECORDS - 1);
        assert!(!dir.path().join(format!("{:020}{SUFFIX}", 3)).exists());
        fs::File::create(dir.path().join(format!("{:020}{SUFFIX}", 9))).unwrap().set_len(MAX_BYTES + 1).unwrap();
        make_room(dir.path()).unwrap();
        assert!(dir.path().join(format!("{:020}{SUFFIX}", 10)).exists());
        assert!(!dir.path().join(format!("{:020}{SUFFIX}", 9)).exists());
    }
}
