//! Whom a token names: which of its claims, and the user that this is. Pure.

use std::str::FromStr;

use serde_json::{Map, Value};
use uuid::{Uuid, Version};

/// The namespace that `USER_ID_NAMESPACE=default` stands for. It never changes: users' ids are made from it.
pub const DEFAULT_NAMESPACE: Uuid = Uuid::from_u128(0x5d2b_1f0c_7a36_5c1e_9b84_31a6_0fe9_c7d2);

/// A longer id is refused: it is repeated in the reply.
const MAX_SUBJECT_BYTES: usize = 1024;

/// How the ids of an issuer become users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserIds {
    /// They are UUIDs, and the users themselves.
    Uuids {
        /// Whether another issuer's ids become UUIDs of version 5: then those are not this issuer's to speak for.
        others_are_mapped: bool,
    },
    /// UUIDs stay as they are, and all others become UUIDs of version 5 in this namespace.
    Mapped(Uuid),
    /// All become UUIDs of version 5 in this namespace, so that no other issuer can speak for them.
    Own(Uuid),
}

impl Default for UserIds {
    fn default() -> Self {
        Self::Uuids { others_are_mapped: false }
    }
}

impl UserIds {
    /// The namespace of those that are mapped.
    pub fn namespace(self) -> Option<Uuid> {
        match self {
            Self::Uuids { .. } => None,
            Self::Mapped(namespace) | Self::Own(namespace) => Some(namespace),
        }
    }
}

/// The user that `subject` names; none if it cannot name one.
///
/// No two subjects are one user. A UUID stays what it is only in its usual spelling, since another spelling may be
/// another person's name, and only if it is not of version 5: else whoever may choose a name could choose that which
/// another one has become.
pub fn user_id(ids: UserIds, subject: &str) -> Option<Uuid> {
    if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
        return None;
    }
    let mapped = |namespace: &Uuid| Uuid::new_v5(namespace, subject.as_bytes());
    let uuid = Uuid::try_parse(subject).ok();
    let is_mapped_one = |uuid: &Uuid| uuid.get_version() == Some(Version::Sha1);
    match ids {
        UserIds::Uuids { others_are_mapped } => uuid.filter(|uuid| !(others_are_mapped && is_mapped_one(uuid))),
        UserIds::Mapped(namespace) => {
            let stays = |uuid: &Uuid| uuid.to_string() == subject && !is_mapped_one(uuid);
            Some(uuid.filter(stays).unwrap_or_else(|| mapped(&namespace)))
        }
        UserIds::Own(namespace) => Some(mapped(&namespace)),
    }
}

/// Which claim names the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UserClaim {
    /// `sub` or `userId`, whichever holds a UUID.
    #[default]
    SubOrUserId,
    /// The claim of this name, whatever characters it has.
    Named(String),
    /// A place inside a claim, as a JSON Pointer (RFC 6901): `/app_metadata/user_id`.
    Pointer(String),
}

impl FromStr for UserClaim {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
        match text.strip_prefix('/') {
            Some(path) if path.split('~').skip(1).all(is_escaped) => Ok(Self::Pointer(text.to_owned())),
            Some(_) => Err("it is a JSON Pointer (RFC 6901), in which ~0 stands for ~ and ~1 for /"),
            None if text.is_empty() => Err("it is the name of a claim"),
            None => Ok(Self::Named(text.to_owned())),
        }
    }
}

/// Why a token names nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoSubject {
    /// `sub` and `userId` are two users.
    Two,
    /// Neither `sub` nor `userId` is a UUID.
    Neither,
    /// The claim is not there, or is no text and no whole number.
    Missing,
    /// The claim's text cannot be a user.
    Unfit,
}

/// Whom the claims name: the user, and the id that was mapped, if it was.
pub(super) fn find(
    claim: &UserClaim,
    ids: UserIds,
    claims: &Map<String, Value>,
) -> Result<(Uuid, Option<String>), NoSubject> {
    let found = match claim {
        UserClaim::SubOrUserId => return sub_or_user_id(ids, claims).map(|user| (user, None)),
        UserClaim::Named(name) => claims.get(name),
        UserClaim::Pointer(pointer) => pointed_at(claims, pointer),
    };
    let subject = match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return Err(NoSubject::Missing),
    };
    let user = user_id(ids, &subject).ok_or(NoSubject::Unfit)?;
    // Any spelling of the UUID itself is no other id.
    let is_mapped = Uuid::try_parse(&subject).ok() != Some(user);
    Ok((user, is_mapped.then_some(subject)))
}

/// The UUID in `sub` or `userId`. Another service's own id may stand in the other one; two users may not.
fn sub_or_user_id(ids: UserIds, claims: &Map<String, Value>) -> Result<Uuid, NoSubject> {
    let user = |name: &str| claims.get(name).and_then(Value::as_str).and_then(|subject| user_id(ids, subject));
    match (user("sub"), user("userId")) {
        (Some(sub), Some(user_id)) if sub != user_id => Err(NoSubject::Two),
        (Some(user), _) | (None, Some(user)) => Ok(user),
        (None, None) => Err(NoSubject::Neither),
    }
}

/// `pointer` begins with a slash.
fn pointed_at<'a>(claims: &'a Map<String, Value>, pointer: &str) -> Option<&'a Value> {
    let path = pointer.strip_prefix('/')?;
    let (first, rest) = path.find('/').map_or((path, ""), |slash| path.split_at(slash));
    claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAMESPACE: Uuid = Uuid::from_u128(7);
    const V4: &str = "0b6f9c9e-2b1a-4c1d-8e3f-1a2b3c4d5e6f";

    fn found(claim: &str, ids: UserIds, claims: &Value) -> Result<(Uuid, Option<String>), NoSubject> {
        find(&claim.parse().unwrap(), ids, claims.as_object().unwrap())
    }

    #[test]
    fn what_is_no_uuid_becomes_one_that_every_language_can_compute() {
        // Python: uuid.uuid5(uuid.NAMESPACE_DNS, "python.org").
        let user = user_id(UserIds::Mapped(Uuid::NAMESPACE_DNS), "python.org");
        assert_eq!(user.unwrap().to_string(), "886313e1-3b8a-5372-9b90-0c9aee199e5d");
        assert_eq!(DEFAULT_NAMESPACE.to_string(), "5d2b1f0c-7a36-5c1e-9b84-31a60fe9c7d2");
    }

    #[test]
    fn nobody_can_choose_a_name_that_is_another_user() {
        let ids = UserIds::Mapped(NAMESPACE);
        let victim = user_id(ids, "victim").unwrap();
        let names = [victim.to_string(), V4.to_uppercase(), V4.replace('-', ""), format!("urn:uuid:{V4}"), " ".into()];
        let mut users: Vec<Uuid> = names.iter().map(|name| user_id(ids, name).unwrap()).collect();
        assert!(users.iter().all(|user| user.get_version() == Some(Version::Sha1)));
        users.extend([victim, user_id(ids, V4).unwrap()]);
        assert_eq!(users.last().unwrap().to_string(), V4);
        users.sort();
        users.dedup();
        assert_eq!(users.len(), names.len() + 2);
    }

    #[test]
    fn no_other_issuer_speaks_for_users_of_ones_own() {
        let (own, shared) = (UserIds::Own(NAMESPACE), UserIds::Uuids { others_are_mapped: true });
        for subject in ["alice", V4] {
            let user = user_id(own, subject).unwrap();
            assert_ne!(user.to_string(), subject);
            assert_eq!(user_id(shared, &user.to_string()), None);
            assert_ne!(user_id(UserIds::Mapped(DEFAULT_NAMESPACE), &user.to_string()), Some(user));
            assert_ne!(user_id(UserIds::Own(DEFAULT_NAMESPACE), subject), Some(user));
        }
        assert_eq!(user_id(shared, V4).unwrap().to_string(), V4);
        let alone = user_id(own, "alice").unwrap();
        assert_eq!(user_id(UserIds::default(), &alone.to_string()), Some(alone));
    }

    #[test]
    fn without_a_namespace_only_uuids_are_users() {
        for subject in ["", "admin", "42", "auth0|507f1f77"] {
            assert_eq!(user_id(UserIds::default(), subject), None, "{subject}");
        }
        assert_eq!(user_id(UserIds::default(), &V4.to_uppercase()), Uuid::try_parse(V4).ok());
        for unfit in [String::new(), "x".repeat(1025)] {
            assert_eq!(user_id(UserIds::Own(NAMESPACE), &unfit), None);
        }
    }

    #[test]
    fn a_claim_is_found_by_its_name_or_by_a_path_into_it() {
        let ids = UserIds::Mapped(NAMESPACE);
        let claims = json!({
            "sub": V4, "uid": 42, "https://example.com/uid": "a", "app/x": { "~": ["b"] }, "n": 1.5, "b": true,
            "deep": { "id": "c" },
        });
        for (claim, subject) in [
            ("uid", "42"),
            ("https://example.com/uid", "a"),
            ("/https:~1~1example.com~1uid", "a"),
            ("/app~1x/~0/0", "b"),
            ("/deep/id", "c"),
        ] {
            let expected = (user_id(ids, subject).unwrap(), Some(subject.to_owned()));
            assert_eq!(found(claim, ids, &claims), Ok(expected), "{claim}");
        }
        assert_eq!(found("sub", ids, &claims), Ok((Uuid::try_parse(V4).unwrap(), None)));
        for missing in ["nobody", "n", "b", "deep", "/deep", "/deep/", "/", "//", "/app/x", "deep/id"] {
            assert_eq!(found(missing, ids, &claims), Err(NoSubject::Missing), "{missing}");
        }
        assert_eq!(found("uid", UserIds::default(), &claims), Err(NoSubject::Unfit));
        for wrong in ["", "/a~2", "/~", "/a/b~"] {
            assert!(wrong.parse::<UserClaim>().is_err(), "{wrong}");
        }
    }
}
