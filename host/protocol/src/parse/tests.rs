#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::body::BodyLimits;

const LIMITS: FrameLimits = FrameLimits { body: BodyLimits { max_bytes: 200, max_depth: 8 }, max_join_list: 3 };
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
            let target = JoinTarget { conversation, resume: None };
            assert_eq!(join, Operation::User(UserOperation::Join(target)));
        }
    }
    let frame = parse(
        &format!(r#"{{"op":"send","conversation_id":"{ID}","body":{{"text":"Hello!"}},"temp_id":"temp-123"}}"#),
        &LIMITS,
    )
    .unwrap();
    assert_eq!(frame.echo.temp_id.as_deref(), Some("\"temp-123\""));
    let Operation::User(UserOperation::Command(Command { action: Action::Send { body, .. }, .. })) = frame.operation
    else {
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

#[test]
fn what_a_reply_repeats_comes_back_as_it_was_written() {
    let long = "é".repeat(128);
    let escaped = format!(r#""{}""#, "\\u0041".repeat(42));
    for written in
        ["1e2", "12345678901234567890123", "-0", "1.50", "\"\"", "\"a\\\"b\"", &format!("\"{long}\""), &escaped]
    {
        for name in ["ref", "temp_id"] {
            let echo = parse(&format!(r#"{{"op":"ping","{name}": {written} }}"#), &LIMITS).unwrap().echo;
            let [repeated, other] =
                if name == "ref" { [echo.reference, echo.temp_id] } else { [echo.temp_id, echo.reference] };
            assert_eq!((repeated.as_deref(), other), (Some(written), None));
        }
    }
    for written in [&format!("\"{long}x\""), &"1".repeat(257), "true", "[1]", r#""\ud800""#] {
        assert_eq!(
            code(&format!(r#"{{"op":"ping","ref":{written}}}"#)),
            ("ping", ErrorCode::InvalidField),
            "{written}"
        );
    }
}

#[test]
fn a_whole_number_is_one_however_it_is_spelled() {
    let join = |after: &str| parse(&format!(r#"{{"op":"join","conversation_id":"{ID}",{after}}}"#), &LIMITS);
    let resume = |after: &str| match join(after).unwrap().operation {
        Operation::User(UserOperation::Join(target)) => target.resume,
        other => panic!("{other:?}"),
    };
    assert_eq!(resume(r#""after_seq":41.0"#), Some(ResumeFrom::Seq(41)));
    assert_eq!(resume(r#""afterId":4.1e1"#), Some(ResumeFrom::Id(41)));
    let ack = operation(&format!(r#"{{"op":"ack","conversation_id":"{ID}","last_read_id":7.0}}"#));
    let conversation = Uuid::parse_str(ID).unwrap();
    assert_eq!(ack, Operation::User(UserOperation::Ack { conversation, last_read_id: 7 }));
    let history = operation(&format!(r#"{{"op":"history","conversation_id":"{ID}","before_seq":9e0,"limit":1e1}}"#));
    let from = HistoryFrom::Before(9);
    assert_eq!(history, Operation::User(UserOperation::History { conversation, from, thread: None, limit: 10 }));
    for (after, text) in [
        (r#""after_seq":1.5"#, "after_seq must be a whole number of at most 63 bits"),
        (r#""after_seq":1e300"#, "after_seq must be a whole number of at most 63 bits"),
        (r#""after_id":"7""#, "after_id must be a whole number of at most 63 bits"),
        (r#""after_id":-1.0"#, "after_id must not be negative"),
    ] {
        let error = join(after).unwrap_err();
        assert_eq!((error.code, error.text.as_str()), (ErrorCode::InvalidField, text), "{after}");
    }
}

#[test]
fn a_refusal_is_in_words_of_our_own() {
    for (frame, text) in [
        (r#"{"op":"ping""#, "a frame must be JSON, but this one ends too early"),
        ("{\"op\"\n :,}", "a frame must be JSON, but this one is not at line 2, column 3"),
        (r#"{"op":7}"#, "op must be a string"),
        (r#"{"op":"auth","token":{}}"#, "token must be a string"),
        (r#"{"op":"auth","token":"\ud800"}"#, "token must be Unicode text, without half of a surrogate pair"),
        (r#"{"op":"leave","conversationId":7}"#, "conversation_id must be a string"),
    ] {
        assert_eq!(parse(frame, &LIMITS).unwrap_err().text, text, "{frame}");
    }
}

#[test]
fn a_join_takes_one_conversation_or_a_list() {
    let ids: Vec<Uuid> = (1..=4).map(Uuid::from_u128).collect();
    let [a, b, c, d] = [ids[0], ids[1], ids[2], ids[3]];
    let list = format!(
        r#"{{"op":"join","conversations":[{{"conversation_id":"{a}"}},{{"conversationId":"{b}","afterSeq":4.0,"x":1}},
            {{"conversation_id":"{c}","after_id":0}}]}}"#
    );
    let target = |conversation, resume| JoinTarget { conversation, resume };
    let targets = vec![target(a, None), target(b, Some(ResumeFrom::Seq(4))), target(c, Some(ResumeFrom::Id(0)))];
    assert_eq!(operation(&list), Operation::User(UserOperation::JoinList(targets)));
    let entry = |id: Uuid| format!(r#"{{"conversation_id":"{id}"}}"#);
    let four = [a, b, c, d].map(entry).join(",");
    for (fields, text) in [
        (r#""conversations":[]"#.to_owned(), "1 to 3 entries"),
        (r#""conversations":7"#.to_owned(), "1 to 3 entries"),
        (format!(r#""conversations":[{four}]"#), "1 to 3 entries"),
        (r#""conversations":[7]"#.to_owned(), "conversations[0] must be an object"),
        (format!(r#""conversations":[{},{{}}]"#, entry(a)), "conversations[1]: conversation_id is missing"),
        (r#""conversations":[{"conversation_id":"x"}]"#.to_owned(), "conversations[0]: conversation_id must be a UUID"),
        (format!(r#""conversations":[{{"conversation_id":"{a}","after_seq":-1}}]"#), "[0]: after_seq must not be"),
        (format!(r#""conversations":[{},{}]"#, entry(a), entry(a)), "a second time"),
        (format!(r#""conversations":[{}],"conversation_id":"{b}""#, entry(a)), "not both"),
        (format!(r#""conversations":[{}],"after_seq":1"#, entry(a)), "not both"),
    ] {
        let error = parse(&format!(r#"{{"op":"join","ref":1,{fields}}}"#), &LIMITS).unwrap_err();
        assert_eq!((error.op, error.code), ("join", ErrorCode::InvalidField), "{fields}");
        assert!(error.text.contains(text) && error.echo.reference.is_some(), "{fields}: {}", error.text);
    }
}

#[test]
fn a_change_names_its_message() {
    let conversation = Uuid::parse_str(ID).unwrap();
    let action = |op: &str, rest: &str| {
        let frame = format!(r#"{{"op":"{op}","conversation_id":"{ID}","idempotency_key":"k",{rest}}}"#);
        match parse(&frame, &LIMITS).map(|frame| frame.operation) {
            Ok(Operation::User(UserOperation::Command(Command { conversation: named, idempotency_key, action }))) => {
                assert_eq!((named, idempotency_key.is_some()), (conversation, op != "react"));
                Ok(action)
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err((error.code, error.text)),
        }
    };
    let body = Body::parse("{}", &LIMITS.body).unwrap();
    let send = Action::Send { body: body.clone(), reply_to: Some(4) };
    assert_eq!(action("send", r#""body":{},"replyTo":4"#), Ok(send));
    let edit = |if_version| Action::Edit { message_id: 4, body: body.clone(), if_version };
    assert_eq!(action("edit", r#""message_id":4,"body":{}"#), Ok(edit(None)));
    assert_eq!(action("edit", r#""messageId":4,"body":{},"if_version":2.0"#), Ok(edit(Some(2))));
    let delete = |if_version| Action::Delete { message_id: 4, if_version };
    assert_eq!(action("delete", r#""message_id":4"#), Ok(delete(None)));
    assert_eq!(action("delete", r#""message_id":4,"if_version":2"#), Ok(delete(Some(2))));
    let react = |remove| Action::React { message_id: 4, reaction: "+1".into(), remove };
    assert_eq!(action("react", r#""message_id":4,"reaction":"+1""#), Ok(react(false)));
    assert_eq!(action("react", r#""message_id":4,"reaction":"+1","remove":true"#), Ok(react(true)));
    for (op, rest, text) in [
        ("send", r#""body":{},"reply_to":"4""#, "reply_to must be a whole number"),
        ("edit", r#""body":{}"#, "message_id is missing"),
        ("edit", r#""message_id":4"#, "body is missing"),
        ("edit", r#""message_id":4,"body":{},"if_version":3000000000"#, "if_version must be a version"),
        ("delete", r#""message_id":-4"#, "message_id must not be negative"),
        ("delete", r#""message_id":4,"if_version":"2""#, "if_version must be a whole number"),
        ("react", r#""message_id":4"#, "reaction is missing"),
        ("react", r#""message_id":4,"reaction":"""#, "reaction must be 1 to 64 characters"),
        ("react", r#""message_id":4,"reaction":"a\u0000""#, "reaction must be 1 to 64 characters"),
        ("react", r#""message_id":4,"reaction":"two words""#, "reaction must be 1 to 64 characters"),
        ("react", r#""message_id":4,"reaction":"\u202ea""#, "reaction must be 1 to 64 characters"),
        ("react", r#""message_id":4,"reaction":"+1","remove":1"#, "remove must be true or false"),
    ] {
        let (_, found) = action(op, rest).unwrap_err();
        assert!(found.contains(text), "{op} {rest}: {found}");
    }
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
        let body = BodyLimits { max_bytes: 100_000, max_depth: 8 };
        match parse(&frame.to_string(), &FrameLimits { body, ..LIMITS }) {
            Ok(parsed) => {
                prop_assert_eq!(parsed.echo.reference.as_deref(), Some(&*reference.to_string()));
                let Operation::User(UserOperation::Command(command)) = parsed.operation else {
                    panic!("not a send")
                };
                let Command { idempotency_key, action: Action::Send { body, .. }, .. } = command else {
                    panic!("not a send")
                };
                let body: serde_json::Value = serde_json::from_str(body.as_str()).unwrap();
                prop_assert_eq!(body, serde_json::json!({"text": text}));
                prop_assert_eq!(idempotency_key.as_deref(), Some(&*key));
            }
            Err(error) => prop_assert!(text.contains('\0') && error.code == ErrorCode::UnstorableText),
        }
    }
}
