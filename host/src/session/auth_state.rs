//! Who a connection speaks for, and until when. Pure: the clock is an argument.

use std::time::Duration;

use arcyou_protocol::{CloseCode, ErrorCode, Failure};
use tokio::time::Instant;
use uuid::Uuid;

/// Tokens that may be refused in a row. A client that is well sends the next one after it has fetched another.
const MAX_REFUSED: u32 = 5;

/// A connection's right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Anonymous {
        /// When it must be somebody.
        deadline: Instant,
    },
    Active {
        user: Uuid,
        /// When the token ends, if it does.
        expires: Option<Instant>,
    },
    /// A user whose token has ended.
    Expired {
        user: Uuid,
        /// When a fresh one must be there.
        deadline: Instant,
    },
}

/// What time has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The token ended: tell the client, and stop its events.
    Expired,
    /// The connection must be closed.
    Close(CloseCode),
}

/// What an `auth` changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The first one, or the right had not ended.
    Plain,
    /// The right had ended: what was stopped goes on.
    AfterExpiry,
}

/// The state of one connection.
#[derive(Debug)]
pub struct AuthState {
    auth_within: Duration,
    right: Right,
    /// Tokens that were refused since the last one that was accepted.
    refused: u32,
}

impl AuthState {
    /// A connection that was made at `now`, and may do without a valid token for `auth_within`, then and after a
    /// token's end.
    pub fn new(auth_within: Duration, now: Instant) -> Self {
        Self { auth_within, right: Right::Anonymous { deadline: now + auth_within }, refused: 0 }
    }

    /// The user for whom the connection speaks.
    pub fn user(&self, now: Instant) -> Result<Uuid, Failure> {
        match self.right {
            Right::Active { user, .. } if self.is_active(now) => Ok(user),
            Right::Anonymous { .. } => Err(Failure::new(ErrorCode::AuthRequired, "send auth first")),
            Right::Active { .. } | Right::Expired { .. } => {
                Err(Failure::new(ErrorCode::AuthRequired, "the token has expired; send auth with a fresh one"))
            }
        }
    }

    /// Whether the connection speaks for somebody.
    pub fn is_active(&self, now: Instant) -> bool {
        matches!(self.right, Right::Active { expires, .. } if expires.is_none_or(|expires| now < expires))
    }

    /// Whether the connection may speak for `user`: it belongs to nobody else.
    pub fn admits(&self, user: Uuid) -> Result<(), Failure> {
        match self.right {
            Right::Active { user: current, .. } | Right::Expired { user: current, .. } if current != user => {
                Err(Failure::new(ErrorCode::UserMismatch, "this socket belongs to another user; open a new one"))
            }
            _ => Ok(()),
        }
    }

    /// A valid token of `user` came, good until `expires`.
    pub fn authenticated(&mut self, user: Uuid, expires: Option<Instant>) -> Result<Renewal, Failure> {
        self.admits(user)?;
        let renewal = match self.right {
            Right::Expired { .. } => Renewal::AfterExpiry,
            _ => Renewal::Plain,
        };
        self.right = Right::Active { user, expires };
        self.refused = 0;
        Ok(renewal)
    }

    /// A token was refused; answers with a close code if it was one too many.
    pub fn refused(&mut self) -> Option<CloseCode> {
        self.refused += 1;
        (self.refused >= MAX_REFUSED).then_some(CloseCode::TokensRefused)
    }

    /// When [`AuthState::tick`] is due, if ever.
    pub fn due(&self) -> Option<Instant> {
        match self.right {
            Right::Anonymous { deadline } | Right::Expired { deadline, .. } => Some(deadline),
            Right::Active { expires, .. } => expires,
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant) -> Option<Alarm> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        match self.right {
            Right::Anonymous { .. } => Some(Alarm::Close(CloseCode::AuthTimeout)),
            Right::Expired { .. } => Some(Alarm::Close(CloseCode::SessionExpired)),
            Right::Active { user, .. } => {
                self.right = Right::Expired { user, deadline: now + self.auth_within };
                Some(Alarm::Expired)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[test]
    fn a_connection_that_never_authenticates_is_closed() {
        let start = Instant::now();
        let mut state = AuthState::new(PATIENCE, start);
        assert_eq!(code(state.user(start)), ErrorCode::AuthRequired);
        assert_eq!(state.tick(start + PATIENCE - Duration::from_millis(1)), None);
        assert_eq!(state.tick(start + PATIENCE), Some(Alarm::Close(CloseCode::AuthTimeout)));
    }

    #[test]
    fn a_right_ends_with_its_token_and_can_be_renewed() {
        let start = Instant::now();
        let (user, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut state = AuthState::new(PATIENCE, start);
        let end = start + Duration::from_secs(60);
        assert_eq!(state.authenticated(user, Some(end)), Ok(Renewal::Plain));
        assert_eq!(state.user(start), Ok(user));
        assert_eq!(code(state.authenticated(other, None)), ErrorCode::UserMismatch);
        // Between the end and the tick the right has ended all the same.
        assert_eq!(code(state.user(end)), ErrorCode::AuthRequired);
        assert_eq!(state.tick(end), Some(Alarm::Expired));
        assert_eq!(code(state.user(end)), ErrorCode::AuthRequired);
        assert_eq!(code(state.authenticated(other, None)), ErrorCode::UserMismatch);
        assert_eq!(state.authenticated(user, None), Ok(Renewal::AfterExpiry));
        assert_eq!((state.due(), state.user(end)), (None, Ok(user)));
    }

    #[test]
    fn refused_tokens_in_a_row_have_an_end() {
        let start = Instant::now();
        let mut state = AuthState::new(PATIENCE, start);
        let refuse = |state: &mut AuthState, times: u32| (0..times).filter_map(|_| state.refused()).next();
        assert_eq!(refuse(&mut state, MAX_REFUSED - 1), None);
        state.authenticated(Uuid::nil(), None).unwrap();
        assert_eq!(refuse(&mut state, MAX_REFUSED - 1), None);
        assert_eq!(refuse(&mut state, 1), Some(CloseCode::TokensRefused));
    }

    #[test]
    fn without_a_fresh_token_the_connection_is_closed() {
        let start = Instant::now();
        let mut state = AuthState::new(PATIENCE, start);
        state.authenticated(Uuid::nil(), Some(start)).unwrap();
        assert_eq!(state.tick(start), Some(Alarm::Expired));
        assert_eq!(state.tick(start), None);
        assert_eq!(state.tick(start + PATIENCE), Some(Alarm::Close(CloseCode::SessionExpired)));
    }
}
