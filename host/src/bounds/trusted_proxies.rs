//! Whose address counts: the peer's, or the one that a trusted proxy tells.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use ipnet::{IpNet, Ipv4Net};
use parse_net::{ClientAddress, ForwardedSource};

/// Where proxies that know no RFC 7239 put the addresses.
const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// Proxies that a request may have come through. A longer chain was made up by the client.
const MAX_HOPS: u8 = 32;

/// The networks whose word about a client's address is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is a trusted proxy's.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client that speaks through `peer`. That is the last one in the headers that is no trusted
    /// proxy's: what stands before it, the client may have written. It is `peer` itself if it is no trusted proxy, if
    /// there are no such headers, if they cannot be read, or if the two kinds disagree, since a proxy that sets one
    /// may pass on the other as the client wrote it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded = lines(headers, FORWARDED.as_str());
        let x_forwarded_for = lines(headers, X_FORWARDED_FOR);
        match (forwarded.is_empty(), x_forwarded_for.is_empty()) {
            (true, true) => peer,
            (false, true) => self.told(peer, ForwardedSource::Forwarded(&forwarded)),
            (true, false) => self.told(peer, ForwardedSource::XForwardedFor(&x_forwarded_for)),
            (false, false) => {
                let client = self.told(peer, ForwardedSource::Forwarded(&forwarded));
                let same = client == self.told(peer, ForwardedSource::XForwardedFor(&x_forwarded_for));
                if same { client } else { peer }
            }
        }
    }

    fn told(&self, peer: IpAddr, source: ForwardedSource<'_>) -> IpAddr {
        match parse_net::client_address(peer, source, &|address| self.contain(address), MAX_HOPS) {
            Ok(ClientAddress::Forwarded { addr, .. }) => addr,
            _ => peer,
        }
    }
}

/// Addresses are compared in their shortest form, so that a network of mapped ones (`::ffff:10.0.0.0/104`) must be in
/// that form too.
fn as_compared(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let bits = mapped.prefix_len().checked_sub(96);
    match (mapped.addr().to_ipv4_mapped(), bits) {
        (Some(address), Some(bits)) => Ipv4Net::new(address, bits).map_or(network, IpNet::V4),
        _ => network,
    }
}

fn lines<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(|line| line.as_bytes()).collect()
}

/// An entry that is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a network such as 10.0.0.0/8; separate several by commas")]
pub struct NoNetwork(String);

impl FromStr for TrustedProxies {
    type Err = NoNetwork;

    /// Addresses and networks, separated by commas.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let network = |entry: &str| {
            let address = || entry.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
            entry.parse::<IpNet>().map(as_compared).or_else(|_| address()).map_err(|_| NoNetwork(entry.to_owned()))
        };
        text.split(',').map(str::trim).map(network).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn client_of(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let proxies: TrustedProxies = "10.0.0.0/8, 2001:db8::1".parse().unwrap();
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(header) {
            map.append(name, value);
        }
        proxies.client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn a_trusted_proxy_tells_the_address_of_its_client() {
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-for", "198.51.100.1, 192.0.2.7"),
            ("x-forwarded-for", "198.51.100.1, 192.0.2.7, 10.2.3.4"),
            ("x-forwarded-for", "192.0.2.7:4711"),
            ("forwarded", "for=192.0.2.7"),
            ("forwarded", "for=198.51.100.1, For=\"192.0.2.7:4711\";proto=https;by=10.0.0.1"),
            ("forwarded", "for=198.51.100.1, for=192.0.2.7, for=10.2.3.4"),
        ] {
            assert_eq!(client_of(PROXY, &[(name, value)]), "192.0.2.7", "{name}: {value}");
        }
        assert_eq!(client_of("::ffff:10.0.0.1", &[("forwarded", "for=\"[2001:db8:7::1]\"")]), "2001:db8:7::1");
        assert_eq!(client_of("2001:db8::1", &[("x-forwarded-for", "2001:db8:7::1")]), "2001:db8:7::1");
        let lines = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(client_of(PROXY, &lines), "192.0.2.7");
    }

    #[test]
    fn nobody_else_is_believed() {
        let headers = [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7")];
        assert_eq!(client_of("198.51.100.1", &headers), "198.51.100.1");
        assert_eq!(client_of("2001:db8::2", &headers), "2001:db8::2");
    }

    #[test]
    fn headers_that_cannot_be_read_count_for_the_proxy() {
        let longest = vec!["10.0.0.1"; 100].join(",");
        for (name, value) in [
            ("x-forwarded-for", ""),
            ("x-forwarded-for", "unknown"),
            ("x-forwarded-for", "192.0.2.7, 999.0.0.1"),
            ("x-forwarded-for", longest.as_str()),
            ("forwarded", "for=unknown"),
            ("forwarded", "for=_hidden"),
            ("forwarded", "for=\"192.0.2.7"),
            ("forwarded", "by=10.0.0.1"),
        ] {
            assert_eq!(client_of(PROXY, &[(name, value)]), PROXY, "{name}: {value}");
        }
    }

    #[test]
    fn a_client_cannot_choose_its_address() {
        // The proxy sets one header and passes on the other.
        let headers = [("forwarded", "for=198.51.100.9"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(client_of(PROXY, &headers), PROXY);
        let headers = [("forwarded", "for=192.0.2.7"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(client_of(PROXY, &headers), "192.0.2.7");
        // The proxy quotes the client's Host.
        let quoted = "for=192.0.2.7;host=\"x,for=198.51.100.9\"";
        assert_ne!(client_of(PROXY, &[("forwarded", quoted)]), "198.51.100.9");
    }

    #[test]
    fn a_network_of_mapped_addresses_is_that_of_the_addresses() {
        let proxies: TrustedProxies = "::ffff:10.0.0.0/104, ::ffff:192.0.2.1".parse().unwrap();
        for (address, trusted) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("192.0.2.1", true), ("11.0.0.1", false)]
        {
            assert_eq!(proxies.contain(address.parse().unwrap()), trusted, "{address}");
        }
    }

    #[test]
    fn entries_that_are_no_networks_are_explained() {
        let error = "10.0.0.0/8,proxy.internal".parse::<TrustedProxies>().unwrap_err().to_string();
        assert!(error.contains("\"proxy.internal\"") && error.contains("10.0.0.0/8"), "{error}");
        assert!("10.0.0.0/33".parse::<TrustedProxies>().is_err() && "10.0.0.1,".parse::<TrustedProxies>().is_err());
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(
            forwarded in vec(vec(any::<u8>(), 0..80), 0..3),
            x_forwarded_for in vec("[-0-9a-f.:,\\[\\]\" =;_]{0,80}", 0..3),
            trusted in any::<bool>(),
        ) {
            let mut headers = HeaderMap::new();
            for line in forwarded.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                headers.append(FORWARDED, line);
            }
            for line in x_forwarded_for {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_str(&line).unwrap());
            }
            let peer: IpAddr = if trusted { "10.0.0.1" } else { "192.0.2.7" }.parse().unwrap();
            let client = "10.0.0.0/8".parse::<TrustedProxies>().unwrap().client(peer, &headers);
            prop_assert!(trusted || client == peer);
        }
    }
}
