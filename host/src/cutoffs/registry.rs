//! Which sockets of this gateway speak for whom, and by tokens of when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::auth::Issued;
use crate::fanout::outbound::Outbound;

/// All authenticated sockets of this gateway, by user.
#[derive(Debug, Default)]
pub(super) struct Registry {
    sockets: Mutex<BTreeMap<(Uuid, u64), Arc<Socket>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Socket {
    issued: Mutex<Issued>,
    is_ended: AtomicBool,
    outbound: Arc<Outbound>,
}

impl Socket {
    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    pub(super) fn register(self: &Arc<Self>, user: Uuid, issued: Issued, outbound: Arc<Outbound>) -> Ticket {
        let key = (user, self.next.fetch_add(1, Ordering::Relaxed));
        let socket = Arc::new(Socket { issued: Mutex::new(issued), is_ended: AtomicBool::new(false), outbound });
        self.lock().insert(key, socket.clone());
        Ticket { registry: self.clone(), key, socket }
    }

    /// Ends the sockets of `user` whose tokens were issued before this time; answers how many.
    pub(super) fn end(&self, user: Uuid, not_before: f64) -> usize {
        let sockets = self.lock();
        let of_user = sockets.range((user, 0)..=(user, u64::MAX)).map(|(_, socket)| socket);
        let ended = of_user
            .filter(|socket| socket.issued().is_ended_by(not_before) && !socket.is_ended.swap(true, Ordering::AcqRel));
        ended.inspect(|socket| socket.outbound.notify()).count()
    }

    /// Everybody who has a socket.
    pub(super) fn users(&self) -> Vec<Uuid> {
        let mut users: Vec<Uuid> = self.lock().keys().map(|(user, _)| *user).collect();
        users.dedup();
        users
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Uuid, u64), Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One socket's registration. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Ticket {
    registry: Arc<Registry>,
    key: (Uuid, u64),
    socket: Arc<Socket>,
}

impl Ticket {
    pub(super) fn user(&self) -> Uuid {
        self.key.0
    }

    pub(super) fn issued(&self) -> Issued {
        *self.socket.issued()
    }

    pub(super) fn renew(&self, issued: Issued) {
        *self.socket.issued() = issued;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.socket.is_ended.load(Ordering::Acquire)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_sockets_of_the_user_end_and_each_once() {
        let registry = Arc::<Registry>::default();
        let register =
            |user: u128, issued| registry.register(Uuid::from_u128(user), issued, Arc::new(Outbound::new(65_536)));
        let (old, new) = (register(1, Issued::At(99.0)), register(1, Issued::At(100.5)));
        let (unknown, never) = (register(1, Issued::Unknown), register(1, Issued::Never));
        let (before, after) = (register(0, Issued::At(1.0)), register(2, Issued::At(1.0)));
        assert_eq!(registry.end(Uuid::from_u128(1), 100.25), 3);
        assert!(old.is_ended() && unknown.is_ended() && never.is_ended());
        assert!(!new.is_ended() && !before.is_ended() && !after.is_ended());
        assert_eq!(registry.end(Uuid::from_u128(1), 100.25), 0);
        new.renew(Issued::At(99.0));
        assert_eq!((registry.end(Uuid::from_u128(1), 100.25), new.is_ended()), (1, true));
        assert_eq!(registry.users(), [0, 1, 2].map(Uuid::from_u128));
        drop((old, new, unknown, never, after));
        assert_eq!(registry.users(), [Uuid::nil()]);
    }
}
