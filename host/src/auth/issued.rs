//! How old a token is. Pure.

/// When a token was issued, which decides whether a disconnection of its user ends it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Issued {
    /// In seconds since the epoch.
    At(f64),
    /// It does not say: before any disconnection.
    Unknown,
    /// It is one of development, which nobody issues.
    Never,
}

impl Issued {
    /// Whether a disconnection at `not_before`, in seconds since the epoch, refuses the token.
    pub fn is_refused_by(self, not_before: f64) -> bool {
        self != Self::Never && self.is_ended_by(not_before)
    }

    /// Whether it ends a socket that was authenticated by the token before.
    pub fn is_ended_by(self, not_before: f64) -> bool {
        !matches!(self, Self::At(issued) if issued >= not_before)
    }
}
