//! Free ports.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which systems take the ports of outgoing connections (32768 and up on Linux, 49152 and up
/// elsewhere). While a service is down, an outgoing connection could take its port from that range; a client that
/// reconnects in a loop even connects to itself there (TCP's simultaneous open), and a restart on the same port would
/// fail.
const RANGE: std::ops::Range<u16> = 15_000..32_000;
const MAX_ATTEMPTS: usize = 200;

/// A port of 127.0.0.1 that was free a moment ago; None if none was found. Another process may take it before the
/// service does; the caller then tries another one.
pub(crate) fn free() -> Option<u16> {
    (0..MAX_ATTEMPTS).map(|_| random_port()).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}

fn random_port() -> u16 {
    // Every RandomState has different random keys.
    let span = u64::from(RANGE.end - RANGE.start);
    let offset = RandomState::new().build_hasher().finish() % span;
    RANGE.start + u16::try_from(offset).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_spread() {
        let ports: std::collections::HashSet<u16> = (0..20).filter_map(|_| free()).collect();
        assert!(ports.len() > 10, "{ports:?}");
        assert!(ports.iter().all(|port| RANGE.contains(port)));
    }
}
