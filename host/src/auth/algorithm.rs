//! Which algorithms a token may be signed with. All of them are asymmetric: with any other, whoever verifies could
//! sign.

use std::fmt;
use std::str::FromStr;

use jsonwebtoken::{Algorithm, AlgorithmFamily};

/// What may be allowed, as `JWT_ALGORITHMS` names it.
const KNOWN: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Allowed algorithms, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms(Vec<Algorithm>);

/// A list that cannot be allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmsError {
    /// With a shared secret whoever verifies tokens can make them.
    #[error("{0} is symmetric: whoever verifies such tokens can make them. Possible are {known}", known = all())]
    Symmetric(&'static str),
    /// Anybody makes such tokens.
    #[error("none means that nobody has signed. Possible are {known}", known = all())]
    Unsigned,
    /// No such algorithm.
    #[error("it is a list with commas between, of {known}", known = all())]
    Unknown,
}

impl Algorithms {
    /// Whether a token may be signed with it.
    pub fn allow(&self, algorithm: Algorithm) -> bool {
        self.0.contains(&algorithm)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Algorithm> {
        self.0.iter().copied()
    }
}

impl Default for Algorithms {
    fn default() -> Self {
        Self(vec![Algorithm::RS256])
    }
}

impl FromStr for Algorithms {
    type Err = AlgorithmsError;

    fn from_str(text: &str) -> Result<Self, AlgorithmsError> {
        let mut allowed = Vec::new();
        for part in text.split(',').map(str::trim) {
            let algorithm = named(part).ok_or_else(|| refused(part))?;
            if !allowed.contains(&algorithm) {
                allowed.push(algorithm);
            }
        }
        Ok(Self(allowed))
    }
}

impl fmt::Display for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(name).collect();
        f.write_str(&names.join(", "))
    }
}

/// The algorithm of this name, as a token's header spells it; none for one that is never allowed.
pub(super) fn named(text: &str) -> Option<Algorithm> {
    KNOWN.iter().find(|(name, _)| *name == text).map(|(_, algorithm)| *algorithm)
}

pub(super) fn name(algorithm: Algorithm) -> &'static str {
    KNOWN.iter().find(|(_, known)| *known == algorithm).map_or("", |(name, _)| *name)
}

fn refused(text: &str) -> AlgorithmsError {
    match text.parse::<Algorithm>() {
        Ok(algorithm) if algorithm.family() == AlgorithmFamily::Hmac => AlgorithmsError::Symmetric(match algorithm {
            Algorithm::HS384 => "HS384",
            Algorithm::HS512 => "HS512",
            _ => "HS256",
        }),
        _ if text.eq_ignore_ascii_case("none") => AlgorithmsError::Unsigned,
        _ => AlgorithmsError::Unknown,
    }
}

fn all() -> String {
    KNOWN.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asymmetric_can_be_allowed() {
        let read = |text: &str| text.parse::<Algorithms>();
        assert_eq!(read("RS256").unwrap(), Algorithms::default());
        assert_eq!(read("ES256, EdDSA,ES256").unwrap().to_string(), "ES256, EdDSA");
        for symmetric in ["HS256", "RS256,HS384", "HS512"] {
            assert!(matches!(read(symmetric), Err(AlgorithmsError::Symmetric(_))), "{symmetric}");
        }
        assert_eq!(read("RS256,none"), Err(AlgorithmsError::Unsigned));
        for unknown in ["", ",", "RS256,", "rs256", "ES512", "RSA-OAEP", "*", "any", "RS256;ES256"] {
            assert_eq!(read(unknown), Err(AlgorithmsError::Unknown), "{unknown}");
        }
    }

    #[test]
    fn every_algorithm_that_can_be_named_is_verified() {
        for (name, algorithm) in KNOWN {
            assert_eq!((named(name), name.parse::<Algorithm>().ok()), (Some(algorithm), Some(algorithm)));
            assert_eq!(super::name(algorithm), name);
        }
    }
}
