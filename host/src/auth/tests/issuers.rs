//! Several issuers, other algorithms than RS256, and users whose ids are no UUIDs.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{NOW, USER, code, key, key_for, public_jwk, sign};
use crate::auth::remote::RemoteKeys;
use crate::auth::subject::{DEFAULT_NAMESPACE, UserClaim, UserIds, user_id};
use crate::auth::{Authenticator, Identity, Issued, Issuer, IssuerRules, KeyError, NoUser, PublicKeys};
use arcyou_protocol::{ErrorCode, Failure};

fn rules(algorithms: &str) -> IssuerRules {
    IssuerRules { algorithms: algorithms.parse().unwrap(), ..IssuerRules::default() }
}

/// An issuer with the keys of this set.
fn issuer(rules: IssuerRules, keys: &[Value]) -> Issuer {
    let remote = RemoteKeys::holding(&json!({ "keys": keys }), &rules.algorithms);
    Issuer::new(rules, None, Some(Arc::new(remote)))
}

fn named(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = public_jwk(key, algorithm);
    jwk["kid"] = json!(kid);
    jwk
}

fn token(key: &EncodingKey, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn claims() -> Value {
    json!({ "sub": USER, "exp": NOW + 60.0 })
}

fn identify(authenticator: &Authenticator, token: &str) -> Result<Identity, Failure> {
    authenticator.identify(token, NOW)
}

const OTHERS: [Algorithm; 4] = [Algorithm::PS256, Algorithm::RS512, Algorithm::ES256, Algorithm::EdDSA];

#[test]
fn other_algorithms_than_rs256_are_opted_into() {
    for algorithm in OTHERS {
        let private = key_for(algorithm);
        let keys = [named(&private, algorithm, "a"), named(&key_for(Algorithm::RS256), Algorithm::RS256, "b")];
        let token = token(&private, algorithm, Some("a"), &claims());
        let names = format!("{algorithm:?}, RS256");
        assert!(identify(&Authenticator::of(vec![issuer(rules(&names), &keys)]), &token).is_ok(), "{names}");
        let default = Authenticator::of(vec![issuer(rules("RS256"), &keys)]);
        let refused = identify(&default, &token).unwrap_err();
        assert_eq!((refused.code, refused.text.contains("RS256")), (ErrorCode::TokenAlgorithm, true), "{names}");
    }
}

#[test]
fn no_token_chooses_how_a_key_is_read() {
    let all = "RS256, PS256, ES256, EdDSA";
    let keys: Vec<(Algorithm, EncodingKey)> =
        [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(|algorithm| (algorithm, key_for(algorithm))).into();
    for (of, private) in &keys {
        let public = named(private, *of, "a");
        let authenticator = Authenticator::of(vec![issuer(rules(all), std::slice::from_ref(&public))]);
        for (algorithm, other) in keys.iter().filter(|(algorithm, _)| algorithm != of) {
            let refused = identify(&authenticator, &token(other, *algorithm, Some("a"), &claims()));
            assert_eq!(code(refused), ErrorCode::TokenAlgorithm, "{algorithm:?} for a key of {of:?}");
        }
        // The public key as a secret.
        let secret = EncodingKey::from_secret(public.to_string().as_bytes());
        let confused = token(&secret, Algorithm::HS256, Some("a"), &claims());
        assert_eq!(code(identify(&authenticator, &confused)), ErrorCode::TokenAlgorithm);
    }
    // An RSA key that its issuer keeps for one algorithm.
    let (_, private) = &keys[0];
    let mut public = named(private, Algorithm::RS256, "a");
    public["alg"] = json!("RS256");
    let authenticator = Authenticator::of(vec![issuer(rules(all), &[public])]);
    assert!(identify(&authenticator, &token(private, Algorithm::RS256, Some("a"), &claims())).is_ok());
    let refused = identify(&authenticator, &token(private, Algorithm::PS256, Some("a"), &claims()));
    assert_eq!(code(refused), ErrorCode::TokenAlgorithm);
}

#[test]
fn a_kid_says_which_key_and_without_one_all_are_tried() {
    let (first, second, stranger) = (key_for(Algorithm::RS256), key_for(Algorithm::RS256), key_for(Algorithm::RS256));
    let keys = [named(&first, Algorithm::RS256, "a"), named(&second, Algorithm::RS256, "b")];
    let authenticator = Authenticator::of(vec![issuer(rules("RS256"), &keys)]);
    let told = |key: &EncodingKey, kid| identify(&authenticator, &token(key, Algorithm::RS256, kid, &claims()));
    assert!(told(&first, Some("a")).is_ok() && told(&second, Some("b")).is_ok());
    assert!(told(&first, None).is_ok() && told(&second, None).is_ok());
    assert_eq!(code(told(&first, Some("b"))), ErrorCode::TokenSignature);
    assert_eq!(code(told(&stranger, None)), ErrorCode::TokenSignature);
    for kid in ["c", "", "A", "../../etc/passwd", "' OR 1=1"] {
        assert_eq!(code(told(&first, Some(kid))), ErrorCode::TokenKeyUnknown, "{kid}");
    }
    // A key that is given by hand has no kid.
    let (by_hand, allowed) = (key(), "RS256".parse().unwrap());
    let local = PublicKeys::read(&by_hand.public, &allowed).unwrap();
    let remote = RemoteKeys::holding(&json!({ "keys": keys }), &allowed);
    let both = Authenticator::of(vec![Issuer::new(rules("RS256"), Some(local), Some(Arc::new(remote)))]);
    assert!(identify(&both, &sign(&by_hand, &claims())).is_ok());
    assert!(identify(&both, &token(&by_hand.private, Algorithm::RS256, Some("c"), &claims())).is_ok());
    assert!(identify(&both, &token(&first, Algorithm::RS256, Some("a"), &claims())).is_ok());
}

#[test]
fn each_issuer_proves_its_own_tokens_and_no_others() {
    let (ours, partners) = (key_for(Algorithm::RS256), key_for(Algorithm::ES256));
    let of = |iss: &str, audience: &[&str], algorithms: &str, user_ids| IssuerRules {
        issuer: Some(iss.to_owned()),
        audience: audience.iter().map(|one| (*one).to_owned()).collect(),
        user_ids,
        ..rules(algorithms)
    };
    let own = UserIds::Own(Uuid::from_u128(7));
    let shared = UserIds::Uuids { others_are_mapped: true };
    let authenticator = Authenticator::of(vec![
        issuer(of("us", &["chat", "mail"], "RS256", shared), &[named(&ours, Algorithm::RS256, "a")]),
        issuer(of("them", &["partner"], "ES256", own), &[named(&partners, Algorithm::ES256, "a")]),
    ]);
    let with = |iss: Value, aud: &str| json!({ "sub": USER, "exp": NOW + 60.0, "iss": iss, "aud": aud });
    let us = |claims| identify(&authenticator, &token(&ours, Algorithm::RS256, Some("a"), &claims));
    let them = |claims| identify(&authenticator, &token(&partners, Algorithm::ES256, Some("a"), &claims));
    assert_eq!(us(with(json!("us"), "mail")).unwrap().user.to_string(), USER);
    // The same `sub`, and another user.
    let partner = them(with(json!("them"), "partner")).unwrap();
    assert_eq!((Some(partner.user), partner.subject.as_deref()), (user_id(own, USER), Some(USER)));
    assert_eq!(authenticator.user_id(Some("them"), USER), Ok(partner.user));
    assert_eq!(authenticator.user_id(Some("us"), USER).unwrap().to_string(), USER);
    for nobody in [None, Some("nobody")] {
        assert_eq!(authenticator.user_id(nobody, USER), Err(NoUser::UnknownIssuer));
    }
    assert_eq!(authenticator.user_id(Some("us"), "auth0|7"), Err(NoUser::Unfit));
    let mut stolen = with(json!("us"), "chat");
    stolen["sub"] = json!(partner.user);
    assert_eq!(code(us(stolen)), ErrorCode::TokenClaims, "the other issuer's user");
    assert_eq!(code(us(with(json!("us"), "partner"))), ErrorCode::TokenAudience);
    assert_eq!(code(them(with(json!("them"), "chat"))), ErrorCode::TokenAudience);
    // Signed by one, in the name of the other.
    assert_eq!(code(them(with(json!("us"), "chat"))), ErrorCode::TokenAlgorithm);
    assert_eq!(code(us(with(json!("them"), "partner"))), ErrorCode::TokenAlgorithm);
    for iss in [Value::Null, json!("nobody"), json!(["us"]), json!(7)] {
        assert_eq!(code(us(with(iss.clone(), "chat"))), ErrorCode::TokenIssuer, "{iss}");
    }
    for garbage in ["", ".", "a.b.c", USER] {
        assert_eq!(code(identify(&authenticator, garbage)), ErrorCode::TokenMalformed, "{garbage:?}");
    }
}

#[test]
fn ids_that_are_no_uuids_are_users_where_that_is_opted_into() {
    let key = key();
    let with = |user_claim: Option<&str>, user_ids| {
        let user_claim = user_claim.map_or(UserClaim::SubOrUserId, |claim| claim.parse().unwrap());
        let local = PublicKeys::read(&key.public, &"RS256".parse().unwrap()).unwrap();
        Authenticator::of(vec![Issuer::new(IssuerRules { user_claim, user_ids, ..rules("RS256") }, Some(local), None)])
    };
    let token = |claims: Value| sign(&key, &claims);
    let auth0 = token(json!({ "sub": "auth0|507f1f77", "https://example.com/uid": 42, "exp": NOW + 60.0 }));
    let default = with(None, UserIds::default());
    assert_eq!(code(identify(&default, &auth0)), ErrorCode::TokenClaims);
    let mapped = UserIds::Mapped(DEFAULT_NAMESPACE);
    for (claim, subject) in [(None, "auth0|507f1f77"), (Some("https://example.com/uid"), "42")] {
        let identity = identify(&with(claim, mapped), &auth0).unwrap();
        assert_eq!((Some(identity.user), identity.subject.as_deref()), (user_id(mapped, subject), Some(subject)));
    }
    let uuid = token(json!({ "sub": USER, "userId": "7", "exp": NOW + 60.0 }));
    let identity = identify(&with(None, mapped), &uuid).unwrap();
    assert_eq!((identity.user.to_string(), identity.subject), (USER.to_owned(), None));
    for (claim, text) in [("email", "in email"), ("userId", "UUID")] {
        let refused = identify(&with(Some(claim), UserIds::default()), &uuid).unwrap_err();
        assert!(refused.code == ErrorCode::TokenClaims && refused.text.contains(text), "{refused:?}");
    }
    // One claim twice.
    let twice = format!(r#"{{"sub":"{USER}","userId":"{USER}","userId":"7","exp":{NOW}}}"#);
    let payload = [r#"{"alg":"RS256"}"#, &twice].map(|part| {
        use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
        BASE64_URL_SAFE_NO_PAD.encode(part)
    });
    let message = payload.join(".");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.private, Algorithm::RS256).unwrap();
    assert_eq!(code(identify(&default, &format!("{message}.{signature}"))), ErrorCode::TokenClaims);
}

#[test]
fn a_token_says_when_it_was_issued_and_never_later_than_now() {
    let key = key();
    let authenticator = Authenticator::new(&key.public, None, None).unwrap();
    let issued = |iat: Value| {
        let token = sign(&key, &json!({ "sub": USER, "iat": iat, "exp": NOW + 60.0 }));
        identify(&authenticator, &token).unwrap().issued
    };
    assert_eq!((issued(json!(NOW - 5.5)), issued(json!(NOW as u64))), (Issued::At(NOW - 5.5), Issued::At(NOW)));
    for unusable in [Value::Null, json!("yesterday"), json!(NOW + 11.0), json!(1e300)] {
        assert_eq!(issued(unusable.clone()), Issued::Unknown, "{unusable}");
    }
    let (at, not_before) = (Issued::At(NOW), NOW);
    assert!(!at.is_refused_by(not_before) && at.is_refused_by(not_before + 0.001));
    assert!(Issued::Unknown.is_refused_by(0.0) && !Issued::Never.is_refused_by(NOW) && Issued::Never.is_ended_by(NOW));
}

#[test]
fn a_key_for_what_is_not_allowed_is_explained() {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let public = super::pem("PUBLIC KEY", der.as_ref());
    let read = |algorithms: &str| PublicKeys::read(&public, &algorithms.parse().unwrap());
    let error = read("RS256").err().unwrap();
    assert!(matches!(error, KeyError::Unfit(_)));
    assert_eq!(error.to_string(), "holds a key that is for ES256 alone; allowed are RS256 (JWT_ALGORITHMS)");
    let rules = rules("ES256, RS256");
    let local = read("ES256, RS256").unwrap();
    let authenticator = Authenticator::of(vec![Issuer::new(rules, Some(local), None)]);
    let private = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
    assert!(identify(&authenticator, &token(&private, Algorithm::ES256, None, &claims())).is_ok());
    let stranger = key_for(Algorithm::ES256);
    let refused = identify(&authenticator, &token(&stranger, Algorithm::ES256, None, &claims()));
    assert_eq!(code(refused), ErrorCode::TokenSignature);
}
