//! `auth`: from a token to a socket that speaks for its user, and back when the user is disconnected.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcyou_protocol::{CloseCode, Echo, ErrorCode, Failure, Op, Reply};
use tokio::time::Instant;
use uuid::Uuid;

use super::auth_state::Renewal;
use super::requests::{Session, too_fast};
use super::wire::End;
use crate::auth::Identity;
use crate::bounds::refusals::count_auth;
use crate::bounds::users::TooManySockets;
use crate::cutoffs::Unproven;

/// Why an `auth` came to nothing.
enum NoAuth {
    Refused(Failure),
    /// It was not looked at, or nobody can tell: the same token may be good later.
    NotYet(Failure),
    /// The token is good, but there is no place for one more socket.
    Full(Failure, CloseCode),
}

impl Session {
    pub(super) async fn auth(&mut self, token: &str, echo: &Echo) -> Result<(), End> {
        let (identity, renewal) = match self.authenticate(token).await {
            Ok(renewed) => renewed,
            Err(NoAuth::Refused(failure)) => return self.refuse_token(&failure, echo),
            Err(NoAuth::NotYet(failure)) => {
                count_auth(failure.code);
                return self.say(failure.encode(Op::Auth.value(), echo));
            }
            Err(NoAuth::Full(failure, code)) => {
                count_auth(failure.code);
                self.say(failure.encode(Op::Auth.value(), echo))?;
                return Err(End::Close(code));
            }
        };
        let Identity { user, subject, .. } = identity;
        self.say(Reply::Auth { user, subject, limits: self.shared.limits.announced() }.encode(echo))?;
        match renewal {
            Renewal::Plain => Ok(()),
            Renewal::AfterExpiry => self.resume_all(user).await,
        }
    }

    /// The user for whom the connection speaks, as far as is known by now. Ends it if the user was disconnected.
    pub(super) async fn speaks_for(&mut self) -> Result<Result<Uuid, Failure>, End> {
        self.end_if_disconnected()?;
        let user = self.auth.user(Instant::now());
        if let (Ok(_), Some(standing)) = (&user, &mut self.standing)
            && !standing.is_proven()
        {
            // The database did not answer when the socket authenticated.
            match Box::pin(standing.prove(&self.shared.cutoffs)).await {
                Ok(()) => {}
                Err(Unproven::Revoked) => return Err(End::Close(CloseCode::Disconnected)),
                Err(unknown @ Unproven::Unknown) => return Ok(Err(unknown.failure())),
            }
        }
        Ok(user)
    }

    pub(super) fn end_if_disconnected(&self) -> Result<(), End> {
        match &self.standing {
            Some(standing) if standing.is_ended() => Err(End::Close(CloseCode::Disconnected)),
            _ => Ok(()),
        }
    }

    async fn authenticate(&mut self, token: &str) -> Result<(Identity, Renewal), NoAuth> {
        if let Some(wait) = self.admission.wait_for_token() {
            let text = "too many tokens of your address were refused; wait, then send auth again";
            return Err(NoAuth::Refused(too_fast(text, wait)));
        }
        let identity = self.shared.authenticator.authenticate(token, now).await.map_err(refused)?;
        self.auth.admits(identity.user).map_err(NoAuth::Refused)?;
        self.prove(&identity).await?;
        self.enter(identity.user)?;
        let left = identity.expires_at.and_then(|at| Duration::try_from_secs_f64(at - now()).ok());
        let expires = left.and_then(|left| Instant::now().checked_add(left));
        let renewal = self.auth.authenticated(identity.user, expires).map_err(NoAuth::Refused)?;
        Ok((identity, renewal))
    }

    /// Holds the token against the user's disconnections: from here on the socket hears of them, and what was before
    /// that is asked for.
    async fn prove(&mut self, identity: &Identity) -> Result<(), NoAuth> {
        let Identity { user, issued, .. } = *identity;
        let cutoffs = &self.shared.cutoffs;
        let unproven = |why: Unproven| match why {
            Unproven::Revoked => NoAuth::Refused(why.failure()),
            Unproven::Unknown => NoAuth::NotYet(why.failure()),
        };
        if let Some(standing) = &mut self.standing {
            cutoffs.prove(user, issued).await.map_err(unproven)?;
            standing.renew(issued);
            return Ok(());
        }
        let mut standing = cutoffs.register(user, issued, self.outbound.clone());
        match standing.prove(cutoffs).await {
            // Whoever is not proven may wait here for the database, and ask for nothing.
            Ok(()) | Err(Unproven::Unknown) => self.standing = Some(standing),
            Err(revoked) => return Err(unproven(revoked)),
        }
        Ok(())
    }

    /// Takes the places of an authenticated socket, among the user's and among the gateway's.
    fn enter(&mut self, user: Uuid) -> Result<(), NoAuth> {
        if self.place.is_none() {
            self.place = Some(self.shared.users.enter(user).map_err(|TooManySockets { limit }| {
                let text = format!("this user has {limit} sockets open already; close one, then open another");
                NoAuth::Full(Failure::new(ErrorCode::TooManySockets, text), CloseCode::TooManySockets)
            })?);
        }
        self.admission.authenticate().map_err(|_| {
            let failure = Failure::new(ErrorCode::Overloaded, "this gateway is full; try another or try later");
            NoAuth::Full(failure, CloseCode::TryAgainLater)
        })
    }

    fn refuse_token(&mut self, failure: &Failure, echo: &Echo) -> Result<(), End> {
        self.admission.token_refused(failure.code);
        self.say(failure.encode(Op::Auth.value(), echo))?;
        // One that was not looked at may be good; the time to authenticate in ends the socket all the same.
        if failure.code == ErrorCode::RateLimited {
            return Ok(());
        }
        self.auth.refused().map_or(Ok(()), |code| Err(End::Close(code)))
    }
}

fn refused(failure: Failure) -> NoAuth {
    match failure.code {
        ErrorCode::KeysUnavailable => NoAuth::NotYet(failure),
        _ => NoAuth::Refused(failure),
    }
}

/// Seconds since the epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
