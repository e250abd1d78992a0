//! What the functions that store answer: rows, or for a message alone the columns as texts.

use arcyou_protocol::{Action, Seq, StoredChange, StoredIds};
use tokio_postgres::Row;

use super::StoreError;
use super::change::{Answered, Attempted, ChangeRefusal, Committed, NewChange, StoredEvent};

/// The columns of one answer.
pub(super) struct Answer {
    status: String,
    id: Option<i64>,
    seq: Option<Seq>,
    created_at: Option<String>,
    /// Of changes of messages.
    version: Option<i32>,
    /// Of reactions.
    count: Option<i32>,
    outbox_id: Option<i64>,
    payload: Option<String>,
}

impl Answer {
    /// Reads the answer to `change` from a row of `store_messages` or `store_changes`.
    pub(super) fn of_row(row: &Row, change: &NewChange) -> Result<Self, StoreError> {
        // A batch of messages alone has no columns for these.
        let (version, count) =
            if change.is_message() { (None, None) } else { (row.try_get("version")?, row.try_get("count")?) };
        Ok(Self {
            status: row.try_get("status")?,
            id: row.try_get("id")?,
            seq: row.try_get("seq")?,
            created_at: row.try_get("created_at")?,
            version,
            count,
            outbox_id: row.try_get("outbox_id")?,
            payload: row.try_get("payload")?,
        })
    }

    /// Reads what `store_message` answers.
    pub(super) fn of_texts(texts: Vec<Option<String>>) -> Result<Self, StoreError> {
        let not_understood = || StoreError::NotUnderstood("a message's answer".to_owned());
        let number =
            |text: Option<String>| text.map(|text| text.parse::<i64>()).transpose().map_err(|_| not_understood());
        let columns: [Option<String>; 6] = texts.try_into().map_err(|_| not_understood())?;
        let [status, id, seq, created_at, outbox_id, payload] = columns;
        Ok(Self {
            status: status.ok_or_else(not_understood)?,
            id: number(id)?,
            seq: number(seq)?,
            created_at,
            version: None,
            count: None,
            outbox_id: number(outbox_id)?,
            payload,
        })
    }

    /// What became of `change`.
    pub(super) fn understood(self, change: &NewChange) -> Result<Answered, StoreError> {
        let Self { status, id, seq, created_at, version, count, outbox_id, payload } = self;
        let event = outbox_id.zip(seq).zip(payload).map(|((id, seq), payload)| StoredEvent {
            id,
            kind: change.kind(),
            conversation: change.conversation,
            seq,
            payload,
        });
        let done = match change.action {
            Action::Send { .. } => {
                Done::Message(id.zip(seq).zip(created_at).map(|((id, seq), created_at)| StoredIds {
                    id,
                    seq,
                    created_at,
                }))
            }
            Action::Edit { .. } | Action::Delete { .. } => {
                Done::Change(seq.zip(version).zip(created_at).map(|((seq, version), at)| StoredChange {
                    seq,
                    version,
                    at,
                }))
            }
            Action::React { .. } => Done::Reaction { count: count.unwrap_or(0), seq },
        };
        let attempted = outcome(&status, id, version, done).ok_or_else(|| StoreError::unknown_status(&status))?;
        Ok(Answered { attempted, event })
    }
}

/// What a row says beside its status.
enum Done {
    Message(Option<StoredIds>),
    Change(Option<StoredChange>),
    Reaction { count: i32, seq: Option<Seq> },
}

/// What a status of the functions that store means; none if it is unknown, or contradicts what stands beside it.
fn outcome(status: &str, id: Option<i64>, version: Option<i32>, done: Done) -> Option<Attempted> {
    let repeated = status.ends_with(" before");
    Some(Attempted::Committed(match (status, done) {
        ("stored" | "stored before", Done::Message(ids)) => Committed::Stored { ids: ids?, repeated },
        ("stored" | "stored before", Done::Change(change)) => Committed::Changed { change: change?, repeated },
        ("stored" | "stored before", Done::Reaction { count, seq }) => Committed::Reacted { count, seq, repeated },
        ("held" | "held before", _) => Committed::Held { id: id?, repeated },
        ("forbidden", _) => Committed::Forbidden,
        ("unknown message", _) => Committed::Refused(ChangeRefusal::UnknownMessage),
        ("deleted message", _) => Committed::Refused(ChangeRefusal::Deleted),
        ("not author", _) => Committed::Refused(ChangeRefusal::NotAuthor),
        ("too late", _) => Committed::Refused(ChangeRefusal::TooLate),
        ("version conflict", _) => Committed::Refused(ChangeRefusal::VersionConflict(version?)),
        ("other message", _) => Committed::Refused(ChangeRefusal::OtherMessage),
        ("read only", _) => Committed::Refused(ChangeRefusal::ReadOnly),
        ("blocked", _) => Committed::Refused(ChangeRefusal::Blocked),
        ("too many reactions", _) => Committed::Refused(ChangeRefusal::TooManyReactions),
        ("busy", _) => return Some(Attempted::Busy),
        _ => return None,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_answer_are_not_taken_for_one() {
        let texts = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>();
        let read = |columns: &[&str]| Answer::of_texts(texts(columns));
        assert_eq!(read(&["stored", "7", "2", "now", "9", "{}"]).unwrap().seq, Some(2));
        for columns in [&["stored"][..], &["stored", "x", "2", "now", "9", "{}"]] {
            assert!(matches!(read(columns), Err(StoreError::NotUnderstood(_))));
        }
        assert!(matches!(Answer::of_texts(vec![None; 6]), Err(StoreError::NotUnderstood(_))));
    }

    #[test]
    fn an_unknown_status_is_not_taken_for_another() {
        let ids = || Some(StoredIds { id: 1, seq: 1, created_at: String::new() });
        let message = |status, ids| outcome(status, None, None, Done::Message(ids));
        assert_eq!(message("forbidden", None), Some(Attempted::Committed(Committed::Forbidden)));
        assert_eq!(message("busy", None), Some(Attempted::Busy));
        for (status, ids) in
            [("edited", None), ("edited", ids()), ("", None), ("stored", None), ("stored before", None), ("held", None)]
        {
            assert_eq!(message(status, ids), None, "{status}");
        }
        let held = Committed::Held { id: 7, repeated: true };
        assert_eq!(outcome("held before", Some(7), None, Done::Change(None)), Some(Attempted::Committed(held)));
        let conflict = Committed::Refused(ChangeRefusal::VersionConflict(4));
        let found = outcome("version conflict", Some(7), Some(4), Done::Change(None));
        assert_eq!(found, Some(Attempted::Committed(conflict)));
        assert_eq!(outcome("version conflict", Some(7), None, Done::Change(None)), None);
        assert_eq!(outcome("stored", Some(7), Some(4), Done::Change(None)), None);
        let never = Committed::Reacted { count: 0, seq: None, repeated: true };
        let found = outcome("stored before", Some(7), Some(4), Done::Reaction { count: 0, seq: None });
        assert_eq!(found, Some(Attempted::Committed(never)));
    }
}
