//! Numbers that nobody can guess. Needs `grants = ["random"]` in `plugins.toml`.

/// So many random bytes, at most 64 KiB: more than that is the plugin's failure. In native tests they are reproducible,
/// and not random at all.
///
/// ```
/// assert_eq!(arcyou_plugin_sdk::random::bytes(16).len(), 16);
/// ```
pub fn bytes(length: u32) -> Vec<u8> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::random::bytes(length);
    #[cfg(not(target_arch = "wasm32"))]
    (0..length).map(|_| crate::testing::doubles::random().to_le_bytes()[7]).collect()
}

/// A random number.
///
/// ```
/// use arcyou_plugin_sdk::random;
///
/// assert_ne!(random::u64(), random::u64());
/// ```
pub fn u64() -> u64 {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::random::number();
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::doubles::random()
}
