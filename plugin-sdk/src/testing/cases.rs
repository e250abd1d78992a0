//! Case files in native tests.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arcyou_plugin_cases::{Case, CaseFile, Got, Mismatch, VerdictKind};
use serde_json::{Value, json};

use super::{Exported, edited, judge, message, try_plugin};
use crate::{Message, Outcome, Verdict};

/// Holds a plugin to the cases of a file, natively; `arcyou-gateway plugin test` does the same in the sandbox. The
/// file's format is that of the crate `arcyou_plugin_cases`. Needs the feature `cases`.
///
/// ```
/// # use arcyou_plugin_sdk::{Message, NoConfig, Plugin, Validate, Verdict};
/// # struct NoBots;
/// # impl Plugin for NoBots {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// # impl Validate for NoBots {
/// #     fn validate(&self, message: &Message) -> Verdict {
/// #         if message.sender_role() == "bot" { Verdict::reject("bots", "no bots here") } else { Verdict::accept() }
/// #     }
/// # }
/// # arcyou_plugin_sdk::export!(NoBots: validate);
/// // In a plugin's own tests: include_str!("../cases.toml")
/// arcyou_plugin_sdk::testing::check_cases::<NoBots>(r#"
/// [[case]]
/// name = "bots are refused"
/// sender_role = "bot"
/// body = { text = "beep" }
/// expect = { verdict = "reject", code = "bots" }
/// "#);
/// ```
///
/// # Panics
///
/// When the text is no case file, or a case does not hold; the message lists what differs in which.
pub fn check_cases<P: Exported>(text: &str) {
    let file = CaseFile::parse(text).unwrap_or_else(|error| panic!("the cases are not readable: {error}"));
    let check = |case: &Case| check_case::<P>(&file, case).err().map(|mismatch| mismatch.to_string());
    let mismatches: Vec<String> = file.cases().iter().filter_map(check).collect();
    assert!(
        mismatches.is_empty(),
        "{} of {} cases do not hold:\n{}",
        mismatches.len(),
        file.cases().len(),
        mismatches.join("\n")
    );
}

fn check_case<P: Exported>(file: &CaseFile, case: &Case) -> Result<(), Mismatch> {
    let plugin = try_plugin::<P>(file.config(case, &json!({}))).map_err(|error| Mismatch::unjudged(case, error))?;
    let message = sample(case);
    // As in the sandbox, a panic is an outcome like any other.
    let got = catch_unwind(AssertUnwindSafe(|| judge(&plugin, message)));
    case.compare(&got.map_or_else(|_| Got::new(VerdictKind::Fail), |verdict| words(&verdict)))
}

fn sample(case: &Case) -> Message {
    let mut sample = message(case.body());
    let given = [
        (case.sender_role(), &mut sample.sender_role),
        (case.sender_id(), &mut sample.sender_id),
        (case.conversation_id(), &mut sample.conversation_id),
    ];
    for (text, field) in given {
        text.into_iter().for_each(|text| text.clone_into(field));
    }
    sample.edits = case
        .edits()
        .map(|stands| edited(stands.body()).with_message_id(stands.message_id()).with_version(stands.version()));
    sample
}

/// A verdict in the words of a case file.
fn words(verdict: &Verdict) -> Got {
    let got = match verdict.outcome().clone() {
        Outcome::Accept => Got::new(VerdictKind::Accept),
        Outcome::Discard => Got::new(VerdictKind::Discard),
        Outcome::Hold(reason) => Got { reason: Some(reason), ..Got::new(VerdictKind::Hold) },
        Outcome::Replace(body) => match serde_json::from_str::<Value>(&body) {
            Ok(body @ Value::Object(_)) => Got { body: Some(body), ..Got::new(VerdictKind::Replace) },
            _ => Got::new(VerdictKind::Fail),
        },
        Outcome::Reject { code, reason, retry_after } => Got {
            code: Some(code),
            reason: Some(reason),
            retry_after_ms: retry_after.map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)),
            ..Got::new(VerdictKind::Reject)
        },
    };
    let annotations = verdict.annotations().iter().map(|note| (note.key.clone(), note.value.clone())).collect();
    Got { annotations, ..got }
}
