//! Reads dead letters and waiting messages from the file, for the writer and for a reader beside a
//! running server.
//!
//! Nothing here writes.

use std::time::{Duration, UNIX_EPOCH};

use ipc_protocol::{Fingerprint, MessageId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::dead_letter::{DeadLetter, DeadLetterId, DeadReason};
use crate::message::Message;

/// The dead letters with ids greater than `after`, oldest first, no more than `count_max`.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    after: Option<DeadLetterId>,
    count_max: usize,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT seq, user, id, certificate, received_at, body, wants_reply, deliveries, reason,
                peer
         FROM messages WHERE is_dead AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(after.map_or(i64::MIN, seq_of))
    .bind(i64::try_from(count_max).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(letter).collect()
}

/// The messages that are not dead with numbers greater than `after`, oldest first, no more than
/// `count_max`: each with its number and how often it was delivered.
pub(super) async fn read_waiting(
    connection: &mut SqliteConnection,
    after: Option<u64>,
    count_max: usize,
) -> Result<Vec<(u64, Message, u32)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT seq, user, id, certificate, received_at, body, wants_reply, deliveries, reason,
                peer
         FROM messages WHERE NOT is_dead AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(after.map_or(i64::MIN, |after| i64::try_from(after).unwrap_or(i64::MAX)))
    .bind(i64::try_from(count_max).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((unsigned(row, 0)?, message(row)?, deliveries(row)?))).collect()
}

/// The greatest number of a message that is not dead.
pub(super) async fn newest(connection: &mut SqliteConnection) -> Result<Option<u64>, sqlx::Error> {
    let row = sqlx::query("SELECT max(seq) FROM messages WHERE NOT is_dead");
    let seq: Option<i64> = row.fetch_one(connection).await?.try_get(0)?;
    Ok(seq.and_then(|seq| u64::try_from(seq).ok()))
}

/// How many messages there are, including dead letters.
pub(super) async fn count_messages(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let row = sqlx::query("SELECT count(*) FROM messages").fetch_one(connection).await?;
    unsigned(&row, 0)
}

/// The number of a dead letter in the file.
pub(super) fn seq_of(id: DeadLetterId) -> i64 {
    i64::try_from(id.get()).unwrap_or(i64::MAX)
}

fn message(row: &SqliteRow) -> Result<Message, sqlx::Error> {
    let id: Vec<u8> = row.try_get(2)?;
    let id = id.try_into().map_err(|_| sqlx::Error::Decode("an id of another length".into()))?;
    let certificate: Option<Vec<u8>> = row.try_get(3)?;
    Ok(Message {
        id: MessageId::from_bytes(id),
        user: row.try_get::<String, _>(1)?.into(),
        certificate: certificate
            .and_then(|bytes| bytes.try_into().ok())
            .map(Fingerprint::from_bytes),
        peer: row.try_get::<Option<String>, _>(9)?.map(Into::into),
        received_at: UNIX_EPOCH + Duration::from_millis(unsigned(row, 4)?),
        body: row.try_get::<String, _>(5)?.into(),
        wants_reply: row.try_get(6)?,
    })
}

fn deliveries(row: &SqliteRow) -> Result<u32, sqlx::Error> {
    Ok(u32::try_from(unsigned(row, 7)?).unwrap_or(u32::MAX))
}

fn letter(row: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        id: DeadLetterId::new(unsigned(row, 0)?),
        message: message(row)?,
        deliveries: deliveries(row)?,
        reason: match row.try_get::<Option<String>, _>(8)? {
            None => DeadReason::MaxDeliveries,
            Some(reason) => DeadReason::Rejected(reason.into()),
        },
    })
}

fn unsigned(row: &SqliteRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}
