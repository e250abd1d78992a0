//! Room for sockets: how many files this process may have open, and how many connections fit beside everything else.

use crate::bounds::connections::ConnectionLimits;
use crate::config::Config;

/// Files of the process that are no client's, besides the connections of the database pool: Redis, the admin address,
/// plugins and what they fetch, the runtime's own, and connections that are just ending.
const RESERVED: usize = 128;
/// The part of what is left that connections which are not WebSockets (yet) may have where there is too little for all
/// …
const HANDSHAKES_PART: usize = 4;
/// … but so many in any case.
const HANDSHAKES_AT_LEAST: usize = 16;

/// Raises the soft limit on open files to what the configuration needs, and where the hard limit is lower, lowers
/// `MAX_CONNECTIONS` and `MAX_HANDSHAKES` to what fits. Whoever comes when all places are taken is then told so at
/// once, as with any other `MAX_CONNECTIONS`, and database, Redis and operators always find a file that is free.
pub fn make_room(config: &mut Config) {
    let reserved = RESERVED + config.pool_size;
    let limits = &mut config.accept.connections;
    let needed = reserved + files_of(limits);
    let allowed = raise_to(needed);
    if allowed >= needed {
        return;
    }
    *limits = fitting(limits, allowed.saturating_sub(reserved));
    tracing::warn!(
        allowed,
        needed,
        max_connections = limits.max_connections,
        max_handshakes = limits.handshakes,
        "this process may not open as many files as MAX_CONNECTIONS and MAX_HANDSHAKES need, and works with fewer: raise \
         its hard limit (ulimit -Hn; LimitNOFILE= of systemd; ulimits: of Compose), or lower them"
    );
}

/// Files that connections of clients may need.
fn files_of(limits: &ConnectionLimits) -> usize {
    limits.max_connections.saturating_add(limits.unauthenticated()).saturating_add(limits.handshakes)
}

/// The soft limit, raised to `needed` or to the hard limit. Where it cannot be told, it is taken to be enough: what is
/// not is then met when a connection cannot be accepted.
fn raise_to(needed: usize) -> usize {
    let raised = rlimit::increase_nofile_limit(u64::try_from(needed).unwrap_or(u64::MAX));
    raised.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// The same limits with no more connections than this number of files allows, and never none.
fn fitting(limits: &ConnectionLimits, files: usize) -> ConnectionLimits {
    let mut fitting = limits.clone();
    fitting.handshakes = limits.handshakes.min((files / HANDSHAKES_PART).max(HANDSHAKES_AT_LEAST));
    let sockets = files.saturating_sub(fitting.handshakes);
    // Those that have not authenticated have their places besides.
    let fits = |max_connections: usize| {
        let limits = ConnectionLimits { max_connections, ..limits.clone() };
        max_connections + limits.unauthenticated() <= sockets
    };
    let (mut most, mut too_many) = (1, limits.max_connections.saturating_add(1).min(sockets.saturating_add(2)));
    while too_many - most > 1 {
        let middle = most + (too_many - most) / 2;
        if fits(middle) { most = middle } else { too_many = middle }
    }
    fitting.max_connections = most;
    fitting
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::bounds::trusted_proxies::TrustedProxies;

    fn limits(max_connections: usize, handshakes: usize) -> ConnectionLimits {
        ConnectionLimits {
            max_connections,
            per_address: 1000,
            per_key: 500,
            unauthenticated_per_address: 100,
            handshakes,
            refused_tokens_per_minute: NonZeroU32::MIN,
            trusted_proxies: TrustedProxies::default(),
        }
    }

    #[test]
    fn what_fits_uses_the_files_and_no_more() {
        for (files, max_connections, handshakes) in
            [(886, 532, 221), (400, 236, 100), (162, 58, 40), (9862, 5918, 2465)]
        {
            let fitting = fitting(&limits(16_000, 4096), files);
            assert_eq!((fitting.max_connections, fitting.handshakes), (max_connections, handshakes), "{files}");
            assert!((files - 1..=files).contains(&files_of(&fitting)), "{files}");
        }
        // The number that was asked for stays where it fits.
        let fitting = fitting(&limits(100, 4096), 1000);
        assert_eq!((fitting.max_connections, fitting.handshakes), (100, 250));
    }

    #[test]
    fn there_is_always_a_place() {
        for files in [0, 1, 16, 79, 80] {
            let fitting = fitting(&limits(16_000, 4096), files);
            assert_eq!((fitting.max_connections, fitting.handshakes), (1, (files / 4).max(16)), "{files}");
        }
        assert_eq!(fitting(&limits(1, 16), 0).max_connections, 1);
    }
}
