//! `random`: cryptographically secure random numbers.

use wasmtime::{Error, Result};

use crate::bindings::host::random::Host;

/// Limit for one call.
const MAX_BYTES: u32 = 64 << 10;

pub(crate) struct SystemRandom;

impl Host for SystemRandom {
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>> {
        if length > MAX_BYTES {
            return Err(Error::msg(format!("it asks for {length} random bytes at once; the limit is {MAX_BYTES}")));
        }
        let mut bytes = vec![0; length as usize];
        fill(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| Error::msg("the machine gives no random numbers"))
}
