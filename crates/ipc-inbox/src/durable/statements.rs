//! The SQL statements of the durable inbox, each prepared once and run on the writer's thread.
//!
//! Only the writer calls them, and nobody else writes the file: a read outside of a transaction
//! holds until the writer's next transaction. Nothing here decides anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foldhash::quality::RandomState;
use ipc_protocol::{Fingerprint, MessageId};
use ipc_sqlite::Schema;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Result, Row, params};
use sha2::{Digest, Sha256};

use super::user_ids::IdsOfEach;
use crate::backend::NoReply;
use crate::message::Message;
use crate::replies::Reply;

/// What `inbox.db` holds.
pub(super) const SCHEMA: Schema = Schema {
    what: "durable inbox",
    migrations: &[
        ("inbox", include_str!("../../migrations/0001_inbox.sql")),
        ("reasons", include_str!("../../migrations/0002_reasons.sql")),
        ("peers", include_str!("../../migrations/0003_peers.sql")),
        ("declined", include_str!("../../migrations/0004_declined.sql")),
    ],
    tables: &[
        ("messages", &["seq", "user", "id", "body", "deliveries", "is_dead", "reason", "peer"]),
        ("remembered", &["user", "id", "body_hash", "accepted_at"]),
        ("replies", &["user", "id", "body", "replied_at", "reason"]),
    ],
};

/// A user and a message's id.
pub(super) type Key = (Arc<str>, MessageId);

/// The ids that came before, with the hashes of their bodies.
pub(super) type KnownIds = HashMap<Key, BodyHash, RandomState>;

/// The first half of a body's SHA-256. It must compare bodies across restarts, so it has no secret
/// key.
pub(super) type BodyHash = [u8; 16];

pub(super) fn body_hash(body: &str) -> BodyHash {
    let digest: [u8; 32] = Sha256::digest(body).into();
    *digest.first_chunk().expect("32 bytes begin with 16")
}

/// The key under which a message is remembered.
pub(super) fn key_of(message: &Message) -> Key {
    (Arc::clone(&message.user), message.id)
}

/// What the file holds when it is opened.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// All messages, including dead letters, and the total length of their bodies.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The messages that wait to be delivered.
    pub(super) waiting: u64,
    pub(super) last_seq: i64,
    pub(super) reply_bytes: u64,
    /// The messages that wait and were delivered as often as allowed: the process ended during
    /// their last delivery.
    pub(super) exhausted: u64,
}

pub(super) fn contents(connection: &Connection, max_deliveries: u32) -> Result<Contents> {
    let text = "SELECT count(*), coalesce(sum(octet_length(body)), 0), coalesce(sum(NOT is_dead), 0), coalesce(max(seq), 0),
                       (SELECT coalesce(sum(octet_length(coalesce(body, reason))), 0) FROM replies),
                       coalesce(sum(NOT is_dead AND deliveries >= ?), 0)
                FROM messages";
    connection.query_row(text, [max_deliveries], |row| {
        Ok(Contents {
            messages: unsigned(row, 0)?,
            bytes: unsigned(row, 1)?,
            waiting: unsigned(row, 2)?,
            last_seq: row.get(3)?,
            reply_bytes: unsigned(row, 4)?,
            exhausted: unsigned(row, 5)?,
        })
    })
}

/// How many ids of each user are remembered.
pub(super) fn ids_of_each(connection: &Connection) -> Result<IdsOfEach> {
    let mut counts = connection.prepare("SELECT user, count(*) FROM remembered GROUP BY user")?;
    let counts = counts.query_map((), |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
    counts.collect()
}

/// The requests that still wait for a reply.
pub(super) fn open_requests(connection: &Connection) -> Result<Vec<Key>> {
    let mut users = LastText::default();
    let mut requests =
        connection.prepare("SELECT user, id FROM messages WHERE wants_reply AND NOT is_dead")?;
    let requests = requests.query_map((), |row| key(row, &mut users))?;
    requests.collect()
}

/// Marks messages as dead that were delivered `max_deliveries` times: those with these numbers, or
/// all that wait.
pub(super) fn bury(
    connection: &Connection,
    seqs: Option<&[i64]>,
    max_deliveries: u32,
) -> Result<Vec<Key>> {
    let mut users = LastText::default();
    let mut text =
        "UPDATE messages SET is_dead = 1 WHERE NOT is_dead AND deliveries >= ?1".to_owned();
    let Some(seqs) = seqs else {
        let mut all = connection.prepare(&(text + " RETURNING user, id"))?;
        let buried = all.query_map([max_deliveries], |row| key(row, &mut users))?;
        return buried.collect();
    };
    text += " AND seq = ?2 RETURNING user, id";
    let mut one = connection.prepare_cached(&text)?;
    let buried = seqs.iter().map(|seq| {
        one.query_row(params![max_deliveries, seq], |row| key(row, &mut users)).optional()
    });
    buried.filter_map(Result::transpose).collect()
}

/// Marks a rejected message as dead. Returns its key, if it exists.
pub(super) fn reject(connection: &Connection, seq: i64, reason: &str) -> Result<Option<Key>> {
    let mut one = connection.prepare_cached(
        "UPDATE messages SET is_dead = 1, reason = ? WHERE seq = ? RETURNING user, id",
    )?;
    one.query_row(params![reason, seq], |row| key(row, &mut LastText::default())).optional()
}

/// The hashes of the bodies for these keys, for every key that is remembered.
pub(super) fn remembered(
    connection: &Connection,
    keys: impl Iterator<Item = Key>,
) -> Result<KnownIds> {
    let mut one =
        connection.prepare_cached("SELECT body_hash FROM remembered WHERE user = ? AND id = ?")?;
    let mut known = KnownIds::default();
    for (user, id) in keys {
        let hash = one.query_row(params![&*user, id.as_bytes()], |row| row.get::<_, BodyHash>(0));
        if let Some(hash) = hash.optional()? {
            known.insert((user, id), hash);
        }
    }
    Ok(known)
}

/// A message to store.
#[derive(Debug)]
pub(super) struct Accepted<'a> {
    pub(super) seq: i64,
    pub(super) message: &'a Message,
    pub(super) body_hash: BodyHash,
    /// 1 if the message is prefetched, otherwise 0.
    pub(super) deliveries: u32,
}

/// Remembers the ids of messages. Fails if one [is known](is_known) already.
pub(super) fn remember(
    connection: &Connection,
    accepted: &[Accepted<'_>],
    now: SystemTime,
) -> Result<()> {
    if accepted.is_empty() {
        return Ok(());
    }
    let now = millis(now);
    let mut remember = connection.prepare_cached("INSERT INTO remembered VALUES (?, ?, ?, ?)")?;
    for Accepted { message, body_hash, .. } in accepted {
        remember.execute(params![&*message.user, message.id.as_bytes(), body_hash, now])?;
    }
    Ok(())
}

/// Whether an error of [`remember`] says that an id was remembered already.
pub(super) fn is_known(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

pub(super) fn store(connection: &Connection, accepted: &[Accepted<'_>]) -> Result<()> {
    if accepted.is_empty() {
        return Ok(());
    }
    let mut add = connection
        .prepare_cached("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, ?)")?;
    for Accepted { seq, message, deliveries, .. } in accepted {
        add.execute(params![
            seq,
            &*message.user,
            message.id.as_bytes(),
            message.certificate.as_ref().map(Fingerprint::as_bytes),
            millis(message.received_at),
            &*message.body,
            message.wants_reply,
            deliveries,
            message.peer.as_deref(),
        ])?;
    }
    Ok(())
}

/// Removes messages, in the order of their numbers.
pub(super) fn remove(connection: &Connection, seqs: &[i64]) -> Result<()> {
    let mut range = connection.prepare_cached("DELETE FROM messages WHERE seq BETWEEN ? AND ?")?;
    runs(seqs).try_for_each(|(first, last)| range.execute([first, last]).map(drop))
}

/// Keeps the reply to a request, or the reason why there is none. The first one stays.
pub(super) fn keep_reply(
    connection: &Connection,
    key: &Key,
    reply: &Reply,
    now: SystemTime,
) -> Result<()> {
    let mut keep =
        connection.prepare_cached("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)")?;
    let reason = match reply {
        Err(NoReply::Declined(reason)) => Some(&**reason),
        _ => None,
    };
    let body = reply.as_deref().ok();
    keep.execute(params![&*key.0, key.1.as_bytes(), body, millis(now), reason]).map(drop)
}

/// A message with its number in the file.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) seq: i64,
    pub(super) message: Message,
    /// How often the message has been delivered, this delivery included.
    pub(super) deliveries: u32,
}

/// Messages that were read in order to be delivered.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// The numbers of all messages, in order.
    pub(super) seqs: Vec<i64>,
    /// The messages that may be delivered, in order.
    pub(super) ready: Vec<Stored>,
    /// The messages that are dead now.
    pub(super) dead: Vec<Key>,
}

const COLUMNS: &str =
    "seq, user, id, certificate, received_at, body, wants_reply, deliveries, peer";

/// Reads the next messages after `after` and marks them as delivered once more: no more than
/// `count`, and no more than `bytes_max` bytes of bodies, except that the first may be longer. A
/// message that was delivered before may have crashed its process. It is read alone, so that
/// another crash uses up no attempt of other messages.
pub(super) fn mark_next(
    connection: &Connection,
    after: i64,
    count: usize,
    bytes_max: u64,
    max_deliveries: u32,
) -> Result<Marked> {
    let text = format!(
        "SELECT {COLUMNS} FROM messages WHERE seq > ? AND NOT is_dead ORDER BY seq LIMIT ?"
    );
    let mut next = connection.prepare_cached(&text)?;
    let mut rows = next.query(params![after, i64::try_from(count).unwrap_or(i64::MAX)])?;
    let (mut marked, mut names, mut bytes) = (Marked::default(), Names::default(), 0_u64);
    while let Some(row) = rows.next()? {
        let goes_alone = row.get::<_, u32>(7)? > 0;
        bytes = bytes.saturating_add(row.get_ref(5)?.as_bytes()?.len() as u64);
        if !marked.seqs.is_empty() && (goes_alone || bytes > bytes_max) {
            break;
        }
        marked.read(row, max_deliveries, &mut names)?;
        if goes_alone {
            break;
        }
    }
    drop(rows);
    marked.mark(connection, max_deliveries)
}

/// Where the oldest waiting message is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oldest {
    None,
    /// The message with this number.
    Is(i64),
    /// The first after this number that is not dead.
    ComesAfter(i64),
}

/// When the oldest waiting message arrived.
pub(super) fn received_at(connection: &Connection, oldest: Oldest) -> Result<Option<SystemTime>> {
    let (text, seq) = match oldest {
        Oldest::None => return Ok(None),
        Oldest::Is(seq) => ("SELECT received_at FROM messages WHERE seq = ?", seq),
        Oldest::ComesAfter(seq) => (
            "SELECT received_at FROM messages WHERE seq > ? AND NOT is_dead ORDER BY seq LIMIT 1",
            seq,
        ),
    };
    let millis =
        connection.prepare_cached(text)?.query_row([seq], |row| unsigned(row, 0)).optional()?;
    Ok(millis.map(|millis| UNIX_EPOCH + Duration::from_millis(millis)))
}

/// [`mark_next`] for the messages with these numbers, in order, as far as they exist.
pub(super) fn mark_redelivered(
    connection: &Connection,
    seqs: &[i64],
    max_deliveries: u32,
) -> Result<Marked> {
    let mut one =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM messages WHERE seq = ?"))?;
    let (mut marked, mut names) = (Marked::default(), Names::default());
    for seq in seqs {
        if let Some(row) = one.query([seq])?.next()? {
            marked.read(row, max_deliveries, &mut names)?;
        }
    }
    marked.mark(connection, max_deliveries)
}

impl Marked {
    /// Adds a row. A message that was delivered `max_deliveries` times is not delivered again.
    fn read(&mut self, row: &Row<'_>, max_deliveries: u32, names: &mut Names) -> Result<()> {
        let (seq, deliveries) = (row.get(0)?, row.get::<_, u32>(7)?);
        let (user, id) = (names.user.of(row, 1)?, MessageId::from_bytes(row.get(2)?));
        self.seqs.push(seq);
        if deliveries >= max_deliveries {
            self.dead.push((user, id));
            return Ok(());
        }
        let message = Message {
            id,
            user,
            certificate: row.get::<_, Option<[u8; 32]>>(3)?.map(Fingerprint::from_bytes),
            peer: names.peer.of_nullable(row, 8)?,
            received_at: UNIX_EPOCH + Duration::from_millis(unsigned(row, 4)?),
            body: row.get_ref(5)?.as_str()?.into(),
            wants_reply: row.get(6)?,
        };
        self.ready.push(Stored { seq, message, deliveries: deliveries + 1 });
        Ok(())
    }

    /// Marks all messages once each of them was read. If reading one fails, none is delivered, and
    /// no attempt is counted.
    fn mark(self, connection: &Connection, max_deliveries: u32) -> Result<Self> {
        let mut range = connection.prepare_cached(
            "UPDATE messages SET is_dead = deliveries >= ?1, deliveries = min(deliveries + 1, ?1) WHERE seq BETWEEN ?2 AND ?3",
        )?;
        for (first, last) in runs(&self.seqs) {
            range.execute(params![max_deliveries, first, last])?;
        }
        Ok(self)
    }
}

/// Unmarks messages that were marked as delivered and were not.
pub(super) fn unmark(connection: &Connection, seqs: &[i64]) -> Result<()> {
    let mut range = connection.prepare_cached(
        "UPDATE messages SET deliveries = max(deliveries - 1, 0) WHERE seq BETWEEN ? AND ?",
    )?;
    runs(seqs).try_for_each(|(first, last)| range.execute([first, last]).map(drop))
}

/// The reply to a request, or the reason why the application gave none; `None` if the file knows of
/// neither.
pub(super) fn reply(connection: &Connection, key: &Key) -> Result<Option<Reply>> {
    let mut find =
        connection.prepare_cached("SELECT body, reason FROM replies WHERE user = ? AND id = ?")?;
    let reply = |row: &Row<'_>| {
        let no_reply = || match row.get(1)? {
            Some(reason) => Ok(Err(NoReply::Declined(reason))),
            None => Ok(Err(NoReply::NotGiven)),
        };
        row.get::<_, Option<Arc<str>>>(0)?.map_or_else(no_reply, |body| Ok(Ok(body)))
    };
    find.query_row(params![&*key.0, key.1.as_bytes()], reply).optional()
}

/// Forgets ids that were accepted before a time, oldest first, no more than `count`. Returns how
/// many of each user.
pub(super) fn forget_ids(
    connection: &Connection,
    accepted_before: SystemTime,
    count: u64,
) -> Result<IdsOfEach> {
    let mut forget = connection.prepare_cached(
        "DELETE FROM remembered WHERE (user, id) IN (
             SELECT user, id FROM remembered WHERE accepted_at < ? ORDER BY accepted_at LIMIT ?)
         RETURNING user",
    )?;
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let (mut users, mut ids) = (LastText::default(), IdsOfEach::default());
    let mut rows = forget.query(params![millis(accepted_before), count])?;
    while let Some(row) = rows.next()? {
        *ids.entry(users.of(row, 0)?).or_default() += 1;
    }
    Ok(ids)
}

/// Replies that were forgotten.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ForgottenReplies {
    pub(super) count: u64,
    /// The total length of their texts and reasons.
    pub(super) bytes: u64,
}

/// Forgets replies that were given before a time, and further ones until they are `bytes_over`
/// bytes fewer: oldest first, no more than `count`.
pub(super) fn forget_replies(
    connection: &Connection,
    replied_before: SystemTime,
    bytes_over: u64,
    count: u64,
) -> Result<ForgottenReplies> {
    let mut oldest = connection.prepare_cached(
        "SELECT user, id, coalesce(octet_length(coalesce(body, reason)), 0), replied_at FROM replies ORDER BY replied_at LIMIT ?",
    )?;
    let mut forget = connection.prepare_cached("DELETE FROM replies WHERE user = ? AND id = ?")?;
    let (before, mut users, mut due) = (millis(replied_before), LastText::default(), Vec::new());
    let mut forgotten = ForgottenReplies::default();
    let mut rows = oldest.query([i64::try_from(count).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(3)? >= before && forgotten.bytes >= bytes_over {
            break;
        }
        due.push(key(row, &mut users)?);
        forgotten.bytes += unsigned(row, 2)?;
    }
    drop(rows);
    for (user, id) in &due {
        forget.execute(params![&**user, id.as_bytes()])?;
    }
    forgotten.count = due.len() as u64;
    Ok(forgotten)
}

/// A dead letter that waits again.
#[derive(Debug)]
pub(super) struct Requeued {
    pub(super) seq: i64,
    /// The length of its body.
    pub(super) bytes: u64,
    /// The request, if its sender wants a reply.
    pub(super) request: Option<Key>,
}

/// Makes dead letters ordinary messages, as if never delivered. Returns those that were dead.
pub(super) fn requeue(connection: &Connection, seqs: &[i64]) -> Result<Vec<Requeued>> {
    let mut one = connection.prepare_cached(
        "UPDATE messages SET is_dead = 0, deliveries = 0, reason = NULL WHERE is_dead AND seq = ?
         RETURNING user, id, seq, octet_length(body), wants_reply",
    )?;
    let mut users = LastText::default();
    let mut requeue = |row: &Row<'_>| {
        let request = if row.get(4)? { Some(key(row, &mut users)?) } else { None };
        Ok(Requeued { seq: row.get(2)?, bytes: unsigned(row, 3)?, request })
    };
    let requeued = seqs.iter().map(|seq| one.query_row([seq], &mut requeue).optional());
    requeued.filter_map(Result::transpose).collect()
}

/// Removes dead letters. Returns the length of each body.
pub(super) fn discard(connection: &Connection, seqs: &[i64]) -> Result<Vec<u64>> {
    let mut one = connection.prepare_cached(
        "DELETE FROM messages WHERE is_dead AND seq = ? RETURNING octet_length(body)",
    )?;
    let discarded = seqs.iter().map(|seq| one.query_row([seq], |row| unsigned(row, 0)).optional());
    discarded.filter_map(Result::transpose).collect()
}

/// The text that a column had in the last row. The next row usually has the same, such as the user
/// of messages, and then shares it.
#[derive(Default)]
struct LastText(Option<Arc<str>>);

impl LastText {
    fn of(&mut self, row: &Row<'_>, column: usize) -> Result<Arc<str>> {
        let text = row.get_ref(column)?.as_str()?;
        match &self.0 {
            Some(last) if **last == *text => Ok(Arc::clone(last)),
            _ => Ok(Arc::clone(self.0.insert(text.into()))),
        }
    }

    /// The text, or `None` for NULL.
    fn of_nullable(&mut self, row: &Row<'_>, column: usize) -> Result<Option<Arc<str>>> {
        match row.get_ref(column)? {
            ValueRef::Null => Ok(None),
            _ => self.of(row, column).map(Some),
        }
    }
}

/// The names in the last row that was read in order to be delivered.
#[derive(Default)]
struct Names {
    user: LastText,
    peer: LastText,
}

/// The key in the first two columns.
fn key(row: &Row<'_>, users: &mut LastText) -> Result<Key> {
    Ok((users.of(row, 0)?, MessageId::from_bytes(row.get(1)?)))
}

/// The first and last number of each gapless run. The messages of a batch usually form one run, and
/// a statement costs more than a row.
fn runs(seqs: &[i64]) -> impl Iterator<Item = (i64, i64)> {
    seqs.chunk_by(|one, next| one.checked_add(1) == Some(*next))
        .filter_map(|run| Some((*run.first()?, *run.last()?)))
}

fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        SCHEMA.migrations.iter().for_each(|(_, sql)| connection.execute_batch(sql).unwrap());
        connection
    }

    fn message(number: u8, body: &str) -> Message {
        Message {
            id: MessageId::from_random([number; 16]),
            user: "u".into(),
            certificate: None,
            peer: None,
            received_at: UNIX_EPOCH,
            body: body.into(),
            wants_reply: false,
        }
    }

    #[test]
    fn numbers_that_follow_each_other_are_one_run() {
        let runs = |seqs: &[i64]| runs(seqs).collect::<Vec<_>>();
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[7]), [(7, 7)]);
        assert_eq!(runs(&[1, 2, 3, 5, 8, 9]), [(1, 3), (5, 5), (8, 9)]);
        assert_eq!(
            runs(&[3, 2, 2, 3]),
            [(3, 3), (2, 2), (2, 3)],
            "whatever their order, each and no other"
        );
        assert_eq!(runs(&[i64::MAX, i64::MIN]), [(i64::MAX, i64::MAX), (i64::MIN, i64::MIN)]);
    }

    #[test]
    fn the_oldest_replies_are_forgotten_until_there_are_few_enough() {
        let connection = connection();
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        let key = |number| ("u".into(), MessageId::from_random([number; 16]));
        for number in 1..=5 {
            let reply: Reply = match number {
                2 => Err(NoReply::NotGiven),
                3 => Err(NoReply::Declined("cause".into())),
                _ => Ok("12345".into()),
            };
            keep_reply(&connection, &key(number), &reply, at(number.into())).unwrap();
        }
        let forgotten = |count, bytes| ForgottenReplies { count, bytes };
        assert_eq!(contents(&connection, 9).unwrap().reply_bytes, 20, "reasons count too");
        assert_eq!(reply(&connection, &key(2)).unwrap(), Some(Err(NoReply::NotGiven)));
        let declined = Err(NoReply::Declined("cause".into()));
        assert_eq!(reply(&connection, &key(3)).unwrap(), Some(declined));
        assert_eq!(forget_replies(&connection, at(1), 0, 9).unwrap(), forgotten(0, 0));
        assert_eq!(
            forget_replies(&connection, at(3), 0, 9).unwrap(),
            forgotten(2, 5),
            "by their time"
        );
        assert_eq!(
            forget_replies(&connection, at(0), 6, 1).unwrap(),
            forgotten(1, 5),
            "no more than may be"
        );
        assert_eq!(
            forget_replies(&connection, at(0), 1, 9).unwrap(),
            forgotten(1, 5),
            "by their bytes"
        );
        assert_eq!(reply(&connection, &key(4)).unwrap(), None);
        assert_eq!(reply(&connection, &key(5)).unwrap(), Some(Ok("12345".into())));
    }

    #[test]
    fn messages_of_one_peer_that_are_read_together_share_its_name() {
        let connection = connection();
        let peers = [Some("a"), Some("a"), None, Some("a"), Some("b")];
        for (seq, peer) in (1_u8..).zip(peers) {
            let message = Message { peer: peer.map(Into::into), ..message(seq, "{}") };
            let accepted =
                Accepted { seq: seq.into(), message: &message, body_hash: [0; 16], deliveries: 0 };
            store(&connection, &[accepted]).unwrap();
        }
        let marked = mark_next(&connection, 0, 9, 99, 9).unwrap();
        let read: Vec<_> = marked.ready.iter().map(|one| one.message.peer.as_ref()).collect();
        assert_eq!(read.iter().map(|peer| peer.map(|peer| &**peer)).collect::<Vec<_>>(), peers);
        for same in [1, 3] {
            assert!(Arc::ptr_eq(read[0].unwrap(), read[same].unwrap()), "{same}");
        }
    }

    #[test]
    fn what_was_handed_out_before_is_read_alone_and_no_more_than_fits() {
        let connection = connection();
        for (seq, body, deliveries) in
            [(1, "123", 0), (2, "123", 0), (4, "123", 1), (5, "1234567", 0), (6, "1", 2)]
        {
            let message = message(u8::try_from(seq).unwrap(), body);
            let accepted = Accepted { seq, message: &message, body_hash: [0; 16], deliveries };
            store(&connection, &[accepted]).unwrap();
        }
        let next = |after, count, bytes| {
            let marked = mark_next(&connection, after, count, bytes, 2).unwrap();
            let ready =
                marked.ready.iter().map(|one| (one.seq, one.deliveries)).collect::<Vec<_>>();
            (marked.seqs, ready, marked.dead.len())
        };
        assert_eq!(next(0, 1, 99), (vec![1], vec![(1, 1)], 0));
        assert_eq!(next(1, 9, 99), (vec![2], vec![(2, 1)], 0), "the one behind it goes alone");
        assert_eq!(next(2, 9, 99), (vec![4], vec![(4, 2)], 0));
        assert_eq!(next(4, 9, 5), (vec![5], vec![(5, 1)], 0), "a first one however long");
        assert_eq!(next(5, 9, 99), (vec![6], vec![], 1), "it had its last try");
        assert_eq!(next(5, 9, 99), (vec![], vec![], 0));
        let again = mark_redelivered(&connection, &[2, 3, 4], 3).unwrap();
        assert_eq!(again.seqs, [2, 4]);
        assert_eq!(
            again.ready.iter().map(|one| (one.seq, one.deliveries)).collect::<Vec<_>>(),
            [(2, 2), (4, 3)]
        );
    }

    #[test]
    fn the_oldest_ids_are_forgotten_and_counted_for_each_user() {
        let connection = connection();
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        for (number, user) in [(1, "a"), (2, "b"), (3, "a"), (4, "a")] {
            let message = Message {
                id: MessageId::from_random([number; 16]),
                user: user.into(),
                certificate: None,
                peer: None,
                received_at: UNIX_EPOCH,
                body: "{}".into(),
                wants_reply: false,
            };
            let accepted =
                Accepted { seq: 1, message: &message, body_hash: [0; 16], deliveries: 0 };
            remember(&connection, &[accepted], at(number.into())).unwrap();
        }
        let counts = |of: &[(&str, u64)]| -> IdsOfEach {
            of.iter().map(|(user, ids)| ((*user).into(), *ids)).collect()
        };
        assert_eq!(ids_of_each(&connection).unwrap(), counts(&[("a", 3), ("b", 1)]));
        assert_eq!(forget_ids(&connection, at(1), 9).unwrap(), counts(&[]));
        assert_eq!(forget_ids(&connection, at(4), 2).unwrap(), counts(&[("a", 1), ("b", 1)]));
        assert_eq!(forget_ids(&connection, at(4), 9).unwrap(), counts(&[("a", 1)]));
        assert_eq!(ids_of_each(&connection).unwrap(), counts(&[("a", 1)]));
    }
}
