//! Frames as clients send them.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const LIMITS: FrameLimits = FrameLimits { body: BodyLimits { max_bytes: 200, max_depth: 8 } };
const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

fn code(text: &str) -> (&'static str, ErrorCode) {
    let error = parse(text, &LIMITS).unwrap_err();
    (error.op, error.code)
}

fn operation(text: &str) -> Operation {
    parse(text, &LIMITS).unwrap().operation
}

#[test]
fn the_frames_of_the_walk_through() {
    assert_eq!(operation(r#"{"op":"auth","token":"t"}"#), Operation::Auth { token: "t".into() });
    assert_eq!(operation(r#"{"op":"ping"}"#), Operation::Ping);
    let conversation = Uuid::parse_str(ID).unwrap();
    for id in [ID.to_owned(), ID.to_uppercase(), format!("{{{ID}}}"), ID.replace('-', "")] {
        for name in ["conversation_id", "conversationId"] {
            let join = operation(&format!(r#"{{"op":"join","{name}":"{id}","unknown":[1]}}"#));
            assert_eq!(join, Operation::User(UserOperation::Join { conversation, resume: None }));
        }
    }
    let frame = parse(
        &format!(r#"{{"op":"send","conversation_id":"{ID}","body":{{"text":"Hello!"}},"temp_id":"temp-123"}}"#),
        &LIMITS,
    )
    .unwrap();
    assert_eq!(frame.echo.temp_id.as_deref(), Some("\"temp-123\""));
    let Operation::User(UserOperation::Command(Command { action: Action::Send { body }, .. })) = frame.operation else {
        panic!("not a send")
    };
    assert_eq!(body.as_str(), r#"{"text":"Hello!"}"#);
}

#[test]
fn each_fault_has_its_code() {
    assert_eq!(code("nonsense"), ("error", ErrorCode::InvalidJson));
    assert_eq!(code(""), ("error", ErrorCode::InvalidJson));
    for frame in ["null", "1", "[]", "\"x\"", "true"] {
        assert_eq!(code(frame), ("error", ErrorCode::NotAnObject), "{frame}");
    }
    assert_eq!(code("{}"), ("error", ErrorCode::MissingField));
    assert_eq!(code(r#"{"op":1}"#), ("error", ErrorCode::InvalidField));
    assert_eq!(code(r#"{"op":"fly"}"#), ("error", ErrorCode::UnknownOp));
    assert_eq!(code(r#"{"op":"auth"}"#), ("auth", ErrorCode::MissingField));
    assert_eq!(code(r#"{"op":"auth","token":null}"#), ("auth", ErrorCode::MissingField));
    assert_eq!(code(r#"{"op":"auth","token":5}"#), ("auth", ErrorCode::InvalidField));
    assert_eq!(code(r#"{"op":"join","conversation_id":"conv"}"#), ("join", ErrorCode::InvalidField));
    assert_eq!(code(r#"{"op":"leave","ref":{},"conversation_id":"conv"}"#), ("leave", ErrorCode::InvalidField));
    let send = |rest: &str| code(&format!(r#"{{"op":"send","conversation_id":"{ID}",{rest}}}"#));
    assert_eq!(send(r#""x":1"#), ("send", ErrorCode::MissingField));
    assert_eq!(send(r#""body":"text""#), ("send", ErrorCode::InvalidField));
    assert_eq!(send(r#""body":{"a":1,"a":2}"#), ("send", ErrorCode::DuplicateKey));
    assert_eq!(send(r#""body":{},"idempotency_key":"""#), ("send", ErrorCode::InvalidField));
    assert_eq!(
        send(&format!(r#""body":{{}},"idempotency_key":"{}""#, "k".repeat(129))),
        ("send", ErrorCode::InvalidField)
    );
    assert_eq!(send(&format!(r#""body":{{}},"temp_id":"{}""#, "t".repeat(300))), ("send", ErrorCode::InvalidField));
    assert_eq!(
        send(&format!(r#""body":{{"a":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000))),
        ("send", ErrorCode::BodyTooDeep)
    );
    let history = |rest: &str| code(&format!(r#"{{"op":"history","conversation_id":"{ID}",{rest}}}"#));
    assert_eq!(history(r#""before_seq":1,"after_seq":1"#), ("history", ErrorCode::InvalidField));
    assert_eq!(history(r#""limit":0"#), ("history", ErrorCode::InvalidField));
    assert_eq!(history(r#""limit":100000"#), ("history", ErrorCode::InvalidField));
}

#[test]
fn a_refusal_repeats_what_the_request_carried() {
    let error = parse(r#"{"op":"send","ref":"r","temp_id":7}"#, &LIMITS).unwrap_err();
    assert_eq!(error.echo, Echo { reference: Some("\"r\"".into()), temp_id: Some("7".into()) });
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        let _ = parse(&text, &LIMITS);
    }

    #[test]
    fn what_is_encoded_is_parsed(text in any::<String>(), key in "[ -~]{1,40}", reference in any::<i64>()) {
        let frame = serde_json::json!({
            "op": "send", "conversationId": ID, "body": {"text": text}, "idempotency_key": key, "ref": reference,
        });
        match parse(&frame.to_string(), &FrameLimits { body: BodyLimits { max_bytes: 100_000, max_depth: 8 } }) {
            Ok(parsed) => {
                prop_assert_eq!(parsed.echo.reference.as_deref(), Some(&*reference.to_string()));
                let Operation::User(UserOperation::Command(command)) = parsed.operation else { panic!("not a send") };
                let Command { idempotency_key, action: Action::Send { body }, .. } = command;
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(body.as_str()).unwrap(), serde_json::json!({"text": text}));
                prop_assert_eq!(idempotency_key.as_deref(), Some(&*key));
            }
            Err(error) => prop_assert!(text.contains('\0') && error.code == ErrorCode::UnstorableText),
        }
    }
}
