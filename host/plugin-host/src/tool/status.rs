//! `plugin status`: the status of a running gateway's plugins, read from its admin address.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arcyou_platform::admin::AdminToken;
use arcyou_platform::env::{Process, Reader};
use arcyou_platform::terminal::{clipped, is_broken_pipe, print, printable, table};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::digest::short;

/// Limit for the whole exchange.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the response.
const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// The width of a text in the table.
const TEXT_WIDTH: usize = 70;

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The gateway's admin address
    #[arg(long, env = "ADMIN_ADDR", value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// What a gateway answers.
#[derive(Deserialize)]
struct Answer {
    plugins: Vec<PluginRow>,
    refused: Option<RefusedRow>,
}

/// A reload that was refused.
#[derive(Deserialize)]
struct RefusedRow {
    reason: String,
    at: String,
    waiting: Vec<WaitingRow>,
}

#[derive(Deserialize)]
struct WaitingRow {
    plugin: String,
    change: String,
}

/// The fields of a plugin's status that the table shows.
#[derive(Deserialize)]
struct PluginRow {
    plugin: String,
    version: Option<String>,
    sha256: String,
    mode: String,
    breaker: String,
    verdicts: BTreeMap<String, u64>,
    failures: u64,
    last_failure: Option<String>,
    instances: usize,
    memory_bytes: usize,
    watched: bool,
    quarantined: bool,
    rolled_back: Option<RolledBackRow>,
}

#[derive(Deserialize)]
struct RolledBackRow {
    sha256: String,
    reason: String,
}

/// Prints the status. The exit code says whether all plugins work, and are those in the plugins directory.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let Options { admin, json } = *options;
    let response = tokio::runtime::Handle::current().block_on(timeout(RESPONSE_TIMEOUT, query(admin, token()?)));
    let admin_address = || format!("the gateway's admin address {admin} (ADMIN_ADDR, --admin)");
    let answer = response
        .unwrap_or_else(|_| bail!("no answer within {} s", RESPONSE_TIMEOUT.as_secs()))
        .with_context(admin_address)?;
    let Answer { plugins, refused } = Deserialize::deserialize(&answer).with_context(admin_address)?;
    let printed = match json {
        true => print(&serde_json::to_string_pretty(&answer)?),
        false => print_table(&plugins).and_then(|()| refused.as_ref().map_or(Ok(()), print_refused)),
    };
    match printed.map_err(anyhow::Error::from) {
        // The reader has closed the pipe, which is not an error.
        Err(error) if is_broken_pipe(&error) => {}
        outcome => outcome?,
    }
    let all_work =
        plugins.iter().all(|plugin| plugin.breaker == "closed" && !plugin.quarantined && plugin.rolled_back.is_none());
    Ok(if all_work && refused.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From the environment alone: other users of the machine can read a command line.
fn token() -> anyhow::Result<Option<AdminToken>> {
    let mut reader = Reader::new(&Process);
    let token = reader.optional("ADMIN_TOKEN");
    reader.finish()?;
    Ok(token)
}

async fn query(admin: SocketAddr, token: Option<AdminToken>) -> anyhow::Result<Value> {
    let stream = TcpStream::connect(admin).await.context("it cannot be reached")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get("/plugins").header(HOST, admin.to_string());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token.authorization());
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?;
    connection.abort();
    let answer = serde_json::from_slice::<Value>(&body.to_bytes());
    if status != StatusCode::OK {
        // A gateway says what is missing.
        match answer.as_ref().ok().and_then(|answer| answer["error"].as_str()) {
            Some(error) => bail!("it answers {status}: {}", printable(error)),
            None => bail!("it answers {status}: it is not a gateway, or an older one"),
        }
    }
    Ok(answer?)
}

/// What waits in the plugins directory, and why. The reason may have lines, with what to write.
fn print_refused(refused: &RefusedRow) -> io::Result<()> {
    let RefusedRow { reason, at, waiting } = refused;
    let waiting: Vec<String> =
        waiting.iter().map(|one| format!("{} ({})", printable(&one.plugin), printable(&one.change))).collect();
    let waiting = if waiting.is_empty() { "all files".to_owned() } else { waiting.join(", ") };
    print("")?;
    print(&format!(
        "REFUSED since {}: the plugins above are the old ones, and a gateway that starts now fails",
        printable(at)
    ))?;
    print(&format!("waiting  {waiting}"))?;
    reason.lines().enumerate().try_for_each(|(line, text)| {
        print(&format!("{:<8} {}", if line == 0 { "reason" } else { "" }, printable(text)))
    })
}

fn print_table(plugins: &[PluginRow]) -> io::Result<()> {
    if plugins.is_empty() {
        return print("no plugins");
    }
    let head = ["PLUGIN", "VERSION", "SHA256", "MODE", "STATE", "CALLS", "FAILED", "INSTANCES", "MEMORY", "NOTE"];
    print(&table(head, plugins.iter().map(row).collect()))
}

fn row(plugin: &PluginRow) -> [String; 10] {
    let answered: u64 = plugin.verdicts.values().sum();
    let state = match (&plugin.rolled_back, plugin.breaker.as_str(), plugin.watched) {
        _ if plugin.quarantined => "quarantined",
        (_, "open", _) => "not called",
        (Some(_), ..) => "rolled back",
        (None, _, true) => "new",
        (None, _, false) => "works",
    };
    let quarantined = plugin.quarantined.then(|| "a gateway died while it ran this file; replace it".to_owned());
    let back = plugin.rolled_back.as_ref().map(|back| format!("{} is refused: {}", short(&back.sha256), back.reason));
    let note = quarantined.or(back).or_else(|| plugin.last_failure.clone()).unwrap_or_default();
    [
        printable(&plugin.plugin),
        printable(plugin.version.as_deref().unwrap_or("-")),
        short(&plugin.sha256).to_owned(),
        printable(&plugin.mode),
        state.to_owned(),
        (answered + plugin.failures).to_string(),
        plugin.failures.to_string(),
        plugin.instances.to_string(),
        format!("{} KiB", plugin.memory_bytes.div_ceil(1024)),
        clipped(&note, TEXT_WIDTH),
    ]
}
