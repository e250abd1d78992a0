//! The list of files that may be plugins.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, de};

/// `allowed_sha256` in the table `[chain]`: the digests of the files that may be plugins. One list applies to all
/// files, including those that `plugins.toml` does not mention, canaries and renamed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowList(HashSet<String>);

impl AllowList {
    pub(crate) fn contains(&self, sha256: &str) -> bool {
        self.0.contains(sha256)
    }
}

impl<'de> Deserialize<'de> for AllowList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digests = Vec::<String>::deserialize(deserializer)?;
        let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match digests.iter().find(|text| !is_digest(text)) {
            None => Ok(Self(digests.iter().map(|text| text.to_ascii_lowercase()).collect())),
            Some(other) => {
                Err(de::Error::custom(format_args!("{other:?} is not a SHA-256 digest: 64 hexadecimal digits")))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_validated() {
        let list = |text: &str| toml::from_str::<std::collections::BTreeMap<String, AllowList>>(text);
        let digest = "AB".repeat(32);
        let allowed = list(&format!("x = [\"{digest}\"]")).unwrap();
        assert!(allowed["x"].contains(&digest.to_lowercase()) && !allowed["x"].contains(&"ac".repeat(32)));
        assert!(list("x = [\"abc\"]").unwrap_err().to_string().contains("\"abc\" is not a SHA-256 digest"));
    }
}
