//! Which pages a browser may connect from.

use std::str::FromStr;

/// The pages that may connect. Clients other than browsers send no origin and are not concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// Every page.
    #[default]
    Any,
    /// These, each as a browser spells it: scheme, host and perhaps port.
    Listed(Vec<String>),
}

impl Origins {
    /// Whether a handshake with this `Origin` header may go on.
    pub fn admit(&self, origin: Option<&[u8]>) -> bool {
        match (self, origin) {
            (Self::Any, _) | (_, None) => true,
            (Self::Listed(list), Some(origin)) => {
                list.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin))
            }
        }
    }
}

/// An entry that no browser would send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin; write scheme and host, as in https://chat.example.com, separated by commas")]
pub struct NoOrigin(String);

impl FromStr for Origins {
    type Err = NoOrigin;

    /// Origins separated by commas; `*` is every page.
    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let list = text.split(',').map(|entry| {
            let entry = entry.trim().trim_end_matches('/');
            match entry.split_once("://") {
                Some((_, host)) if !host.is_empty() && !host.contains('/') => Ok(entry.to_owned()),
                _ => Err(NoOrigin(entry.to_owned())),
            }
        });
        list.collect::<Result<_, _>>().map(Self::Listed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_pages_may_connect() {
        let origins: Origins = "https://a.example, http://localhost:3000/".parse().unwrap();
        assert!(origins.admit(Some(b"https://a.example")) && origins.admit(Some(b"http://LOCALHOST:3000")));
        assert!(!origins.admit(Some(b"https://b.example")) && !origins.admit(Some(b"null")));
        assert!(origins.admit(None));
        assert!("*".parse::<Origins>().unwrap().admit(Some(b"null")));
        assert!("a.example".parse::<Origins>().is_err() && "".parse::<Origins>().is_err());
    }
}
