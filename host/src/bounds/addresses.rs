//! What each client address has open.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bits of an IPv6 address that name a network. One subscriber has at least such a network, and all addresses in
/// it.
const IPV6_NETWORK_BITS: u32 = 64;

/// An address as it is counted: an IPv4 address, also where it came as an IPv6 address (`::ffff:192.0.2.1`), or a /64
/// of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (u128::BITS - IPV6_NETWORK_BITS))).into()
            }
        })
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/{IPV6_NETWORK_BITS}"),
        }
    }
}

/// What is counted of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Open sockets, and connections that services keep.
    Sockets,
    /// Open sockets without an accepted token.
    Unauthenticated,
}

/// How many of each an address may have at once.
#[derive(Debug, Clone, Copy)]
pub struct AddressLimits {
    pub sockets: usize,
    pub unauthenticated: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Usage {
    sockets: usize,
    unauthenticated: usize,
}

impl Usage {
    fn of(&mut self, counted: Counted) -> &mut usize {
        match counted {
            Counted::Sockets => &mut self.sockets,
            Counted::Unauthenticated => &mut self.unauthenticated,
        }
    }
}

/// What all addresses have open. It knows only those that have anything.
#[derive(Debug)]
pub struct AddressBook {
    limits: AddressLimits,
    /// Locked when a socket opens, authenticates and ends; never for a frame.
    used: Mutex<HashMap<ClientAddress, Usage>>,
}

impl AddressBook {
    /// A book in which each address may have as much as `limits` say.
    pub fn new(limits: AddressLimits) -> Self {
        Self { limits, used: Mutex::default() }
    }

    /// Counts one more until the share is dropped; none: the address has as many as it may have.
    pub fn take(self: &Arc<Self>, address: ClientAddress, counted: Counted) -> Option<Share> {
        let limit = match counted {
            Counted::Sockets => self.limits.sockets,
            Counted::Unauthenticated => self.limits.unauthenticated,
        };
        let mut used = self.lock();
        let mut usage = used.get(&address).copied().unwrap_or_default();
        let count = usage.of(counted);
        if *count >= limit {
            return None;
        }
        *count += 1;
        used.insert(address, usage);
        Some(Share { book: self.clone(), address, counted })
    }

    fn release(&self, address: ClientAddress, counted: Counted) {
        let mut used = self.lock();
        if let Some(usage) = used.get_mut(&address) {
            let count = usage.of(counted);
            *count = count.saturating_sub(1);
            if *usage == Usage::default() {
                used.remove(&address);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientAddress, Usage>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of what an address may have; dropped, it is given back.
#[derive(Debug)]
pub struct Share {
    book: Arc<AddressBook>,
    address: ClientAddress,
    counted: Counted,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.book.release(self.address, self.counted);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> ClientAddress {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn an_ipv4_address_counts_as_itself_however_it_is_spelled() {
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("::ffff:192.0.2.1"), address("::ffff:192.0.2.2"));
        assert_eq!(address("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let book = Arc::new(AddressBook::new(AddressLimits { sockets: 2, unauthenticated: 1 }));
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let held = [Counted::Sockets, Counted::Sockets, Counted::Unauthenticated].map(|kind| book.take(one, kind));
        assert!(held.iter().all(Option::is_some));
        assert!(book.take(one, Counted::Sockets).is_none() && book.take(one, Counted::Unauthenticated).is_none());
        assert!(book.take(other, Counted::Sockets).is_some());
        let [first, ..] = held;
        drop(first);
        assert!(book.take(one, Counted::Sockets).is_some());
    }

    #[test]
    fn an_address_with_nothing_open_is_forgotten() {
        let book = Arc::new(AddressBook::new(AddressLimits { sockets: 1, unauthenticated: 0 }));
        assert!(book.take(address("192.0.2.1"), Counted::Unauthenticated).is_none());
        drop(book.take(address("192.0.2.1"), Counted::Sockets));
        assert!(book.lock().is_empty());
    }
}
