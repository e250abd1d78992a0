//! Everything that the database has of a user, page by page.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};
use uuid::Uuid;

use super::{MessagePlace, PageLimits, Param, Store, StoreError, user_sql};

/// Participations, held messages or audit rows of a page.
const PAGE_ROWS: i64 = 100;
/// Messages that a page walks, of whomever they are, and bytes of what it finds among them.
const WALKED: PageLimits = PageLimits { rows: 5000, bytes: 256 * 1024 };

/// What a line of an export is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exported {
    /// The user, as such.
    User,
    /// That the user participates in a conversation.
    Participation,
    /// That the user has blocked another one.
    Block,
    /// A message that the user wrote, or the place of one that was deleted.
    Message,
    /// A reaction that the user gave.
    Reaction,
    /// A message of the user that a plugin held.
    HeldMessage,
    /// What plugins and reviewers did to a message of the user.
    AuditRow,
}

/// Where an export has come to. Each section is paged by ids of its own; one more takes its place between two of them.
#[derive(Debug, Clone, Copy)]
enum Section {
    User,
    Participations(Option<Uuid>),
    Blocks(Option<Uuid>),
    Messages(MessagePlace),
    Held(i64),
    Audit(i64),
    End,
}

/// An export of a user. Between two pages it holds nothing of the database.
#[derive(Debug)]
pub struct Export {
    store: Store,
    user: Uuid,
    section: Section,
}

/// What a line is about, and its JSON object.
pub type ExportedLine = (Exported, String);

/// A page of an export.
#[derive(Debug, Default)]
pub struct ExportPage {
    /// JSON objects, each without a line break; perhaps none.
    pub lines: Vec<ExportedLine>,
}

impl Export {
    /// An export from its beginning.
    pub fn new(store: Store, user: Uuid) -> Self {
        Self { store, user, section: Section::User }
    }

    /// Reads the next page; none: that was all. After an error the same page is read again.
    pub async fn next_page(&mut self) -> Result<Option<ExportPage>, StoreError> {
        let (lines, next) = match self.section {
            Section::User => (self.user_line().await?, Section::Participations(None)),
            Section::Participations(after) => {
                let (lines, last) =
                    self.page(user_sql::EXPORT_PARTICIPATIONS, &after, Type::UUID, Exported::Participation).await?;
                (lines, last.map_or(Section::Blocks(None), |last| Section::Participations(Some(last))))
            }
            Section::Blocks(after) => {
                let (lines, last) = self.page(user_sql::EXPORT_BLOCKS, &after, Type::UUID, Exported::Block).await?;
                (lines, last.map_or(Section::Messages(MessagePlace::BEGIN), |last| Section::Blocks(Some(last))))
            }
            Section::Messages(after) => {
                let (lines, last) = self.messages(after).await?;
                (lines, last.map_or(Section::Held(0), Section::Messages))
            }
            Section::Held(after) => {
                let (lines, last) = self.page(user_sql::EXPORT_HELD, &after, Type::INT8, Exported::HeldMessage).await?;
                (lines, last.map_or(Section::Audit(0), Section::Held))
            }
            Section::Audit(after) => {
                let (lines, last) = self.page(user_sql::EXPORT_AUDIT, &after, Type::INT8, Exported::AuditRow).await?;
                (lines, last.map_or(Section::End, Section::Audit))
            }
            Section::End => return Ok(None),
        };
        self.section = next;
        Ok(Some(ExportPage { lines }))
    }

    async fn user_line(&self) -> Result<Vec<ExportedLine>, StoreError> {
        let rows = self.store.query(user_sql::EXPORT_USER, &[(&self.user, Type::UUID)]).await?;
        rows.iter().map(|row| Ok((Exported::User, row.try_get(0)?))).collect()
    }

    /// A page of one kind after this id, and its last id if there may be more.
    async fn page<Id>(
        &self,
        statement: &str,
        after: &(impl ToSql + Sync),
        id: Type,
        kind: Exported,
    ) -> Result<(Vec<ExportedLine>, Option<Id>), StoreError>
    where
        Id: for<'a> FromSql<'a>,
    {
        let parameters: [Param<'_>; 3] = [(&self.user, Type::UUID), (after, id), (&PAGE_ROWS, Type::INT8)];
        let rows = self.store.query(statement, &parameters).await?;
        let line = |row: &Row| -> Result<ExportedLine, StoreError> { Ok((kind, row.try_get(1)?)) };
        let lines = rows.iter().map(line).collect::<Result<_, StoreError>>()?;
        let last = rows.last().filter(|_| rows.len() as i64 == PAGE_ROWS);
        Ok((lines, last.map(|row| row.try_get(0)).transpose()?))
    }

    /// What the user wrote and gave, and where the walk stopped if there are more messages.
    async fn messages(&self, after: MessagePlace) -> Result<(Vec<ExportedLine>, Option<MessagePlace>), StoreError> {
        let (rows, bytes) = WALKED.as_int8();
        let parameters: [Param<'_>; 5] = [
            (&self.user, Type::UUID),
            (&after.conversation, Type::UUID),
            (&after.seq, Type::INT8),
            (&rows, Type::INT8),
            (&bytes, Type::INT8),
        ];
        let (mut lines, mut last) = (Vec::new(), None);
        for row in self.store.query(user_sql::READ_OF_USER, &parameters).await? {
            match (row.try_get::<_, Option<bool>>(2)?, row.try_get(3)?) {
                (Some(is_reaction), Some(json)) => {
                    lines.push((if is_reaction { Exported::Reaction } else { Exported::Message }, json));
                }
                _ => last = Some(MessagePlace { conversation: row.try_get(0)?, seq: row.try_get(1)? }),
            }
        }
        Ok((lines, last))
    }
}
