//! Why something was last not written to disk, for operators.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The last failure, until something is written again. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unwritable(Arc<Mutex<Option<String>>>);

impl Unwritable {
    pub(crate) fn note<T>(&self, result: &io::Result<T>) {
        let reason = result.as_ref().err().map(ToString::to_string);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
