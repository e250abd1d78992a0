//! Which plugin it was: its name, its version and its file's digest; and which files may be plugins at all.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};
use wasmparser::{Parser, Payload};

use super::text::clip;

/// Which plugin decided something, exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Its name in the chain.
    pub plugin: Arc<str>,
    /// The digest of its file, in hexadecimal digits.
    pub sha256: Arc<str>,
    /// What its author calls this version, if the file says.
    pub version: Option<Arc<str>>,
}

/// Bytes of a version that are kept.
const VERSION_BYTES: usize = 64;

/// What the custom section `version` of a module or component says, as the tool conventions of WebAssembly have it. The SDK
/// puts the crate's version there.
pub(crate) fn version(wasm: &[u8]) -> Option<Arc<str>> {
    let sections = Parser::new(0).parse_all(wasm).map_while(Result::ok);
    let mut versions = sections.filter_map(|payload| match payload {
        Payload::CustomSection(section) if section.name() == "version" => std::str::from_utf8(section.data()).ok(),
        _ => None,
    });
    versions.next().map(|text| clip(text, VERSION_BYTES).trim().into())
}

/// `allowed_sha256` in the table `[chain]`: the digests of the files that may be plugins. One list for all, so that a file
/// that nobody lists, a canary or a renamed one is held to it like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowList(HashSet<String>);

impl AllowList {
    pub(crate) fn holds(&self, sha256: &str) -> bool {
        self.0.contains(sha256)
    }
}

impl<'de> Deserialize<'de> for AllowList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digests = Vec::<String>::deserialize(deserializer)?;
        let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match digests.iter().find(|text| !is_digest(text)) {
            None => Ok(Self(digests.iter().map(|text| text.to_ascii_lowercase()).collect())),
            Some(other) => Err(de::Error::custom(format_args!("{other:?} is no SHA-256: 64 hexadecimal digits"))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_and_cleaned() {
        let module = |name: &str, text: &str| {
            let mut wasm = b"\0asm\x01\0\0\0\0".to_vec();
            wasm.extend([(1 + name.len() + text.len()) as u8, name.len() as u8]);
            wasm.extend([name.as_bytes(), text.as_bytes()].concat());
            wasm
        };
        assert_eq!(version(&module("version", "1.2.3")).as_deref(), Some("1.2.3"));
        assert_eq!(version(&module("version", "1\n2")).as_deref(), Some("1 2"));
        assert_eq!(version(&module("other", "1.2.3")), None);
        assert_eq!(version(b"garbage"), None);
    }

    #[test]
    fn digests_are_digests() {
        let list = |text: &str| toml::from_str::<std::collections::BTreeMap<String, AllowList>>(text);
        let digest = "AB".repeat(32);
        let allowed = list(&format!("x = [\"{digest}\"]")).unwrap();
        assert!(allowed["x"].holds(&digest.to_lowercase()) && !allowed["x"].holds(&"ac".repeat(32)));
        assert!(list("x = [\"abc\"]").unwrap_err().to_string().contains("\"abc\" is no SHA-256"));
    }
}
