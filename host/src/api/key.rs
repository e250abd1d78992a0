//! Keys of services: how they are written, and what they are for.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use uuid::{Uuid, uuid};

pub(super) use super::caller::Caller;

/// What begins each key, so that scanners for leaked secrets know it.
const PREFIX: &str = "arcyou_";
const SECRET_BYTES: usize = 32;

/// What a key lets a service do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Read messages.
    MessagesRead,
    /// Send, edit, delete and react.
    MessagesWrite,
    /// See conversations and who participates.
    ConversationsRead,
    /// Make and delete conversations, change who participates.
    ConversationsWrite,
    /// Read everything of a user.
    UsersRead,
    /// End the sessions of users, and erase users.
    UsersWrite,
    /// See and decide on held messages.
    HeldWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::MessagesRead,
        Self::MessagesWrite,
        Self::ConversationsRead,
        Self::ConversationsWrite,
        Self::UsersRead,
        Self::UsersWrite,
        Self::HeldWrite,
    ];

    /// As keys and commands write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MessagesRead => "messages:read",
            Self::MessagesWrite => "messages:write",
            Self::ConversationsRead => "conversations:read",
            Self::ConversationsWrite => "conversations:write",
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::HeldWrite => "held:write",
        }
    }
}

impl ValueEnum for Scope {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// A key's text: its id, which is no secret, and its secret.
pub struct KeyText {
    pub id: Uuid,
    secret: [u8; SECRET_BYTES],
}

/// A text that is no key.
#[derive(Debug, PartialEq, Eq)]
pub struct NoKey;

impl KeyText {
    /// The key of the private database of `arcyou-gateway dev`, the same for everybody.
    pub const DEVELOPMENT: Self =
        Self { id: uuid!("de7e1000-0000-4000-8000-000000000001"), secret: *b"this key is for development only" };

    /// A new one.
    ///
    /// # Errors
    /// Fails if the system has no random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| anyhow::anyhow!("the system gave no random numbers"))?;
        Ok(Self { id: Uuid::new_v4(), secret })
    }

    /// What is stored of it. It has 256 random bits: a plain hash is as good as a slow one.
    pub fn sha256(&self) -> Vec<u8> {
        digest(&SHA256, &self.secret).as_ref().to_vec()
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.id.as_bytes().as_slice(), &self.secret].concat();
        write!(f, "{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for KeyText {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok()).ok_or(NoKey)?;
        let (id, secret) = bytes.split_at_checked(16).ok_or(NoKey)?;
        let id = Uuid::from_slice(id).map_err(|_| NoKey)?;
        Ok(Self { id, secret: secret.try_into().map_err(|_| NoKey)? })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = KeyText::generate().unwrap();
        let text = key.to_string();
        let read: KeyText = text.parse().unwrap();
        assert_eq!((read.id, read.sha256(), read.to_string()), (key.id, key.sha256(), text.clone()));
        for wrong in ["", "arcyou_", &text[1..], &text[..text.len() - 2], &format!("{text}AA"), "arcyou_!"] {
            assert!(wrong.parse::<KeyText>().is_err(), "{wrong}");
        }
    }
}
