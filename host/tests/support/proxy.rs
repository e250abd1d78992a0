//! A TCP link that can be broken: what goes through it may be held back, delayed, or cut off.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const BUFFER: u32 = 64 * 1024;

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Nothing arrives, ends included; both sides believe to be connected.
    Hold,
    Delay(Duration),
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// Connections made before the last cut are gone.
    cuts: u64,
}

/// A link to a port of this machine.
pub struct Proxy {
    pub port: u16,
    state: Arc<watch::Sender<State>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(upstream: u16) -> Self {
        let socket = narrow();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener: TcpListener = socket.listen(1024).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(watch::Sender::new(State { mode: Mode::Pass, cuts: 0 }));
        let states = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((near, _)) = listener.accept().await else { continue };
                tokio::spawn(connection(near, upstream, states.subscribe()));
            }
        });
        Self { port, state, task }
    }

    /// Nothing arrives any more until [`Self::heal`].
    pub fn partition(&self) {
        self.set(Mode::Hold);
    }

    /// Everything arrives this much later until [`Self::heal`].
    pub fn delay(&self, by: Duration) {
        self.set(Mode::Delay(by));
    }

    pub fn heal(&self) {
        self.set(Mode::Pass);
    }

    /// Resets every connection; new ones may be made at once.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

/// A socket with small buffers: who writes to somebody that does not read notices.
pub fn narrow() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(BUFFER).unwrap();
    socket.set_send_buffer_size(BUFFER).unwrap();
    socket
}

async fn connection(near: TcpStream, upstream: u16, state: watch::Receiver<State>) {
    let cuts = state.borrow().cuts;
    let connected = async {
        passing(&mut state.clone()).await;
        narrow().connect((Ipv4Addr::LOCALHOST, upstream).into()).await
    };
    let far = tokio::select! {
        far = connected => far,
        () = cut(state.clone(), cuts) => return reset(&near),
    };
    // Nobody there is a refusal, as without the link.
    let Ok(far) = far else { return reset(&near) };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
        // Whichever way a connection through the link breaks, both sides hear of it as a reset.
        reset(stream);
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let both = async {
        let (there, back) = (pump(near_in, far_out, state.clone()), pump(far_in, near_out, state.clone()));
        let _ = tokio::try_join!(there, back);
    };
    tokio::select! {
        () = both => {}
        () = cut(state.clone(), cuts) => {}
    }
}

/// From now on the end of this stream is a reset.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn cut(mut state: watch::Receiver<State>, cuts: u64) {
    // An error means that the link is gone, which cuts as well.
    let _ = state.wait_for(|state| state.cuts != cuts).await;
}

/// Waits until bytes may go on, for as long as they have to.
async fn passing(state: &mut watch::Receiver<State>) {
    let mode = state.borrow().mode;
    if let Mode::Delay(by) = mode {
        return tokio::time::sleep(by).await;
    }
    // An error means that the link is gone: nothing arrives any more, and the cut ends the connection.
    let _ = state.wait_for(|state| state.mode != Mode::Hold).await.map(drop);
}

/// Copies one direction up to its end, which is passed on.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER as usize];
    loop {
        let read = from.read(&mut buffer).await;
        passing(&mut state).await;
        match read? {
            0 => return to.shutdown().await,
            count => to.write_all(&buffer[..count]).await?,
        }
    }
}
