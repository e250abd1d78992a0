//! Whose turn it is to wait for what another transaction has locked. Whoever waits there keeps a connection, so all of them
//! together have a part of the pool, and changes of one thing, which would wait for one another anyway, one connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use super::StoreError;

/// The turns of one pool. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// The queues of what is being changed.
    queues: Arc<Mutex<HashMap<Uuid, Queue>>>,
}

/// Whoever changes the same thing, one after the other.
type Queue = Arc<tokio::sync::Mutex<()>>;

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _connection: OwnedSemaphorePermit,
    _first: Option<(OwnedMutexGuard<()>, Place)>,
}

/// A place in the queue of a thing. The last one takes the queue away.
#[derive(Debug)]
struct Place {
    turns: Turns,
    of: Uuid,
    queue: Option<Queue>,
}

impl Turns {
    /// So many at once.
    pub(super) fn new(most: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(most)), queues: Arc::default() }
    }

    /// Waits for a turn to change something; `of` is the conversation, or the user, that is changed, if that is known.
    pub(super) async fn take(&self, of: Option<Uuid>, within: Duration) -> Result<Turn, StoreError> {
        let turn = async {
            let first = match of {
                Some(of) => {
                    let (queue, place) = self.queue_up(of);
                    Some((queue.lock_owned().await, place))
                }
                None => None,
            };
            let connection = self.all.clone().acquire_owned().await;
            connection.map(|connection| Turn { _connection: connection, _first: first })
        };
        match timeout(within, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(StoreError::Busy("too many changes wait for locks of others")),
        }
    }

    fn queue_up(&self, of: Uuid) -> (Queue, Place) {
        let queue = self.queues().entry(of).or_default().clone();
        (queue.clone(), Place { turns: self.clone(), of, queue: Some(queue) })
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Uuid, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        self.queue = None;
        // Clones are made under the lock alone.
        if queues.get(&self.of).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.of);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn changes_of_one_thing_leave_turns_to_others() {
        let turns = Turns::new(2);
        let (locked, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = turns.take(Some(locked), SOON).await.unwrap();
        let next: Vec<_> = (0..5).map(|_| tokio::spawn(take(turns.clone(), Some(locked)))).collect();
        tokio::task::yield_now().await;
        let (second, third) = (turns.take(Some(other), SOON).await.unwrap(), turns.take(None, Duration::ZERO).await);
        assert!(matches!(third, Err(StoreError::Busy(_))), "two were given");
        drop(second);
        drop(turns.take(None, SOON).await.unwrap());
        drop(first);
        for task in next {
            task.await.unwrap().unwrap();
        }
        assert!(turns.queues().is_empty(), "nothing is left of a queue that nobody stands in");
    }

    #[tokio::test]
    async fn who_gives_up_leaves_no_queue() {
        let (turns, of) = (Turns::new(1), Some(Uuid::from_u128(1)));
        let first = turns.take(of, SOON).await.unwrap();
        assert!(matches!(turns.take(of, Duration::ZERO).await, Err(StoreError::Busy(_))));
        assert_eq!(turns.queues().len(), 1);
        drop(first);
        assert!(turns.queues().is_empty());
        turns.take(of, SOON).await.unwrap();
    }

    async fn take(turns: Turns, of: Option<Uuid>) -> Result<(), StoreError> {
        turns.take(of, SOON).await.map(drop)
    }
}
