//! The file that `JWT_ISSUERS` names: one table `[[issuer]]` for each issuer of tokens.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use crate::auth::remote::RemoteKeys;
use crate::auth::subject::{DEFAULT_NAMESPACE, UserClaim, UserIds};
use crate::auth::{Algorithms, Issuer, IssuerRules, JwksUrl, PublicKeys};

/// What says that any issuer, or any audience, will do.
pub(super) const ANY: &str = "any";
/// More than any team has.
const MAX_ISSUERS: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issuer: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    issuer: String,
    audience: Audience,
    jwks_url: Option<String>,
    public_key: Option<String>,
    algorithms: Option<Vec<String>>,
    user_claim: Option<String>,
    users: Users,
    user_id_namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Whom an issuer speaks for. There is no default: with the wrong one, an issuer could speak for another one's users,
/// or its users would lose what is theirs.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Users {
    /// For everybody: its ids mean the same as those of all others that share.
    Shared,
    /// For users that no other issuer speaks for.
    Own,
}

/// A namespace for ids that are no UUIDs.
pub(super) struct Namespace(pub(super) Uuid);

impl FromStr for Namespace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self(DEFAULT_NAMESPACE)),
            _ => Uuid::try_parse(text).map(Self).map_err(|_| "it is a UUID, or default"),
        }
    }
}

/// The issuers of a file, or what is wrong with it.
pub(super) fn read(path: &Path, plain_http: bool, refresh_every: Duration) -> Result<Vec<Issuer>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("names a file that cannot be read: {error}"))?;
    let file: File = toml::from_str(&text).map_err(|error| format!("{shown}: {}", explain(&text, &error)))?;
    match file.issuer.len() {
        0 => return Err(format!("{shown}: has no [[issuer]]")),
        1..=MAX_ISSUERS => {}
        count => return Err(format!("{shown}: has {count} issuers; {MAX_ISSUERS} are the most")),
    }
    let rules = file.issuer.iter().map(|entry| rules(entry).map_err(|error| at(path, entry, &error)));
    let mut rules: Vec<IssuerRules> = rules.collect::<Result<_, _>>()?;
    keep_apart(&mut rules).map_err(|error| format!("{shown}: {error}"))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let issuers = file.issuer.iter().zip(rules).map(|(entry, rules)| {
        issuer(entry, rules, folder, plain_http, refresh_every).map_err(|error| at(path, entry, &error))
    });
    issuers.collect()
}

/// What TOML objects to, and where; without the line itself, which may hold what is not to be shown.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let message = error.message();
    let hint = if message.starts_with("missing field `users`") {
        ". Write users = \"shared\" if its ids mean the same people as those of other issuers, which it may then speak \
         for; write users = \"own\" if nobody else may speak for its users: their ids become UUIDs of their own"
    } else if message == "invalid type: map, expected a sequence" {
        ". Write [[issuer]], in two pairs of brackets, before each issuer"
    } else if message.starts_with("missing field `audience`") || message.contains("Audience") {
        ". Write audience = \"chat\" or a list: what a token's aud must contain; \"any\" if all that the issuer signs is \
         for this gateway"
    } else {
        ""
    };
    match line {
        Some(line) => format!("line {line}: {message}{hint}"),
        None => format!("{message}{hint}"),
    }
}

fn at(path: &Path, entry: &Entry, error: &str) -> String {
    format!("{}: issuer {:?}: {error}", path.display(), entry.issuer)
}

fn rules(entry: &Entry) -> Result<IssuerRules, String> {
    let namespace = match &entry.user_id_namespace {
        Some(text) => Some(text.parse::<Namespace>().map_err(|error| format!("user_id_namespace: {error}"))?.0),
        None => None,
    };
    let user_claim = match &entry.user_claim {
        Some(text) => Some(text.parse::<UserClaim>().map_err(|error| format!("user_claim: {error}"))?),
        None => None,
    };
    let algorithms = match &entry.algorithms {
        Some(names) if names.is_empty() => return Err("algorithms: name one, or leave it out".to_owned()),
        Some(names) => names.join(",").parse::<Algorithms>().map_err(|error| format!("algorithms: {error}"))?,
        None => Algorithms::default(),
    };
    if entry.issuer.is_empty() || entry.issuer == ANY {
        return Err("issuer must be what the token's iss says: it tells whose token it is".to_owned());
    }
    let audience = match &entry.audience {
        Audience::One(any) if any == ANY => Vec::new(),
        Audience::One(one) => vec![one.clone()],
        Audience::Several(several) => several.clone(),
    };
    let is_any = matches!(&entry.audience, Audience::One(any) if any == ANY);
    if !is_any && (audience.is_empty() || audience.iter().any(|one| one.is_empty() || one == ANY)) {
        return Err("audience must name what a token's aud must contain, or be \"any\" alone".to_owned());
    }
    Ok(IssuerRules {
        issuer: Some(entry.issuer.clone()),
        audience,
        algorithms,
        user_claim: user_claim.unwrap_or_default(),
        user_ids: match (entry.users, namespace) {
            (Users::Shared, None) => UserIds::default(),
            (Users::Shared, Some(namespace)) => UserIds::Mapped(namespace),
            (Users::Own, Some(namespace)) => UserIds::Own(namespace),
            (Users::Own, None) => UserIds::Own(Uuid::new_v5(&Uuid::NAMESPACE_URL, entry.issuer.as_bytes())),
        },
        is_listed: true,
    })
}

/// No two issuers have a name, and no namespace of one's own is another's too.
fn keep_apart(rules: &mut [IssuerRules]) -> Result<(), String> {
    let mut names = HashMap::new();
    let mut namespaces: HashMap<Uuid, UserIds> = HashMap::new();
    for rules in rules.iter() {
        if let Some(name) = &rules.issuer
            && names.insert(name.clone(), ()).is_some()
        {
            return Err(format!("issuer {name:?} is there twice"));
        }
        let Some(namespace) = rules.user_ids.namespace() else { continue };
        if let Some(before) = namespaces.insert(namespace, rules.user_ids)
            && [before, rules.user_ids].iter().any(|ids| matches!(ids, UserIds::Own(_)))
        {
            let name = rules.issuer.as_deref().unwrap_or_default();
            return Err(format!(
                "issuer {name:?} has the user_id_namespace of another one, and users = \"own\" in one of them: who has \
                 the same id at both would be one user. Write users = \"shared\" in both, or leave user_id_namespace out"
            ));
        }
    }
    let are_mapped = !namespaces.is_empty();
    for rules in rules {
        if let UserIds::Uuids { others_are_mapped } = &mut rules.user_ids {
            *others_are_mapped = are_mapped;
        }
    }
    Ok(())
}

fn issuer(
    entry: &Entry,
    rules: IssuerRules,
    folder: &Path,
    plain_http: bool,
    refresh_every: Duration,
) -> Result<Issuer, String> {
    if entry.jwks_url.is_none() && entry.public_key.is_none() {
        return Err(
            "jwks_url (where it publishes its keys) or public_key (PEM text or a file) must be there".to_owned()
        );
    }
    let local = match &entry.public_key {
        Some(text) if text.contains("-----BEGIN") => Some(PublicKeys::read(text, &rules.algorithms)),
        // As the file says it, seen from where the file is.
        Some(file) => Some(PublicKeys::read(&folder.join(file.trim()).to_string_lossy(), &rules.algorithms)),
        None => None,
    };
    let local = local.transpose().map_err(|error| format!("public_key {error}"))?;
    let url = entry.jwks_url.as_deref().map(|url| JwksUrl::parse(url, plain_http)).transpose();
    let url = url.map_err(|error| format!("jwks_url {error}"))?;
    let remote = url.map(|url| Arc::new(RemoteKeys::new(url, rules.algorithms.clone(), refresh_every)));
    Ok(Issuer::new(rules, local, remote))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::{Authenticator, NoUser};

    const ONE: &str = r#"
        [[issuer]]
        issuer = "https://one.example/"
        audience = ["chat", "mail"]
        jwks_url = "https://one.example/jwks"
        users = "own"
    "#;

    fn from(text: &str) -> Result<Vec<Issuer>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("issuers.toml");
        std::fs::write(&file, text).unwrap();
        read(&file, false, Duration::from_secs(300))
    }

    fn error(text: &str) -> String {
        from(text).err().unwrap()
    }

    #[test]
    fn every_issuer_is_read_and_the_same_id_is_another_user_at_each() {
        let two = ONE.replace("one.example", "two.example");
        let shared = ONE.replace("one.example", "three.example").replace("own", "shared");
        let issuers = Authenticator::of(from(&format!("{ONE}{two}{shared}")).unwrap());
        let user = |name: &str, subject: &str| issuers.user_id(Some(&format!("https://{name}.example/")), subject);
        let uuid = "0b6f9c9e-2b1a-4c1d-8e3f-1a2b3c4d5e6f";
        let users = [user("one", uuid).unwrap(), user("two", uuid).unwrap(), user("three", uuid).unwrap()];
        assert!(users[0] != users[1] && users[1] != users[2] && users[2].to_string() == uuid, "{users:?}");
        // It never changes: users are known by it.
        assert_eq!(
            users[0],
            Uuid::new_v5(&Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://one.example/"), uuid.as_bytes())
        );
        assert_eq!(user("three", "alice"), Err(NoUser::Unfit));
        assert_eq!(user("three", &users[0].to_string()), Err(NoUser::Unfit));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_to_write() {
        let changed = |from: &str, to: &str| error(&ONE.replace(from, to));
        let without =
            |line: &str| error(&ONE.lines().filter(|one| !one.trim().starts_with(line)).collect::<Vec<_>>().join("\n"));
        for (told, parts) in [
            (error(""), vec!["no [[issuer]]"]),
            (error(&ONE.repeat(2)), vec!["\"https://one.example/\" is there twice"]),
            (error(&ONE.repeat(17)), vec!["17 issuers"]),
            (without("users"), vec!["line 2", "users = \"shared\"", "users = \"own\""]),
            (changed("own", "mine"), vec!["line 6", "`own`"]),
            (without("audience"), vec!["audience = \"chat\""]),
            (changed(r#"["chat", "mail"]"#, "[]"), vec!["aud must contain"]),
            (changed("\"mail\"", "\"any\""), vec!["aud must contain"]),
            (without("jwks_url"), vec!["jwks_url", "public_key"]),
            (changed("https://one.example/jwks", "http://one.example/jwks"), vec!["jwks_url", "https://"]),
            (changed("jwks_url", "jwks_uri"), vec!["line 5", "jwks_uri"]),
            (changed("jwks_url = \"https://one.example/jwks\"", "public_key = \"no.pem\""), vec!["readable file"]),
            (changed("users", "algorithms = [\"HS256\"]\nusers"), vec!["algorithms", "symmetric"]),
            (changed("users", "user_id_namespace = \"x\"\nusers"), vec!["user_id_namespace", "default"]),
            (changed("users", "algorithms = []\nusers"), vec!["algorithms: name one"]),
            (changed("users", "user_claim = \"\"\nusers"), vec!["user_claim", "name of a claim"]),
            (changed("[[issuer]]", "[issuer]"), vec!["line 2", "[[issuer]]"]),
            (changed("\"https://one.example/\"", "\"any\""), vec!["iss"]),
            (changed("issuer = \"https", "issuer = hunter2 \"https"), vec!["line 3"]),
        ] {
            for part in parts {
                assert!(told.contains(part) && !told.contains("hunter2"), "{part}: {told}");
            }
        }
        assert!(!changed("jwks_url", "jwks_uri").contains("Write"), "what is missing is told alone");
        assert!(read(Path::new("/no/such/file"), false, Duration::MAX).err().unwrap().contains("cannot be read"));
    }

    #[test]
    fn a_namespace_of_ones_own_is_nobody_elses() {
        let with = |name: &str, users: &str| {
            ONE.replace("one.example", name)
                .replace("\"own\"", &format!("\"{users}\"\nuser_id_namespace = \"default\""))
        };
        let both =
            |first: &str, second: &str| from(&format!("{}{}", with("a.example", first), with("b.example", second)));
        assert!(both("shared", "shared").is_ok());
        for (first, second) in [("own", "own"), ("own", "shared"), ("shared", "own")] {
            assert!(both(first, second).err().unwrap().contains("would be one user"), "{first} {second}");
        }
    }

    #[test]
    fn a_key_is_where_the_file_says_seen_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("issuers.toml");
        std::fs::write(&file, ONE.replace("jwks_url = \"https://one.example/jwks\"", "public_key = \"key.pem\""))
            .unwrap();
        assert!(read(&file, false, Duration::from_secs(300)).is_err());
        std::fs::write(folder.path().join("key.pem"), crate::auth::tests::key().public).unwrap();
        assert!(read(&file, false, Duration::from_secs(300)).is_ok());
    }
}
