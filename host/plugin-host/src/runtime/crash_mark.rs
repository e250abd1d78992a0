//! What a dying process leaves behind: which plugin it was compiling or running.
//!
//! WebAssembly cannot harm the process, unless the engine has a bug: then the process may abort, and whoever starts it
//! again would run the same plugin again. So each thread knows the plugin that it is busy with, and a handler of deadly
//! signals writes that plugin's digest into a file, which the next process reads.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Once, OnceLock};
use std::task::{Context, Poll};

use crate::digest::hex;

/// The file beside the compiled code. One line for each crash: the digest of the plugin's file.
const FILE_NAME: &str = "crashed";
/// Marks that are kept. Each is of another file that ended a process: nobody has as many in use.
const MAX_MARKS: usize = 1000;
/// How to try a marked plugin again, for operators.
pub(crate) const QUARANTINE_HELP: &str =
    "or delete `crashed` in the directory of compiled plugins and send SIGHUP, to try it again";
/// Signals that end the process, unless the engine handles them as traps. Rust's `abort`, and with it a failed
/// allocation and a panic that must not unwind, is `SIGABRT`.
const DEADLY: [libc::c_int; 4] = [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL];

/// Nobody's digest: the thread is busy with no plugin.
const NONE: [u8; 32] = [0; 32];

thread_local! {
    /// Constant at first and without a destructor, so that a signal handler can read it.
    static BUSY_WITH: Cell<[u8; 32]> = const { Cell::new(NONE) };
}

/// The plugin that was last begun to be compiled and is not finished. One at a time is compiled, save for those that
/// exceed their time.
static COMPILING: [AtomicU8; 32] = [const { AtomicU8::new(0) }; 32];

/// The file, open for appending, for the rest of the process.
static MARKS: OnceLock<File> = OnceLock::new();

/// While this exists, the thread is busy with a plugin.
pub(crate) struct Busy {
    before: [u8; 32],
}

impl Busy {
    pub(crate) fn with(digest: &[u8; 32]) -> Self {
        Self { before: BUSY_WITH.replace(*digest) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY_WITH.set(self.before);
    }
}

/// While this exists, the process compiles a plugin, on threads that are the engine's own.
pub(crate) struct Compiling(());

impl Compiling {
    pub(crate) fn start(digest: &[u8; 32]) -> Self {
        store_compiling(digest);
        Self(())
    }
}

impl Drop for Compiling {
    fn drop(&mut self) {
        store_compiling(&NONE);
    }
}

fn store_compiling(digest: &[u8; 32]) {
    for (place, byte) in COMPILING.iter().zip(digest) {
        place.store(*byte, Ordering::Relaxed);
    }
}

/// Polls `future` while the thread is busy with a plugin.
pub(crate) async fn busy_with<F: Future>(digest: &[u8; 32], future: F) -> F::Output {
    struct Polled<'a, F>(&'a [u8; 32], Pin<&'a mut F>);

    impl<F: Future> Future for Polled<'_, F> {
        type Output = F::Output;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
            let _busy = Busy::with(self.0);
            self.1.as_mut().poll(context)
        }
    }

    Polled(digest, pin!(future)).await
}

/// Installs the handler, once. To be called before any engine is made: the engine's own handler then comes first, and
/// hands on only what is no trap of a plugin. After it, each trap would look like the process's end.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        for signal in DEADLY {
            // SAFETY: `mark` only reads a thread-local and cells that are set already, and calls functions that POSIX
            // lists as async-signal-safe.
            #[allow(unsafe_code)]
            let installed = unsafe { signal_hook_registry::register_signal_unchecked(signal, move || mark(signal)) };
            if let Err(error) = installed {
                tracing::warn!(%error, signal, "a plugin that ends the process will not be known to the next one");
            }
        }
    });
}

/// Marks from now on what this process was busy with when it died, in this directory. The first directory stands.
pub(crate) fn watch(dir: &Path) -> io::Result<()> {
    if MARKS.get().is_none() {
        let mut file = File::options().create(true).read(true).append(true).open(dir.join(FILE_NAME))?;
        forget_oldest(&mut file)?;
        let _ = MARKS.set(file);
    }
    Ok(())
}

/// Keeps the newest [`MAX_MARKS`] marks, each once. The file stays the same one, because other processes may have it
/// open: a mark that one of them writes at this moment can be lost, and then the plugin ends one process more.
fn forget_oldest(file: &mut File) -> io::Result<()> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut seen = HashSet::new();
    let mut marks: Vec<&str> = text.lines().rev().filter(|line| seen.insert(*line)).take(MAX_MARKS).collect();
    marks.reverse();
    let kept: String = marks.into_iter().flat_map(|mark| [mark, "\n"]).collect();
    if kept.len() < text.len() {
        file.set_len(0)?;
        file.write_all(kept.as_bytes())?;
    }
    Ok(())
}

/// The handler. Afterwards the process dies as it would have without it.
fn mark(signal: libc::c_int) {
    let mut digest = BUSY_WITH.get();
    if digest == NONE {
        digest = std::array::from_fn(|place| COMPILING[place].load(Ordering::Relaxed));
    }
    if digest != NONE
        && let Some(file) = MARKS.get()
    {
        let mut line = [b'\n'; 65];
        for (place, byte) in digest.iter().enumerate() {
            line[2 * place] = b"0123456789abcdef"[usize::from(byte >> 4)];
            line[2 * place + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        // SAFETY: the bytes are there, and the file is never closed.
        #[allow(unsafe_code)]
        unsafe {
            libc::write(file.as_raw_fd(), line.as_ptr().cast(), line.len());
        }
    }
    // SAFETY: the default action is what comes next: the instruction that failed is executed again.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// Whether a process that used this directory died while it was busy with this plugin.
pub(crate) fn is_marked(dir: &Path, digest: &[u8; 32]) -> bool {
    let digest = hex(digest);
    fs::read_to_string(dir.join(FILE_NAME)).is_ok_and(|text| text.lines().any(|line| line == digest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Set for the child of the test below.
    const CHILD: &str = "ARCYOU_TEST_CRASH_IN";

    #[test]
    fn the_newest_marks_are_kept_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mark = |n: usize| format!("{n:064x}\n");
        let all: String = (0..3 * MAX_MARKS).map(|n| mark(n / 2)).chain([mark(0)]).collect();
        fs::write(&path, all).unwrap();
        let mut other = File::options().append(true).open(&path).unwrap();
        forget_oldest(&mut File::options().read(true).append(true).open(&path).unwrap()).unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        let expected: String = (MAX_MARKS / 2 + 1..3 * MAX_MARKS / 2).map(mark).chain([mark(0)]).collect();
        assert!(kept == expected, "{} lines", kept.lines().count());
        // Another process goes on with the same file.
        other.write_all(mark(7).as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected + &mark(7));
    }

    #[test]
    fn what_a_process_died_of_is_marked() {
        let digest = [0xab; 32];
        if let Some(dir) = std::env::var_os(CHILD) {
            install();
            watch(Path::new(&dir)).unwrap();
            let _busy = Busy::with(&digest);
            drop(Busy::with(&[1; 32]));
            std::process::abort();
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_marked(dir.path(), &digest));
        let name = "runtime::crash_mark::tests::what_a_process_died_of_is_marked";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let died = child.args(["--exact", name]).env(CHILD, dir.path()).output().unwrap();
        assert!(!died.status.success(), "{died:?}");
        assert!(is_marked(dir.path(), &digest));
        assert!(!is_marked(dir.path(), &[1; 32]));
    }
}
