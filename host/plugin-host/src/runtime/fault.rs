//! What can go wrong with a plugin while it judges a message.

use std::fmt;

use wasmtime::Trap;

use super::memory::MemoryLimitExceeded;

/// The kind of a plugin's failure, as metrics and logs name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// It took longer than it may.
    Deadline,
    /// It wanted more memory than it may have.
    Memory,
    /// It result deeper than the stack is.
    Stack,
    /// It panicked or did something impossible.
    Trap,
    /// Its answer is too large.
    Output,
    /// Its answer breaks the rules of the interface: text that is no UTF-8, a pointer out of bounds.
    Abi,
    /// Its replacement is no body.
    InvalidReplacement,
    /// Its verdict is none that this hook may give.
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

/// One failure.
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

    /// What a failed call means.
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
            // The type is private to wasmtime; a test holds the phrase.
            return Self::new(FaultKind::Output, "it hands over more than its output limit");
        } else {
            FaultKind::Abi
        };
        Self::new(kind, text)
    }

    /// The same failure, of an instance that was about to start.
    pub(crate) fn into_start_fault(self) -> Self {
        Self::new(FaultKind::Start, format!("a new instance does not start: {}", self.text))
    }
}
