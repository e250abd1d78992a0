//! What stands in a plugins directory: `plugins.toml` and the plugins themselves.

use std::fs;
use std::path::Path;

use arcyou_plugin_host::{Candidate, Edited, LoadError, Options, PluginHost};
use arcyou_protocol::body::{Body, BodyLimits};
use uuid::Uuid;
use wit_component::ComponentEncoder;

use crate::damage::{Damaged, Sample, damaged};
use crate::fuzz;
use crate::support::plugins::{built, fill};

const LIMITS: BodyLimits = BodyLimits { max_bytes: 32 << 10, max_depth: 32 };

const MANIFESTS: [&str; 2] = [
    "# The house rules.
[[plugin]]
name = \"body-shape\"
file = \"body-shape.wasm\"
enabled = true
on_error = \"accept\"

[plugin.limits]
deadline_ms = 100
startup_ms = 2000
memory_mib = 16
output_bytes = 262144
log_lines = 32
instances = 16
calls_per_instance = 50000

[plugin.breaker]
failures = 5
cool_down_ms = 5000

[plugin.config]
min_chars = 1
max_chars = 0x0f_a0
fields = [\"reply_to\", 'mentions', \"\"\"한\"\"\"]
allow_unknown = false
",
    "[[plugin]]
name = \"first\"
file = \"body-shape.wasm\"
config = { fields = [], max_chars = 10 }
[[plugin]]
name = \"second\"
file = \"second.wasm\"
enabled = false
on_error = \"reject\"
[plugin.config]
a.\"b c\".d = [1, -1.5e3, true, 1979-05-27T07:32:00Z, { e = [[]] }]
",
];

/// Loads what is there, asks it about a message and an edit of it, and tells how that went.
pub fn load(dir: &Path, cache: Option<&Path>) -> &'static str {
    let body = Body::parse(r#"{"text":"hello"}"#, &LIMITS).unwrap();
    match PluginHost::new(Options::new(Some(dir), cache, LIMITS)) {
        Ok(host) => {
            let (conversation, sender, role) = (Uuid::nil(), Uuid::nil(), "member");
            let sent = Candidate { conversation, sender, role, body: &body, edits: None };
            let edited = Edited { message_id: i64::MAX, version: u32::MAX, body: &body };
            host.chain().preview(Candidate { edits: Some(edited), ..sent });
            host.chain().preview(sent).outcome
        }
        Err(LoadError::Read { .. }) => "no such file",
        Err(LoadError::Manifest(_)) => "plugins.toml makes no sense",
        Err(LoadError::Invalid { .. }) => "damaged",
        Err(LoadError::Import { .. }) => "foreign import",
        Err(LoadError::NoHook { .. }) => "no hook",
        Err(LoadError::Version { .. }) => "another interface",
        Err(LoadError::Config { .. }) => "configuration refused",
        Err(LoadError::Start { .. }) => "does not start",
        Err(LoadError::Several(_)) => "several reasons",
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn any_manifest_is_applied_or_refused() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for manifest in MANIFESTS {
        fill(dir.path(), &["body-shape"], manifest);
        assert_eq!(load(dir.path(), Some(cache.path())), "stored");
    }
    let samples = MANIFESTS.map(Sample::lines);
    fuzz(file!(), "manifests", 4, &damaged(), |manifest: Damaged| {
        fs::write(dir.path().join("plugins.toml"), manifest.bytes(&samples)).unwrap();
        load(dir.path(), Some(cache.path()))
    });
}

#[test]
fn any_file_is_a_plugin_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    // A loop that damage makes ends soon.
    let manifest = "[[plugin]]\nname = \"guest\"\n[plugin.limits]\nstartup_ms = 200\ndeadline_ms = 50\n";
    fs::write(dir.path().join("plugins.toml"), manifest).unwrap();
    let module = fs::read(built().join("body-shape.wasm")).unwrap();
    let component = ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
    let samples = [sections(&module), sections(&component)];
    fuzz(file!(), "plugins", 16, &damaged(), |plugin: Damaged| {
        fs::write(dir.path().join("guest.wasm"), plugin.bytes(&samples)).unwrap();
        load(dir.path(), None)
    });
}

/// A module or component as its header and its sections, each without its length: that is right again after damage, so
/// that the loader reads on.
fn sections(wasm: &[u8]) -> Sample {
    let (header, mut rest) = wasm.split_at(8);
    let mut pieces = vec![header.to_vec()];
    while let Some((id, after)) = rest.split_first() {
        let digits = after.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let length = after[..digits].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        let (content, next) = after[digits..].split_at(length);
        pieces.push([&[*id], content].concat());
        rest = next;
    }
    Sample { pieces, join: join_sections }
}

fn join_sections(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut wasm = pieces.first().cloned().unwrap_or_default();
    for (id, content) in pieces.iter().skip(1).filter_map(|piece| piece.split_first()) {
        wasm.push(*id);
        let mut length = content.len();
        while length >= 0x80 {
            wasm.push(length as u8 | 0x80);
            length >>= 7;
        }
        wasm.push(length as u8);
        wasm.extend(content);
    }
    wasm
}
