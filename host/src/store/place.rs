//! Places among all messages of the database.

use std::fmt;
use std::str::FromStr;

use arcyou_protocol::Seq;
use uuid::Uuid;

/// A place among all messages: by conversation, and by `seq` in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessagePlace {
    pub conversation: Uuid,
    pub seq: Seq,
}

impl MessagePlace {
    /// Before every message.
    pub const BEGIN: Self = Self { conversation: Uuid::nil(), seq: 0 };
}

/// A text that is no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be the `next` of an earlier answer")]
pub struct NoPlace;

impl fmt::Display for MessagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.conversation, self.seq)
    }
}

impl FromStr for MessagePlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (conversation, seq) = text.split_once(':').ok_or(NoPlace)?;
        let conversation = conversation.parse().map_err(|_| NoPlace)?;
        let seq = seq.parse().ok().filter(|seq| *seq >= 0).ok_or(NoPlace)?;
        Ok(Self { conversation, seq })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = MessagePlace { conversation: Uuid::from_u128(7), seq: 42 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in
            ["", ":", "7:42", "00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-000000000007:-1"]
        {
            assert_eq!(wrong.parse::<MessagePlace>(), Err(NoPlace), "{wrong}");
        }
    }
}
