//! What operators learn of refusals: each is counted, and a line in the log says now and then what to do.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use arcyou_protocol::ErrorCode;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use metrics::counter;

use super::addresses::ClientAddress;

/// At most one line for each bound in this time, however many are refused.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Why an `auth` is refused.
pub const AUTH_REFUSALS: &[ErrorCode] = &[
    ErrorCode::TokenMalformed,
    ErrorCode::TokenAlgorithm,
    ErrorCode::TokenSignature,
    ErrorCode::TokenKeyUnknown,
    ErrorCode::KeysUnavailable,
    ErrorCode::TokenExpired,
    ErrorCode::TokenNotYetValid,
    ErrorCode::TokenIssuer,
    ErrorCode::TokenAudience,
    ErrorCode::TokenClaims,
    ErrorCode::TokenRevoked,
    ErrorCode::Unavailable,
    ErrorCode::UserMismatch,
    ErrorCode::RateLimited,
    ErrorCode::TooManySockets,
    ErrorCode::Overloaded,
];

/// Counts an `auth` that was refused.
pub fn count_auth(code: ErrorCode) {
    counter!("arcyou_auth_refused_total", "code" => code.value()).increment(1);
}

/// A bound that a connection met, or a request over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Authenticated sockets of the gateway: `MAX_CONNECTIONS`.
    Connections,
    /// Sockets of one address: `MAX_CONNECTIONS_PER_ADDRESS`.
    ConnectionsPerAddress,
    /// Connections that one key keeps open: `MAX_CONNECTIONS_PER_KEY`.
    ConnectionsPerKey,
    /// Sockets of the gateway that have not authenticated.
    Unauthenticated,
    /// The same of one address: `MAX_UNAUTHENTICATED_PER_ADDRESS`.
    UnauthenticatedPerAddress,
    /// Tokens of one address that were refused: `MAX_REFUSED_TOKENS_PER_MINUTE`.
    RefusedTokens,
    /// Keys of services of one address that were refused: as many as tokens.
    RefusedKeys,
    /// Connections that are not sockets yet: `MAX_HANDSHAKES`.
    Handshakes,
    /// The same of one address.
    HandshakesPerAddress,
    /// Bytes of a request's line and headers.
    RequestHead,
}

impl Bound {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::ConnectionsPerKey,
        Self::Unauthenticated,
        Self::UnauthenticatedPerAddress,
        Self::RefusedTokens,
        Self::RefusedKeys,
        Self::Handshakes,
        Self::HandshakesPerAddress,
        Self::RequestHead,
    ];

    /// The value of the metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ConnectionsPerKey => "connections_per_key",
            Self::Unauthenticated => "unauthenticated",
            Self::UnauthenticatedPerAddress => "unauthenticated_per_address",
            Self::RefusedTokens => "refused_tokens",
            Self::RefusedKeys => "refused_keys",
            Self::Handshakes => "handshakes",
            Self::HandshakesPerAddress => "handshakes_per_address",
            Self::RequestHead => "request_head",
        }
    }

    /// What the operator may do.
    fn advice(self) -> &'static str {
        match self {
            Self::Connections => "the gateway is full: run more gateways, or raise MAX_CONNECTIONS",
            Self::ConnectionsPerAddress => {
                "this address has MAX_CONNECTIONS_PER_ADDRESS open connections; if it is your load balancer, name it in \
                 TRUSTED_PROXIES"
            }
            Self::ConnectionsPerKey => {
                "a key keeps MAX_CONNECTIONS_PER_KEY connections open, and further ones are closed after each answer; let the \
                 service use fewer"
            }
            Self::Unauthenticated => {
                "too many sockets have sent no accepted auth; if that is usual here, raise MAX_CONNECTIONS"
            }
            Self::UnauthenticatedPerAddress => {
                "this address has MAX_UNAUTHENTICATED_PER_ADDRESS sockets without auth; if it is your load balancer, \
                 name it in TRUSTED_PROXIES"
            }
            Self::RefusedTokens => {
                "MAX_REFUSED_TOKENS_PER_MINUTE tokens of this address were refused: somebody guesses, or a client is broken; \
                 if it is your load balancer, name it in TRUSTED_PROXIES"
            }
            Self::RefusedKeys => {
                "MAX_REFUSED_TOKENS_PER_MINUTE keys of this address were refused: somebody guesses, or a service has a wrong \
                 or revoked key; if it is your load balancer, name it in TRUSTED_PROXIES"
            }
            Self::Handshakes => "the oldest connection that was no WebSocket yet was cut: there were MAX_HANDSHAKES",
            Self::HandshakesPerAddress => {
                "the oldest connection of this address that was no WebSocket yet was cut: it had its share of \
                 MAX_HANDSHAKES; if it is your load balancer, name it in TRUSTED_PROXIES"
            }
            Self::RequestHead => "a request had more than 16 KiB of headers; if they are cookies, make them fewer",
        }
    }
}

/// Counts what is refused, and logs some of it.
#[derive(Debug)]
pub struct Refusals {
    connections: DefaultKeyedRateLimiter<Bound>,
    tokens: DefaultDirectRateLimiter,
}

impl Default for Refusals {
    fn default() -> Self {
        // One at a time, and the next after that time.
        let one = Quota::per_second(NonZeroU32::MIN);
        let quota = Quota::with_period(LOG_EVERY).unwrap_or(one);
        Self { connections: RateLimiter::keyed(quota), tokens: RateLimiter::direct(quota) }
    }
}

impl Refusals {
    /// A connection of `address` was refused or cut, or a request over it.
    pub fn connection(&self, bound: Bound, address: impl fmt::Display) {
        counter!("arcyou_refused_connections_total", "bound" => bound.name()).increment(1);
        if self.connections.check_key(&bound).is_ok() {
            tracing::warn!(%address, bound = bound.name(), "a connection was refused: {}", bound.advice());
        }
    }

    /// A token of `address` was refused.
    pub fn token(&self, code: ErrorCode, address: ClientAddress) {
        count_auth(code);
        if self.tokens.check().is_ok() {
            tracing::info!(%address, code = code.value(), "a token was refused; arcyou_auth_refused_total counts them");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::net::IpAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_attack_leaves_a_line_for_each_bound_and_not_for_each_connection() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let address = ClientAddress::from(IpAddr::from([192, 0, 2, 1]));
        let started = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            let refusals = Refusals::default();
            for _ in 0..1000 {
                refusals.connection(Bound::ConnectionsPerAddress, address);
                refusals.connection(Bound::Handshakes, address);
                refusals.token(ErrorCode::TokenSignature, address);
            }
        });
        let most = 1 + started.elapsed().as_secs() / LOG_EVERY.as_secs();
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for part in ["connections_per_address", "MAX_HANDSHAKES", "token_signature"] {
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(part)).collect();
            assert!((1..=most).contains(&(lines.len() as u64)), "{text}");
            assert!(lines.iter().all(|line| line.contains("address=192.0.2.1")), "{text}");
        }
        assert!(text.contains("TRUSTED_PROXIES"), "{text}");
    }
}
