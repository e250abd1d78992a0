//! The author's version of a plugin.

use std::sync::Arc;

use wasmparser::{Parser, Payload};

use crate::text::sanitize;

/// Bytes of a version that are kept.
const VERSION_BYTES: usize = 64;

/// The content of the custom section `version` of a module or component, according to WebAssembly's tool conventions.
/// The SDK writes the crate's version there.
pub(crate) fn version(wasm: &[u8]) -> Option<Arc<str>> {
    let sections = Parser::new(0).parse_all(wasm).map_while(Result::ok);
    let mut versions = sections.filter_map(|payload| match payload {
        Payload::CustomSection(section) if section.name() == "version" => std::str::from_utf8(section.data()).ok(),
        _ => None,
    });
    versions.next().map(|text| sanitize(text, VERSION_BYTES).trim().into())
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
}
