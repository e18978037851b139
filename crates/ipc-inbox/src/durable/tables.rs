//! The statements of the durable inbox, each for many rows at once: a statement costs more than a row does.
//!
//! Only the writer comes here, and nobody else writes the file: what it reads outside of a transaction holds until its next one.
//! Nothing here decides anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foldhash::quality::RandomState;
use ipc_protocol::{Fingerprint, MessageId};
use ipc_sqlite::{Database, Schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::Message;

/// What `inbox.db` holds.
pub(crate) const SCHEMA: Schema = Schema {
    what: "durable inbox",
    migrations: &[("inbox", include_str!("../../migrations/0001_inbox.sql"))],
    tables: &[
        ("messages", &["seq", "user", "id", "body", "deliveries", "is_dead"]),
        ("remembered", &["user", "id", "body_hash", "accepted_at"]),
        ("replies", &["user", "id", "body", "replied_at"]),
    ],
};

/// A user and a message's id.
pub(crate) type Key = (Arc<str>, MessageId);

/// What is known of ids that came before: the hashes of the bodies that came under them.
pub(crate) type KnownIds = HashMap<Key, BodyHash, RandomState>;

/// The first half of a body's SHA-256: it has to tell bodies apart across restarts, so it has no secret key.
pub(crate) type BodyHash = [u8; 16];

pub(crate) fn body_hash(body: &str) -> BodyHash {
    let digest: [u8; 32] = Sha256::digest(body).into();
    *digest.first_chunk().expect("32 bytes begin with 16")
}

/// What is in the file when it is opened.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// All messages, dead ones too, and the bytes of their bodies.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Those that wait to be handed out.
    pub(crate) waiting: u64,
    pub(crate) last_seq: i64,
    pub(crate) remembered: u64,
    pub(crate) reply_bytes: u64,
    /// Those of them that wait and were handed out as often as they may be: the process ended at their last try.
    pub(crate) spent: u64,
}

/// A message with its number in the file.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) seq: i64,
    pub(crate) message: Message,
    /// How often it has been handed out, this time included.
    pub(crate) deliveries: u32,
}

pub(crate) async fn contents(
    connection: &mut SqliteConnection,
    tries_max: u32,
) -> Result<Contents, sqlx::Error> {
    let row = sqlx::query(
        "SELECT count(*), coalesce(sum(octet_length(body)), 0), coalesce(sum(NOT is_dead), 0), coalesce(max(seq), 0),
                (SELECT coalesce(sum(octet_length(body)), 0) FROM replies), (SELECT count(*) FROM remembered),
                coalesce(sum(NOT is_dead AND deliveries >= ?), 0)
         FROM messages",
    )
    .bind(i64::from(tries_max))
    .fetch_one(connection)
    .await?;
    Ok(Contents {
        messages: unsigned(&row, 0)?,
        bytes: unsigned(&row, 1)?,
        waiting: unsigned(&row, 2)?,
        last_seq: row.try_get(3)?,
        reply_bytes: unsigned(&row, 4)?,
        remembered: unsigned(&row, 5)?,
        spent: unsigned(&row, 6)?,
    })
}

/// How many messages there are, dead ones too.
pub(crate) async fn count(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let row = sqlx::query("SELECT count(*) FROM messages").fetch_one(connection).await?;
    unsigned(&row, 0)
}

/// Marks messages as dead that were handed out `tries_max` times: those of these numbers, or all that wait.
pub(crate) async fn bury(
    connection: &mut SqliteConnection,
    seqs: Option<&[i64]>,
    tries_max: u32,
) -> Result<Vec<Key>, sqlx::Error> {
    let rows = sqlx::query(
        "UPDATE messages SET is_dead = 1
         WHERE NOT is_dead AND deliveries >= ?1 AND (?2 IS NULL OR seq IN (SELECT value FROM json_each(?2)))
         RETURNING user, id",
    )
    .bind(i64::from(tries_max))
    .bind(seqs.map(json))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get::<String, _>(0)?.into(), MessageId::from_bytes(array(row, 1)?))))
        .collect()
}

/// The hashes of the bodies that came under these keys, for those that did.
pub(crate) async fn remembered(database: &Database, keys: &[Key]) -> Result<KnownIds, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT asked.key, known.body_hash FROM json_each(?) AS asked
         JOIN remembered AS known ON known.user = asked.value ->> 0 AND known.id = unhex(asked.value ->> 1)",
    )
    .bind(json(&keys.iter().map(|(user, id)| (&**user, hex(id.as_bytes()))).collect::<Vec<_>>()))
    .fetch_all(database.writer())
    .await?;
    let mut known = KnownIds::default();
    for row in rows {
        let index =
            usize::try_from(row.try_get::<i64, _>(0)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
        if let Some(key) = keys.get(index) {
            known.insert(key.clone(), array(&row, 1)?);
        }
    }
    Ok(known)
}

/// A message that is to be stored.
#[derive(Debug)]
pub(crate) struct Accepted<'a> {
    pub(crate) seq: i64,
    pub(crate) message: &'a Message,
    pub(crate) body_hash: BodyHash,
    /// 1 if it is handed out as soon as it is stored.
    pub(crate) deliveries: u32,
}

/// What one commit changes.
#[derive(Debug, Default)]
pub(crate) struct Change<'a> {
    /// Messages that were dealt with, and go.
    pub(crate) settled: Vec<i64>,
    /// What requests were answered. The first answer stays.
    pub(crate) replies: Vec<(Key, Option<Arc<str>>)>,
    /// Messages to be stored, whose ids are remembered from now on.
    pub(crate) accepted: &'a [Accepted<'a>],
}

/// Rows of one statement at most. SQLite takes 32,766 parameters in one. <https://www.sqlite.org/limits.html>
const ROWS_MAX: usize = 1024;

/// Does all of it in one commit, or nothing: as where an id is remembered already.
pub(crate) async fn apply(
    database: &Database,
    change: &Change<'_>,
    now: SystemTime,
) -> Result<(), sqlx::Error> {
    let now = millis(now);
    let replies: Vec<_> = change
        .replies
        .iter()
        .map(|((user, id), body)| (&**user, hex(id.as_bytes()), body.as_deref(), now))
        .collect();
    let mut statements = sqlx::query(sqlx::AssertSqlSafe(apply_text(change.accepted.len())))
        .bind(json(&change.settled))
        .bind(json(&replies));
    // Each text that stays prepared takes memory: those of more than one statement's rows are many, and large.
    statements = statements.persistent(change.accepted.len() <= ROWS_MAX);
    // Ids first: where one is known, no body need be written.
    for rows in change.accepted.chunks(ROWS_MAX) {
        for Accepted { message, body_hash, .. } in rows {
            statements = statements
                .bind(Arc::clone(&message.user))
                .bind(&message.id.as_bytes()[..])
                .bind(&body_hash[..])
                .bind(now);
        }
        for _ in 0..(places(rows.len()) - rows.len()) * 4 {
            statements = statements.bind(None::<i64>);
        }
    }
    for rows in change.accepted.chunks(ROWS_MAX) {
        for Accepted { seq, message, deliveries, .. } in rows {
            statements = statements
                .bind(*seq)
                .bind(Arc::clone(&message.user))
                .bind(&message.id.as_bytes()[..])
                .bind(message.certificate.as_ref().map(|certificate| &certificate.as_bytes()[..]))
                .bind(millis(message.received_at))
                .bind(Arc::<str>::from(&*message.body))
                .bind(message.wants_reply)
                .bind(*deliveries);
        }
        for _ in 0..(places(rows.len()) - rows.len()) * 8 {
            statements = statements.bind(None::<i64>);
        }
    }
    database.write_at_once(statements).await
}

/// The statements that store so many messages. They hold nothing but places for parameters, whose names have no numbers: sqlx
/// counts them through all statements, and miscounts where a statement leaves numbers out. Values bound one by one cost a
/// third of what taking them out of JSON does.
fn apply_text(rows: usize) -> String {
    let mut text = String::from(
        "BEGIN IMMEDIATE;
         DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?));
         INSERT OR IGNORE INTO replies
             SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3 FROM json_each(?);",
    );
    let (whole, rest) = (rows / ROWS_MAX, rows % ROWS_MAX);
    let rest = (rest > 0).then(|| places(rest));
    for (table, row) in [("remembered", "(?, ?, ?, ?)"), ("messages", "(?, ?, ?, ?, ?, ?, ?, ?, 0)")] {
        for places in std::iter::repeat_n(ROWS_MAX, whole).chain(rest) {
            let values = vec![row; places].join(", ");
            text +=
                &format!("INSERT INTO {table} SELECT * FROM (VALUES {values}) WHERE column1 IS NOT NULL;");
        }
    }
    text + "COMMIT"
}

/// For how many rows there is a statement that takes so many: a power of two, or one and a half of one. Places left over hold
/// nothing. So that there are few different statements, and those of up to [`ROWS_MAX`] rows can stay prepared.
fn places(rows: usize) -> usize {
    let above = rows.next_power_of_two();
    let between = above / 4 * 3;
    if rows <= between { between } else { above }
}

/// Messages that were marked as handed out.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    /// Those that may be handed out, in order.
    pub(crate) ready: Vec<Stored>,
    /// Those that are dead now.
    pub(crate) dead: Vec<Key>,
}

/// All rows come as one, in JSON: sqlx hands each row over to another thread by itself, which costs more than the row does.
const TO_HAND_OUT: &str = "
    SELECT json_group_array(json_array(
               seq, user, hex(id), hex(certificate), received_at, iif(deliveries < ?, body, ''), wants_reply, deliveries))
    FROM (SELECT * FROM messages WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq)";

const MARK: &str = "
    BEGIN IMMEDIATE;
    UPDATE messages SET is_dead = deliveries >= ?, deliveries = min(deliveries + 1, ?)
    WHERE seq IN (SELECT value FROM json_each(?));
    COMMIT";

/// Reads those of these messages that are there, and marks them as handed out once more. Those that were handed out
/// `tries_max` times before are marked as dead instead. They are marked when all of them were read: where that fails, nobody
/// gets them, and it was no try.
pub(crate) async fn hand_out(
    database: &Database,
    seqs: &[i64],
    tries_max: u32,
) -> Result<Marked, sqlx::Error> {
    /// A boolean is a number.
    #[derive(Deserialize)]
    struct Row(i64, String, String, String, u64, String, u8, u32);
    let (tries, seqs) = (i64::from(tries_max), json(&seqs));
    let rows = sqlx::query_scalar::<_, String>(TO_HAND_OUT).bind(tries).bind(seqs.clone());
    let rows = rows.fetch_one(database.writer()).await?;
    let unreadable = |what: &str| sqlx::Error::Decode(format!("a message with another {what}").into());
    let rows: Vec<Row> = serde_json::from_str(&rows).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let mut marked = Marked::default();
    for Row(seq, user, id, certificate, received_at, body, wants_reply, deliveries) in rows {
        let id = MessageId::from_bytes(unhex(&id).ok_or_else(|| unreadable("id"))?);
        let user: Arc<str> = user.into();
        if deliveries >= tries_max {
            marked.dead.push((user, id));
            continue;
        }
        let message = Message {
            id,
            user,
            certificate: unhex(&certificate).map(Fingerprint::from_bytes),
            received_at: UNIX_EPOCH + Duration::from_millis(received_at),
            body: body.into(),
            wants_reply: wants_reply != 0,
        };
        marked.ready.push(Stored { seq, message, deliveries: deliveries + 1 });
    }
    database.write_at_once(sqlx::query(MARK).bind(tries).bind(tries).bind(seqs)).await?;
    Ok(marked)
}

/// A message that waits: its number, how long its body is, and how often it was handed out.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: i64,
    pub(crate) bytes: u64,
    pub(crate) deliveries: u32,
}

/// The next messages behind `after`.
pub(crate) async fn next(database: &Database, after: i64, count: usize) -> Result<Vec<Waiting>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT seq, octet_length(body), deliveries FROM messages
         WHERE seq > ? AND NOT is_dead ORDER BY seq LIMIT ?",
    )
    .bind(after)
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .fetch_all(database.writer())
    .await?;
    rows.iter()
        .map(|row| {
            let deliveries = u32::try_from(unsigned(row, 2)?).unwrap_or(u32::MAX);
            Ok(Waiting { seq: row.try_get(0)?, bytes: unsigned(row, 1)?, deliveries })
        })
        .collect()
}

/// Takes back that messages were marked as handed out, which they were not.
pub(crate) async fn take_back(connection: &mut SqliteConnection, seqs: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE messages SET deliveries = max(deliveries - 1, 0) WHERE seq IN (SELECT value FROM json_each(?))",
    )
    .bind(json(&seqs))
    .execute(connection)
    .await?;
    Ok(())
}

/// What is known of a request's answer.
#[derive(Debug)]
pub(crate) enum Answered {
    /// It was answered, or let go.
    Yes(Option<Arc<str>>),
    /// Its message is still to be dealt with.
    NotYet,
    /// Nothing is known.
    Unknown,
}

pub(crate) async fn answered(connection: &mut SqliteConnection, key: &Key) -> Result<Answered, sqlx::Error> {
    let (user, id) = (&*key.0, &key.1.as_bytes()[..]);
    let reply = sqlx::query_scalar::<_, Option<String>>("SELECT body FROM replies WHERE user = ? AND id = ?")
        .bind(user)
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(body) = reply {
        return Ok(Answered::Yes(body.map(Into::into)));
    }
    // There is no index for this: it is asked after a restart only, for requests that are sent again.
    let is_pending = sqlx::query_scalar::<_, bool>(
        "SELECT EXISTS (SELECT 1 FROM messages WHERE user = ? AND id = ? AND wants_reply AND NOT is_dead)",
    )
    .bind(user)
    .bind(id)
    .fetch_one(connection)
    .await?;
    Ok(if is_pending { Answered::NotYet } else { Answered::Unknown })
}

/// Forgets ids that were accepted before a time, the oldest first, no more than `count`. Returns how many.
pub(crate) async fn forget_ids(
    connection: &mut SqliteConnection,
    accepted_before: SystemTime,
    count: u64,
) -> Result<u64, sqlx::Error> {
    let forgotten = sqlx::query(
        "DELETE FROM remembered WHERE (user, id) IN (
             SELECT user, id FROM remembered WHERE accepted_at < ? ORDER BY accepted_at LIMIT ?)",
    )
    .bind(millis(accepted_before))
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(forgotten.rows_affected())
}

/// Forgets replies that were given before a time, and the oldest while there are more bytes of them than `bytes_max`. Returns
/// the bytes that are left.
pub(crate) async fn forget_replies(
    connection: &mut SqliteConnection,
    replied_before: SystemTime,
    bytes_max: u64,
) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "DELETE FROM replies WHERE replied_at < ?1 OR (user, id) IN (
             SELECT user, id FROM (
                 SELECT user, id, sum(octet_length(coalesce(body, ''))) OVER (ORDER BY replied_at DESC, user, id) AS so_far
                 FROM replies)
             WHERE so_far > ?2)",
    )
    .bind(millis(replied_before))
    .bind(i64::try_from(bytes_max).unwrap_or(i64::MAX))
    .execute(&mut *connection)
    .await?;
    let row =
        sqlx::query("SELECT coalesce(sum(octet_length(body)), 0) FROM replies").fetch_one(connection).await?;
    unsigned(&row, 0)
}

/// The messages behind `after` that were handed out too often, oldest first.
pub(crate) async fn dead(
    connection: &mut SqliteConnection,
    after: i64,
    count: u32,
) -> Result<Vec<Stored>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT seq, user, id, certificate, received_at, body, wants_reply, deliveries FROM messages
         WHERE is_dead AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(after)
    .bind(i64::from(count))
    .fetch_all(connection)
    .await?;
    rows.iter().map(stored).collect()
}

/// Lets dead messages wait again, as if never handed out. Returns those that were dead, with the bytes of their bodies.
pub(crate) async fn revive(
    connection: &mut SqliteConnection,
    seqs: &[i64],
) -> Result<Vec<(i64, u64)>, sqlx::Error> {
    let rows = sqlx::query(
        "UPDATE messages SET is_dead = 0, deliveries = 0
         WHERE is_dead AND seq IN (SELECT value FROM json_each(?)) RETURNING seq, octet_length(body)",
    )
    .bind(json(&seqs))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, unsigned(row, 1)?))).collect()
}

/// Removes dead messages. Returns how long the body of each was.
pub(crate) async fn discard(
    connection: &mut SqliteConnection,
    seqs: &[i64],
) -> Result<Vec<u64>, sqlx::Error> {
    let rows = sqlx::query(
        "DELETE FROM messages
         WHERE is_dead AND seq IN (SELECT value FROM json_each(?)) RETURNING octet_length(body)",
    )
    .bind(json(&seqs))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| unsigned(row, 0)).collect()
}

/// What a message is remembered by.
pub(crate) fn key_of(message: &Message) -> Key {
    (Arc::clone(&message.user), message.id)
}

fn stored(row: &SqliteRow) -> Result<Stored, sqlx::Error> {
    let certificate: Option<Vec<u8>> = row.try_get(3)?;
    let received_at = Duration::from_millis(unsigned(row, 4)?);
    Ok(Stored {
        seq: row.try_get(0)?,
        message: Message {
            id: MessageId::from_bytes(array(row, 2)?),
            user: row.try_get::<String, _>(1)?.into(),
            certificate: certificate.and_then(|bytes| bytes.try_into().ok()).map(Fingerprint::from_bytes),
            received_at: UNIX_EPOCH + received_at,
            body: row.try_get::<String, _>(5)?.into(),
            wants_reply: row.try_get(6)?,
        },
        deliveries: u32::try_from(row.try_get::<i64, _>(7)?).unwrap_or(u32::MAX),
    })
}

fn unsigned(row: &SqliteRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

fn array<const N: usize>(row: &SqliteRow, column: usize) -> Result<[u8; N], sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(column)?;
    bytes.try_into().map_err(|_| sqlx::Error::Decode("a column of another length".into()))
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn json<T: Serialize + ?Sized>(rows: &T) -> String {
    serde_json::to_string(rows).expect("numbers, strings and lists are always JSON")
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).collect()
}

/// Bytes from hex digits of either case; `None` for another number of them.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_few_kinds_of_statements_each_with_places_enough() {
        let kinds: std::collections::BTreeSet<usize> = (1..=ROWS_MAX).map(places).collect();
        assert!(kinds.len() <= 20, "sqlx keeps 100 statements prepared: {kinds:?}");
        for rows in 1..=ROWS_MAX {
            assert!((rows..=rows * 3 / 2).contains(&places(rows)), "{rows}: {}", places(rows));
        }
        assert_eq!(apply_text(2 * ROWS_MAX + 5).matches("INSERT INTO remembered").count(), 3);
    }

    #[test]
    fn bytes_are_written_as_sqlite_reads_them() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(hex(&[]), "");
        assert_eq!(unhex("000fA5ff"), Some([0x00, 0x0f, 0xa5, 0xff]));
        for none in ["", "000fa5f", "000fa5ff00", "000fa5fg"] {
            assert_eq!(unhex::<4>(none), None);
        }
    }
}
