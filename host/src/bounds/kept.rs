//! Connections that services keep open: each holds a place among `MAX_CONNECTIONS`, counts for its address as a socket
//! does, and for its key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::addresses::Share;

/// How many connections each key keeps open. It knows only keys that keep any.
#[derive(Debug)]
pub struct KeyBook {
    limit: usize,
    kept: Mutex<HashMap<Uuid, usize>>,
}

impl KeyBook {
    /// A book in which each key may have so many.
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    /// Counts one more until it is dropped; none: the key has as many as it may have.
    pub fn take(self: &Arc<Self>, key: Uuid) -> Option<OfKey> {
        let mut kept = self.lock();
        let count = kept.entry(key).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(OfKey { book: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of what a key may have; dropped, it is given back.
#[derive(Debug)]
pub struct OfKey {
    book: Arc<KeyBook>,
    key: Uuid,
}

impl Drop for OfKey {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.book.lock().entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What a connection that is kept holds; dropped, all of it is given back.
#[derive(Debug)]
pub struct Keeping {
    pub(super) _of_key: OfKey,
    /// None: a trusted proxy's connections count for no address.
    pub(super) _of_address: Option<Share>,
    pub(super) _place: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_share_and_is_forgotten_with_the_last() {
        let book = Arc::new(KeyBook::new(2));
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (first, second) = (book.take(one), book.take(one));
        assert!(first.is_some() && second.is_some() && book.take(one).is_none());
        assert!(book.take(other).is_some());
        drop(first);
        assert!(book.take(one).is_some());
        drop(second);
        assert!(book.lock().is_empty());
    }
}
