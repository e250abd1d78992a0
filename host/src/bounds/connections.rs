//! Who may open a socket, and what it holds: an unauthenticated one a place among few, an authenticated one a place
//! among `MAX_CONNECTIONS`, which connections of services share. All of it is held by guards, so that a socket gives
//! back what it holds however it ends.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::ErrorCode;
use axum::http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::addresses::{AddressBook, AddressLimits, ClientAddress, Counted, Share};
use super::kept::{Keeping, KeyBook};
use super::refusals::{Bound, Refusals};
use super::refused_secrets::{RefusedSecrets, Repute};
use super::trusted_proxies::TrustedProxies;

/// The part of `MAX_CONNECTIONS` that may be open besides without having authenticated …
const UNAUTHENTICATED_PART: usize = 4;
/// … and how many may be in any case, for a gateway that has few places.
const UNAUTHENTICATED_AT_LEAST: usize = 64;
/// One address has at most this part of the unauthenticated sockets, so that others are left some.
const UNAUTHENTICATED_PART_OF_ADDRESS: usize = 2;
/// One address has at most this part of the connections that are not sockets yet.
const HANDSHAKES_PART_OF_ADDRESS: usize = 16;

/// What a gateway, and one client address, may have open.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Authenticated sockets, and connections that services keep, at once.
    pub max_connections: usize,
    /// The same of one address.
    pub per_address: usize,
    /// Sockets of one address that have not authenticated.
    pub unauthenticated_per_address: usize,
    /// Connections that one key of a service keeps open.
    pub per_key: usize,
    /// Connections that are not sockets yet.
    pub handshakes: usize,
    /// Tokens of one address that may be refused in a minute, and as many keys of services.
    pub refused_tokens_per_minute: NonZeroU32,
    /// Who is believed about a client's address.
    pub trusted_proxies: TrustedProxies,
}

impl ConnectionLimits {
    /// Sockets of the gateway that have not authenticated.
    pub fn unauthenticated(&self) -> usize {
        (self.max_connections / UNAUTHENTICATED_PART).max(UNAUTHENTICATED_AT_LEAST)
    }

    /// What an address may have open.
    fn of_address(&self) -> AddressLimits {
        let part = self.unauthenticated() / UNAUTHENTICATED_PART_OF_ADDRESS;
        AddressLimits { sockets: self.per_address, unauthenticated: self.unauthenticated_per_address.min(part) }
    }

    /// Connections of one address that are not sockets yet.
    pub fn handshakes_per_address(&self) -> usize {
        (self.handshakes / HANDSHAKES_PART_OF_ADDRESS).max(1)
    }
}

/// The bounds of a gateway, and what is used of them.
pub struct ConnectionBounds {
    limits: ConnectionLimits,
    book: Arc<AddressBook>,
    keys: Arc<KeyBook>,
    unauthenticated: Arc<Semaphore>,
    /// One for each authenticated socket, or kept connection, that there may be.
    places: Arc<Semaphore>,
    refused_tokens: RefusedSecrets,
    refused_keys: RefusedSecrets,
    refusals: Refusals,
}

impl ConnectionBounds {
    /// Bounds of which nothing is used yet.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            book: Arc::new(AddressBook::new(limits.of_address())),
            keys: Arc::new(KeyBook::new(limits.per_key)),
            unauthenticated: Arc::new(Semaphore::new(limits.unauthenticated())),
            places: Arc::new(Semaphore::new(limits.max_connections)),
            refused_tokens: RefusedSecrets::new(limits.refused_tokens_per_minute),
            refused_keys: RefusedSecrets::new(limits.refused_tokens_per_minute),
            refusals: Refusals::default(),
            limits,
        }
    }

    /// The limits.
    pub fn limits(&self) -> &ConnectionLimits {
        &self.limits
    }

    /// The address for which a connection counts before it has sent a request; none: a trusted proxy's counts for
    /// nobody.
    pub fn address_of(&self, peer: IpAddr) -> Option<ClientAddress> {
        (!self.limits.trusted_proxies.contain(peer)).then(|| peer.into())
    }

    /// The address for which a request of `peer` with these `headers` counts.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        self.limits.trusted_proxies.client(peer, headers).into()
    }

    /// Lets a service's key be looked at that nobody has vouched for yet. An error is how long to wait, because too
    /// many of this address were refused.
    pub fn admit_key(&self, address: ClientAddress) -> Result<Repute, Duration> {
        self.refused_keys.admit(address).inspect_err(|_| self.refusals.connection(Bound::RefusedKeys, address))
    }

    /// A key was refused.
    pub fn key_refused(&self, address: ClientAddress) {
        self.refused_keys.refused(address);
    }

    /// What a connection of `peer` holds over which a service has asked with this key, or the bound that it meets.
    pub fn keep(&self, peer: IpAddr, key: Uuid) -> Result<Keeping, Bound> {
        let kept = self.keep_within(peer, key);
        kept.inspect_err(|bound| self.refused(*bound, peer))
    }

    fn keep_within(&self, peer: IpAddr, key: Uuid) -> Result<Keeping, Bound> {
        let of_key = self.keys.take(key).ok_or(Bound::ConnectionsPerKey)?;
        let of_address = match self.address_of(peer) {
            Some(address) => Some(self.book.take(address, Counted::Sockets).ok_or(Bound::ConnectionsPerAddress)?),
            None => None,
        };
        let place = self.places.clone().try_acquire_owned().map_err(|_| Bound::Connections)?;
        Ok(Keeping { _of_key: of_key, _of_address: of_address, _place: place })
    }

    /// Notes for operators that a connection was refused or cut.
    pub fn refused(&self, bound: Bound, peer: IpAddr) {
        self.refusals.connection(bound, ClientAddress::from(peer));
    }

    /// A socket that `peer` asks for with these `headers`, or the bound that it meets.
    pub fn admit(self: &Arc<Self>, peer: IpAddr, headers: &HeaderMap) -> Result<Admission, Bound> {
        let address = self.client(peer, headers);
        self.admit_address(address).inspect_err(|bound| self.refusals.connection(*bound, address))
    }

    fn admit_address(self: &Arc<Self>, address: ClientAddress) -> Result<Admission, Bound> {
        // What is told at the handshake need not be told at the end of `auth`.
        if self.places.available_permits() == 0 {
            return Err(Bound::Connections);
        }
        // Its token would be refused unseen: this way it costs no socket.
        if self.refused_tokens.wait(address).is_some() {
            return Err(Bound::RefusedTokens);
        }
        let socket = self.book.take(address, Counted::Sockets).ok_or(Bound::ConnectionsPerAddress)?;
        let share = self.book.take(address, Counted::Unauthenticated).ok_or(Bound::UnauthenticatedPerAddress)?;
        let place = self.unauthenticated.clone().try_acquire_owned().map_err(|_| Bound::Unauthenticated)?;
        let standing = Standing::Unauthenticated { _share: share, _place: place };
        Ok(Admission { bounds: self.clone(), address, _socket: socket, standing })
    }
}

/// What one socket holds of the bounds, from its handshake to its end.
pub struct Admission {
    bounds: Arc<ConnectionBounds>,
    address: ClientAddress,
    _socket: Share,
    standing: Standing,
}

enum Standing {
    Unauthenticated { _share: Share, _place: OwnedSemaphorePermit },
    Authenticated { _place: OwnedSemaphorePermit },
}

impl Admission {
    /// How long tokens are refused unseen, because too many of this address were refused. A socket that has
    /// authenticated before is not concerned: it is no stranger.
    pub fn wait_for_token(&self) -> Option<Duration> {
        match self.standing {
            Standing::Unauthenticated { .. } => self.bounds.refused_tokens.wait(self.address),
            Standing::Authenticated { .. } => None,
        }
    }

    /// A token was refused with `code`.
    pub fn token_refused(&self, code: ErrorCode) {
        self.bounds.refusals.token(code, self.address);
        // One that was not looked at says nothing about the address.
        if code != ErrorCode::RateLimited {
            self.bounds.refused_tokens.refused(self.address);
        }
    }

    /// A token was accepted: from now on the socket holds one of the gateway's places, if one is free.
    pub fn authenticate(&mut self) -> Result<(), Bound> {
        if matches!(self.standing, Standing::Unauthenticated { .. }) {
            let place = self.bounds.places.clone().try_acquire_owned().map_err(|_| {
                self.bounds.refusals.connection(Bound::Connections, self.address);
                Bound::Connections
            })?;
            self.standing = Standing::Authenticated { _place: place };
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bounds(max_connections: usize) -> Arc<ConnectionBounds> {
        Arc::new(ConnectionBounds::new(ConnectionLimits {
            max_connections,
            per_address: 1000,
            per_key: 500,
            unauthenticated_per_address: 100,
            handshakes: 4096,
            refused_tokens_per_minute: NonZeroU32::new(60).unwrap(),
            trusted_proxies: TrustedProxies::default(),
        }))
    }

    fn admit(bounds: &Arc<ConnectionBounds>, last: u8) -> Result<Admission, Bound> {
        bounds.admit(IpAddr::from([192, 0, 2, last]), &HeaderMap::new())
    }

    #[test]
    fn an_address_has_at_most_half_of_the_unauthenticated_sockets() {
        for (max_connections, of_gateway, of_address) in [(1, 64, 32), (200, 64, 32), (1000, 250, 100)] {
            let bounds = bounds(max_connections);
            assert_eq!(bounds.limits().unauthenticated(), of_gateway);
            let held: Vec<_> = (0..of_address).map(|_| admit(&bounds, 1).ok().unwrap()).collect();
            assert_eq!(admit(&bounds, 1).err(), Some(Bound::UnauthenticatedPerAddress));
            assert!(admit(&bounds, 2).is_ok());
            drop(held);
            assert!(admit(&bounds, 1).is_ok());
        }
    }

    #[test]
    fn the_unauthenticated_sockets_of_all_addresses_are_bounded() {
        let bounds = bounds(100);
        let held: Vec<_> = (0..64).map(|last| admit(&bounds, last).ok().unwrap()).collect();
        assert_eq!(admit(&bounds, 100).err(), Some(Bound::Unauthenticated));
        drop(held);
    }

    #[test]
    fn only_an_authenticated_socket_takes_a_place() {
        let bounds = bounds(1);
        let (mut first, mut second) = (admit(&bounds, 1).ok().unwrap(), admit(&bounds, 2).ok().unwrap());
        assert_eq!((first.authenticate(), first.authenticate()), (Ok(()), Ok(())));
        assert_eq!(second.authenticate(), Err(Bound::Connections));
        assert_eq!(admit(&bounds, 3).err(), Some(Bound::Connections));
        drop(first);
        assert_eq!(second.authenticate(), Ok(()));
    }

    #[test]
    fn a_kept_connection_takes_a_place_and_a_share_of_its_address_and_its_key() {
        let mut limits = bounds(3).limits().clone();
        (limits.per_key, limits.per_address) = (2, 2);
        limits.trusted_proxies = "10.0.0.1".parse().unwrap();
        let bounds = Arc::new(ConnectionBounds::new(limits));
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let keep = |last: u8, key| bounds.keep(IpAddr::from([192, 0, 2, last]), key);
        let held = (keep(1, one).unwrap(), keep(1, one).unwrap());
        assert_eq!(keep(2, one).unwrap_err(), Bound::ConnectionsPerKey);
        assert_eq!(keep(1, other).unwrap_err(), Bound::ConnectionsPerAddress);
        // What met a bound holds nothing.
        let proxy = IpAddr::from([10, 0, 0, 1]);
        let third = bounds.keep(proxy, other).unwrap();
        assert_eq!(bounds.keep(proxy, other).unwrap_err(), Bound::Connections);
        assert_eq!(admit(&bounds, 3).err(), Some(Bound::Connections));
        drop(held);
        assert!(admit(&bounds, 3).is_ok() && bounds.keep(proxy, other).is_ok());
        drop(third);
    }

    #[test]
    fn an_authenticated_socket_is_not_held_up_by_its_address() {
        let bounds = bounds(100);
        let (mut old, new) = (admit(&bounds, 1).ok().unwrap(), admit(&bounds, 1).ok().unwrap());
        old.authenticate().unwrap();
        for _ in 0..60 {
            new.token_refused(ErrorCode::TokenSignature);
        }
        assert!(new.wait_for_token().is_some());
        assert_eq!(old.wait_for_token(), None);
    }

    #[test]
    fn a_trusted_proxy_counts_for_its_clients() {
        let mut limits = bounds(100).limits().clone();
        limits.trusted_proxies = "10.0.0.1".parse().unwrap();
        limits.per_address = 1;
        let bounds = Arc::new(ConnectionBounds::new(limits));
        let proxy = IpAddr::from([10, 0, 0, 1]);
        let through = |client: &str| {
            let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), client.parse().unwrap())]);
            bounds.admit(proxy, &headers)
        };
        assert_eq!(bounds.address_of(proxy), None);
        let _held = (through("192.0.2.1").ok().unwrap(), through("192.0.2.2").ok().unwrap());
        assert_eq!(through("192.0.2.1").err(), Some(Bound::ConnectionsPerAddress));
    }
}
