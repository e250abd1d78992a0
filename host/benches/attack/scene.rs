//! Where an attack takes place.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::{try_connection_from, try_narrow_from};
use crate::stack::{self, Database, Part, status_bytes};

/// The attackers' machine.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub type Socket = WebSocketStream<TcpStream>;

/// The gateway that is attacked: this build's, or the one that `GATEWAY_BINARY` names.
pub fn binary() -> PathBuf {
    std::env::var_os("GATEWAY_BINARY").map_or_else(stack::gateway_binary, PathBuf::from)
}

/// A gateway that is attacked for a while.
pub struct Scene<'s> {
    pub database: &'s Database<'s>,
    pub gateway: &'s Part,
    /// For how long.
    pub lasts: Duration,
}

/// Why there is no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoSocket {
    /// By HTTP, with this status.
    Refused(u16),
    /// The connection ended, or there was no answer in time.
    Cut,
}

impl Scene<'_> {
    /// When the attack ends.
    pub fn end(&self) -> Instant {
        Instant::now() + self.lasts
    }

    pub async fn connect(&self) -> std::io::Result<TcpStream> {
        try_connection_from(ATTACKER, self.gateway.port).await
    }

    /// A socket of the attackers'.
    pub async fn open(&self) -> Result<Socket, NoSocket> {
        self.upgrade(self.connect().await).await
    }

    /// The same for one who does not read: the kernel keeps little for it.
    pub async fn open_narrowly(&self) -> Result<Socket, NoSocket> {
        self.upgrade(try_narrow_from(ATTACKER, self.gateway.port).await).await
    }

    async fn upgrade(&self, stream: std::io::Result<TcpStream>) -> Result<Socket, NoSocket> {
        let stream = stream.map_err(|_| NoSocket::Cut)?;
        match timeout(PATIENCE, client_async("ws://127.0.0.1/ws", stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(Error::Http(answer))) => Err(NoSocket::Refused(answer.status().as_u16())),
            Ok(Err(_)) | Err(_) => Err(NoSocket::Cut),
        }
    }
}

/// A request as a frame.
pub fn frame(request: &serde_json::Value) -> Message {
    Message::text(request.to_string())
}

/// The memory of the gateway while it is attacked.
pub struct Memory {
    before: f64,
    peak: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// In bytes.
pub struct Resident {
    pub before: f64,
    pub peak: f64,
}

impl Memory {
    pub fn watch(pid: u32) -> Self {
        let resident = move || status_bytes(pid, "VmRSS:");
        let (before, peak) = (resident(), Arc::<AtomicU64>::default());
        let highest = Arc::clone(&peak);
        let task = tokio::spawn(async move {
            loop {
                highest.fetch_max(resident() as u64, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { before, peak, task }
    }

    pub fn stop(self) -> Resident {
        self.task.abort();
        Resident { before: self.before, peak: self.peak.load(Ordering::Relaxed) as f64 }
    }
}
