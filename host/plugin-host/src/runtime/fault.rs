//! Faults: failed calls of a plugin.

use std::fmt;

use wasmtime::Trap;

use super::memory::MemoryLimitExceeded;

/// The kind of a fault, as metrics and logs name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// The call exceeded its time limit.
    Deadline,
    /// The plugin exceeded its memory limit.
    Memory,
    /// The plugin exhausted its stack.
    Stack,
    /// The plugin panicked or executed an invalid operation.
    Trap,
    /// The judgement is too large.
    Output,
    /// The judgement violates the interface: text that is not UTF-8, or a pointer out of bounds.
    Abi,
    /// The replacement is not a valid body.
    InvalidReplacement,
    /// The hook may not return this verdict, or the verdict breaks its rules.
    InvalidVerdict,
    /// A new instance did not start.
    Start,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Deadline,
        Self::Memory,
        Self::Stack,
        Self::Trap,
        Self::Output,
        Self::Abi,
        Self::InvalidReplacement,
        Self::InvalidVerdict,
        Self::Start,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Trap => "trap",
            Self::Output => "output",
            Self::Abi => "abi",
            Self::InvalidReplacement => "invalid_replacement",
            Self::InvalidVerdict => "invalid_verdict",
            Self::Start => "start",
        }
    }
}

/// One failed call.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.text)
    }
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Classifies the error of a call.
    pub(crate) fn from_call_error(error: &wasmtime::Error) -> Self {
        let text = error.root_cause().to_string();
        let kind = if error.downcast_ref::<MemoryLimitExceeded>().is_some() {
            FaultKind::Memory
        } else if let Some(trap) = error.downcast_ref::<Trap>() {
            match trap {
                Trap::Interrupt => return Self::new(FaultKind::Deadline, "it took longer than its deadline"),
                Trap::StackOverflow => FaultKind::Stack,
                _ => FaultKind::Trap,
            }
        } else if text.starts_with("too much data is being copied") {
            // The error's type is private to wasmtime. A test checks this phrase.
            return Self::new(FaultKind::Output, "it hands over more than its output limit");
        } else {
            FaultKind::Abi
        };
        Self::new(kind, text)
    }

    /// The same fault with the last error that the plugin logged in the call. A panic and an exception end in a trap
    /// that says nothing, after their text was logged.
    pub(crate) fn with_last_words(self, words: Option<String>) -> Self {
        match words {
            Some(words) if self.kind == FaultKind::Trap => Self::new(self.kind, words),
            _ => self,
        }
    }

    /// The same fault, for an instance that could not be started.
    pub(crate) fn into_start_fault(self) -> Self {
        Self::new(FaultKind::Start, format!("a new instance does not start: {}", self.text))
    }
}
