//! Tokens: whatever is done to one, it speaks for nobody but the user it was signed for.

use arcyou_gateway::auth::{Authenticator, Identity};
use arcyou_protocol::Failure;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use proptest::strategy::Strategy;
use serde_json::json;
use uuid::Uuid;

use crate::damage::{Damaged, Sample, damaged};
use crate::fuzz;
use crate::support::jwt::{Issuer, unsigned};

const NOW: f64 = 1_800_000_000.0;
const END: f64 = NOW + 60.0;
/// Until then a token is good whose `exp` is [`END`]: clocks may differ.
const GOOD_UNTIL: f64 = END + 10.0;

/// One that asks for an issuer and an audience, and one that does not.
fn authenticators(issuer: &Issuer) -> [Authenticator; 2] {
    [
        Authenticator::new(&issuer.public, Some("us"), Some("chat")).unwrap(),
        Authenticator::new(&issuer.public, None, None).unwrap(),
    ]
}

fn claims(user: Uuid) -> serde_json::Value {
    json!({"sub": user, "exp": END, "nbf": NOW - 1.5, "iss": "us", "aud": ["chat", "mail"], "name": "한"})
}

/// Claims that are asked for.
const EXP: &str = r#""exp":1800000060"#;
const ISS: &str = r#""iss":"us""#;
const AUD: &str = r#""aud":["chat","mail"]"#;

/// A token in its parts.
fn encoded(token: &str) -> Sample {
    let pieces = token.split('.').map(|part| part.as_bytes().to_vec()).collect();
    Sample { pieces, join: |parts| parts.join(&b'.') }
}

/// The same, to be damaged beneath the encoding.
fn decoded(token: &str) -> Sample {
    let pieces = token.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    Sample { pieces, join: |parts| encode(parts).into_bytes() }
}

fn encode(parts: &[Vec<u8>]) -> String {
    parts.iter().map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).collect::<Vec<_>>().join(".")
}

fn word(answer: Result<Identity, Failure>) -> &'static str {
    answer.map_or_else(|failure| failure.code.value(), |_| "admitted")
}

#[test]
fn a_damaged_token_speaks_for_nobody_else() {
    let issuer = Issuer::new();
    let authenticators = authenticators(&issuer);
    let users = [Uuid::from_u128(1), Uuid::from_u128(2)];
    let mut tokens: Vec<String> = users.iter().map(|user| issuer.sign(&claims(*user))).collect();
    // Parts of those that must never be admitted are spliced into those that are.
    let stranger = claims(Uuid::from_u128(3));
    tokens.extend([issuer.sign_hs256(&stranger), unsigned(&stranger), Issuer::new().sign(&stranger)]);
    let samples: Vec<Sample> = tokens.iter().flat_map(|token| [encoded(token), decoded(token)]).collect();
    fuzz(file!(), "tokens", 1, &damaged(), |token: Damaged| {
        let token = token.text(&samples);
        let answers = authenticators.each_ref().map(|authenticator| authenticator.identify(&token, NOW));
        for answer in answers.iter().flatten() {
            assert!(users.contains(&answer.user) && answer.expires_at == Some(GOOD_UNTIL), "{token} is {answer:?}");
        }
        let [strict, _] = answers;
        word(strict)
    });
}

#[test]
fn a_token_with_damaged_claims_is_answered() {
    let issuer = Issuer::new();
    let authenticators = authenticators(&issuer);
    let samples = [
        Sample::object([r#""sub":"00000000-0000-0000-0000-000000000001""#, EXP, r#""nbf":1799999998.5"#, ISS, AUD]),
        Sample::object([r#""userId":"{00000000-0000-0000-0000-000000000001}""#, EXP, ISS, AUD, r#""exp":1.8e9"#]),
    ];
    fuzz(file!(), "claims", 4, &damaged(), |claims: Damaged| {
        let token = issuer.sign_bytes(&claims.bytes(&samples));
        let [strict, lax] = authenticators.each_ref().map(|authenticator| authenticator.identify(&token, NOW));
        assert!(lax.is_ok() || strict.is_err(), "only the strict one may refuse alone");
        for answer in [&strict, &lax].into_iter().flatten() {
            assert!(answer.expires_at.is_some_and(|end| end > NOW), "{answer:?} has ended");
        }
        word(strict)
    });
}

#[test]
fn a_token_of_anything_is_refused() {
    let issuer = Issuer::new();
    let authenticators = authenticators(&issuer);
    let part = || proptest::collection::vec(proptest::num::u8::ANY, 0..40);
    let encoded = (part(), part(), part()).prop_map(|(header, claims, signature)| encode(&[header, claims, signature]));
    let inputs = proptest::prop_oneof![".{0,300}", "[A-Za-z0-9_.=+/-]{0,300}", encoded];
    fuzz(file!(), "random tokens", 1, &inputs, |token: String| {
        let [strict, lax] = authenticators.each_ref().map(|authenticator| authenticator.identify(&token, NOW));
        assert!(strict.is_err() && lax.is_err(), "{token}");
        word(strict)
    });
}
