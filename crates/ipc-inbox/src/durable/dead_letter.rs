//! Dead letters as they are in the file: read by the writer, and beside a server that has the file.
//!
//! Nothing here writes.

use std::time::{Duration, UNIX_EPOCH};

use ipc_protocol::{Fingerprint, MessageId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::backend::Message;

/// A message that was handed out too often without being acknowledged.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// What [`DurableInbox::requeue`](crate::DurableInbox::requeue) knows it by.
    pub number: u64,
    /// Its message.
    pub message: Message,
    /// How often it was handed out.
    pub deliveries: u32,
}

/// The dead letters behind the one with that number, oldest first, no more than `count`.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    after: u64,
    count: u32,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT seq, user, id, certificate, received_at, body, wants_reply, deliveries FROM messages
         WHERE is_dead AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(seq_of(after))
    .bind(i64::from(count))
    .fetch_all(connection)
    .await?;
    rows.iter().map(letter).collect()
}

/// How many messages there are, dead ones too.
pub(super) async fn count_messages(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let row = sqlx::query("SELECT count(*) FROM messages").fetch_one(connection).await?;
    unsigned(&row, 0)
}

/// A letter's number as it is in the file.
pub(super) fn seq_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn letter(row: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    let id: Vec<u8> = row.try_get(2)?;
    let id = id.try_into().map_err(|_| sqlx::Error::Decode("an id of another length".into()))?;
    let certificate: Option<Vec<u8>> = row.try_get(3)?;
    Ok(DeadLetter {
        number: unsigned(row, 0)?,
        message: Message {
            id: MessageId::from_bytes(id),
            user: row.try_get::<String, _>(1)?.into(),
            certificate: certificate
                .and_then(|bytes| bytes.try_into().ok())
                .map(Fingerprint::from_bytes),
            received_at: UNIX_EPOCH + Duration::from_millis(unsigned(row, 4)?),
            body: row.try_get::<String, _>(5)?.into(),
            wants_reply: row.try_get(6)?,
        },
        deliveries: u32::try_from(unsigned(row, 7)?).unwrap_or(u32::MAX),
    })
}

fn unsigned(row: &SqliteRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}
