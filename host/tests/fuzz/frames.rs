//! Frames of clients, and the answers to them.

use std::collections::HashMap;

use arcyou_protocol::body::{Body, BodyLimits};
use arcyou_protocol::{Action, Command, Echo, ErrorCode, Failure, FrameLimits, Operation, UserOperation, parse};
use serde_json::value::RawValue;

use crate::damage::{Damaged, Sample, damaged};
use crate::fuzz;

const LIMITS: FrameLimits = FrameLimits { body: BodyLimits { max_bytes: 32 << 10, max_depth: 32 }, max_join_list: 500 };

const CONVERSATION: &str = r#""conversation_id":"6f9619ff-8b86-d011-b42d-00cf4fc964ff""#;
const FRAMES: &[&[&str]] = &[
    &[r#""op":"auth""#, r#""token":"eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl""#, r#""ref":1"#],
    &[r#""op":"ping""#, r#""ref":"p-1\n""#],
    &[r#""op":"join""#, CONVERSATION, r#""after_seq":41"#, r#""ref":-1.5e3"#],
    &[
        r#""op":"join""#,
        r#""conversationId":"{6F9619FF-8B86-D011-B42D-00CF4FC964FF}""#,
        r#""afterId":9007199254740993"#,
    ],
    &[r#""op":"leave""#, r#""conversation_id":"urn:uuid:6f9619ff-8b86-d011-b42d-00cf4fc964ff""#, r#""\u0072ef":"r""#],
    &[
        r#""op":"send""#,
        CONVERSATION,
        r#""body":{"text":"Hello 한 \ud83d\ude00!","n":[1,-0.0,1e300,null,true,{"deep":[[["x"]]]}]}"#,
        r#""temp_id":"t-1""#,
        r#""idempotency_key":"3f1c""#,
    ],
    &[r#""op":"send""#, CONVERSATION, r#""body":{"":18446744073709551616,"\u00e9":0.1}"#, r#""temp_id":7"#],
    &[r#""op":"edit""#, CONVERSATION, r#""message_id":12"#, r#""body":{"text":"x"}"#, r#""if_version":2"#],
    &[r#""op":"delete""#, CONVERSATION, r#""messageId":12.0"#, r#""idempotency_key":"k""#],
    &[r#""op":"react""#, CONVERSATION, r#""message_id":12"#, r#""reaction":"\u2764""#, r#""remove":true"#],
    &[r#""op":"ack""#, CONVERSATION, r#""last_read_id":1234"#],
    &[r#""op":"history""#, CONVERSATION, r#""before_seq":100"#, r#""limit":20"#, r#""unknown":{"a":[]}"#],
];

#[test]
fn any_frame_is_understood_or_refused() {
    let samples: Vec<Sample> = FRAMES.iter().map(|fields| Sample::object(fields.iter().copied())).collect();
    fuzz(file!(), "frames", 1, &damaged(), |frame: Damaged| answer(&frame.text(&samples)));
}

fn answer(text: &str) -> &'static str {
    match parse(text, &LIMITS) {
        Ok(frame) => {
            if let Operation::User(UserOperation::Command(Command {
                action: Action::Send { body, .. } | Action::Edit { body, .. },
                ..
            })) = &frame.operation
            {
                assert_eq!(Body::parse(body.as_str(), &LIMITS.body).as_ref(), Ok(body), "what is canonical stays so");
            }
            let op = frame.operation.op().value();
            check(&Failure::new(ErrorCode::Unavailable, "later"), op, &frame.echo);
            op
        }
        Err(error) => {
            check(&Failure::new(error.code, error.text), error.op, &error.echo);
            error.code.value()
        }
    }
}

/// The answer is JSON that says what it should, and repeats what it was given.
fn check(failure: &Failure, op: &str, echo: &Echo) {
    let reply = failure.encode(op, echo);
    let fields: HashMap<String, Box<RawValue>> = serde_json::from_str(&reply).unwrap();
    let field = |name: &str| fields.get(name).map(|raw| raw.get());
    let text = |name: &str| serde_json::from_str::<String>(field(name).unwrap()).unwrap();
    assert_eq!((text("op").as_str(), field("success")), (op, Some("false")));
    assert_eq!((text("code").as_str(), text("error")), (failure.code.value(), failure.text.clone()));
    assert_eq!((field("ref"), field("temp_id")), (echo.reference.as_deref(), echo.temp_id.as_deref()));
}
