//! What the plugin host's tests share: built plugins, a directory for each test, and the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arcyou_plugin_host::tool::build;
use arcyou_plugin_host::{Candidate, Edited, LoadError, Options, PluginHost, PluginStatus, Preview, default_cache_dir};
use arcyou_protocol::body::{Body, BodyLimits};
use serde_json::Value;
use tempfile::TempDir;
use tracing::Dispatch;
use uuid::Uuid;

pub(crate) const LIMITS: BodyLimits = BodyLimits { max_bytes: 32 << 10, max_depth: 32 };

/// Where the plugins of this repository are as `.wasm`; built once.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("plugins-test");
        let guests = root.join("host/tests/guests");
        build::build(&[root.join("plugins"), guests.join("dice"), guests], &out).unwrap();
        out
    })
}

/// `XDG_CACHE_HOME` of gateways that tests start as processes.
pub(crate) const CACHE_HOME: &str = env!("CARGO_TARGET_TMPDIR");

/// Where they keep compiled plugins, and the hosts in this process theirs: each is compiled once for all of them.
pub(crate) fn cache() -> PathBuf {
    Path::new(CACHE_HOME).join("arcyou-gateway")
}

/// A plugins directory of its own for one test.
pub(crate) struct Dir {
    dir: TempDir,
    /// Milliseconds that the host's clock is ahead of its start.
    pub(crate) clock: Arc<AtomicU64>,
}

impl Dir {
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }

    /// One misbehaving plugin named `guest`, with this after its name. Where that sets no limits, a pause of a busy
    /// machine does not count as the plugin's.
    pub(crate) fn guest(settings: &str) -> Self {
        let dir = Self::empty();
        dir.copy("misbehaving.wasm", "guest.wasm");
        let patience = if settings.contains("[plugin.limits]") { "" } else { "[plugin.limits]\ndeadline_ms = 10000\n" };
        dir.manifest(&format!("[[plugin]]\nname = \"guest\"\n{settings}{patience}"));
        dir
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn copy(&self, built_file: &str, name: &str) {
        fs::copy(built().join(built_file), self.path().join(name)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).unwrap();
    }

    pub(crate) fn manifest(&self, text: &str) {
        self.write("plugins.toml", text.as_bytes());
    }

    pub(crate) fn try_host(&self) -> Result<PluginHost, LoadError> {
        let cache = cache();
        let mut options = Options::new(Some(self.path()), Some(&cache), LIMITS);
        let (start, ahead) = (Instant::now(), self.clock.clone());
        // Others may keep the machine busy.
        options.compile_within = Duration::from_secs(600);
        options.clock = Arc::new(move || start + Duration::from_millis(ahead.load(Ordering::SeqCst)));
        PluginHost::new(options)
    }

    pub(crate) fn host(&self) -> PluginHost {
        self.try_host().unwrap()
    }

    pub(crate) fn error(&self) -> String {
        self.try_host().err().expect("it must not load").to_string()
    }
}

/// Compiles what is in a directory for gateways in this process, however long that takes.
pub(crate) fn compile_for_gateways(dir: &Path) {
    let cache = default_cache_dir();
    let mut options = Options::new(Some(dir), cache.as_deref(), LIMITS);
    options.compile_within = Duration::from_secs(600);
    PluginHost::new(options).unwrap();
}

/// A message of somebody who has sent none before.
pub(crate) fn send(host: &PluginHost, body: Value) -> Preview {
    send_from(host, new_sender(), body)
}

/// A message of this sender.
pub(crate) fn send_from(host: &PluginHost, sender: u64, body: Value) -> Preview {
    judge(host, sender, &body, None)
}

/// An edit of the message 7, whose version 3 stands with the body `stands`, by somebody who has sent nothing before.
pub(crate) fn edit(host: &PluginHost, stands: &Value, body: &Value) -> Preview {
    edit_from(host, new_sender(), stands, body)
}

/// An edit of the same message by this sender.
pub(crate) fn edit_from(host: &PluginHost, sender: u64, stands: &Value, body: &Value) -> Preview {
    judge(host, sender, body, Some(stands))
}

fn new_sender() -> u64 {
    static SENDERS: AtomicU64 = AtomicU64::new(0);
    SENDERS.fetch_add(1, Ordering::Relaxed)
}

fn judge(host: &PluginHost, sender: u64, body: &Value, stands: Option<&Value>) -> Preview {
    let parse = |body: &Value| Body::parse(&body.to_string(), &LIMITS).unwrap();
    let (conversation, sender) = (Uuid::from_u128(1), Uuid::from_u128(sender.into()));
    let (body, stands) = (&parse(body), stands.map(parse));
    let edits = stands.as_ref().map(|body| Edited { message_id: 7, version: 3, body });
    host.chain().preview(Candidate { conversation, sender, role: "member", body, edits })
}

pub(crate) fn status(host: &PluginHost) -> PluginStatus {
    host.status().remove(0)
}

pub(crate) fn annotations(preview: &Preview) -> Value {
    serde_json::from_str(preview.annotations.as_deref().unwrap_or("null")).unwrap()
}

/// The events of this thread during `work`, as `LEVEL plugin: message` and fields.
pub(crate) fn logged(work: impl FnOnce()) -> Vec<String> {
    // While there is only one subscriber, what another thread logs for the first time is thought to interest nobody,
    // here neither.
    static OTHERS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| [(); 2].map(|()| Dispatch::new(Recorder::default())));
    LazyLock::force(&OTHERS);
    let recorder = Recorder::default();
    let lines = recorder.0.clone();
    tracing::subscriber::with_default(recorder, work);
    lines.lock().unwrap().clone()
}

#[derive(Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Recorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { plugin, message, others } = fields;
        self.0.lock().unwrap().push(format!("{} {plugin}: {message}{others}", event.metadata().level()));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[derive(Default)]
struct Fields {
    plugin: String,
    message: String,
    others: String,
}

impl tracing::field::Visit for Fields {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        match field.name() {
            "plugin" => value.clone_into(&mut self.plugin),
            other => self.others.push_str(&format!(" {other}={value}")),
        }
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            other => self.others.push_str(&format!(" {other}={value:?}")),
        }
    }
}
