//! Reads the file of a durable inbox while a server has it open: lists its messages and its dead
//! letters, and copies it.
//!
//! The command line uses this beside a running server. Nothing here writes to the inbox.

use std::path::Path;

use ipc_sqlite::{Database, DatabaseError, Options, Schema};

use super::{dead_letter_rows, statements};
use crate::dead_letter::{DeadLetter, DeadLetterId};
use crate::message::Message;

/// The file of a durable inbox, opened for reading only. A server may have the file open.
#[derive(Debug)]
pub struct InboxReader {
    database: Database,
}

/// A message in the file of a durable inbox that is neither acknowledged nor a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitingMessage {
    /// Its number in the file. Messages that were accepted later have greater ones.
    pub number: u64,
    /// The message.
    pub message: Message,
    /// How often the server has taken it from the file. If it is not 0, the application may have
    /// it in hand.
    pub deliveries: u32,
}

impl InboxReader {
    /// Opens the file at `path`, which must exist.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, DatabaseError> {
        let database =
            ipc_sqlite::open_read_only(path.as_ref(), &statements::SCHEMA, &Options::new()).await?;
        Ok(InboxReader { database })
    }

    /// The dead letters with ids greater than `after` (`None`: all), oldest first, no more than
    /// `count_max`, as they are at this moment.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, DatabaseError> {
        let failed = |error| self.database.error(error);
        let mut reader = self.database.readers().acquire().await.map_err(failed)?;
        dead_letter_rows::read(&mut reader, after, count_max).await.map_err(failed)
    }

    /// The messages that are neither acknowledged nor dead letters, with numbers greater than
    /// `after` (`None`: all), oldest first, no more than `count_max`, as they are at this moment.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn waiting(
        &self,
        after: Option<u64>,
        count_max: usize,
    ) -> Result<Vec<WaitingMessage>, DatabaseError> {
        let failed = |error| self.database.error(error);
        let mut reader = self.database.readers().acquire().await.map_err(failed)?;
        let rows = dead_letter_rows::read_waiting(&mut reader, after, count_max).await;
        let waiting =
            |(number, message, deliveries)| WaitingMessage { number, message, deliveries };
        Ok(rows.map_err(failed)?.into_iter().map(waiting).collect())
    }

    /// The greatest number of a message that is neither acknowledged nor a dead letter. A server
    /// that opens the file goes on from the greatest number that is there, so numbers may come
    /// again.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn newest(&self) -> Result<Option<u64>, DatabaseError> {
        let failed = |error| self.database.error(error);
        let mut reader = self.database.readers().acquire().await.map_err(failed)?;
        dead_letter_rows::newest(&mut reader).await.map_err(failed)
    }

    /// How many messages the file has at this moment: waiting, leased, and dead.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn messages(&self) -> Result<u64, DatabaseError> {
        let failed = |error| self.database.error(error);
        let mut reader = self.database.readers().acquire().await.map_err(failed)?;
        dead_letter_rows::count_messages(&mut reader).await.map_err(failed)
    }
}

/// Checks the file of a durable inbox at `path` for damage. A server may have the file open;
/// nothing is changed.
///
/// # Errors
/// [`DatabaseError`].
pub async fn check_integrity(path: &Path) -> Result<(), DatabaseError> {
    for schema in schemas() {
        match ipc_sqlite::check_integrity(path, &schema, &Options::new()).await {
            Err(DatabaseError::Outdated { .. }) => {}
            checked => return checked,
        }
    }
    ipc_sqlite::check_integrity(path, &statements::SCHEMA, &Options::new()).await
}

/// Copies the file of a durable inbox at `from`, as it is at this moment, to `to`, which must not
/// exist. A server may have the file open. Only the owner may read the copy (mode 0600). The copy
/// needs no other file beside it. A file of an older version is copied as it is. On an error an
/// incomplete copy may be left.
///
/// # Errors
/// Any [`DatabaseError`], of either file.
pub async fn copy(from: &Path, to: &Path) -> Result<(), DatabaseError> {
    for schema in schemas() {
        match ipc_sqlite::copy(from, to, &schema, &Options::new()).await {
            Err(DatabaseError::Outdated { .. }) => {}
            copied => return copied,
        }
    }
    ipc_sqlite::copy(from, to, &statements::SCHEMA, &Options::new()).await
}

/// The schema and those of older versions, newest first. A file is not brought up to date for a
/// copy or a check: a server of an older version may have it open.
fn schemas() -> impl Iterator<Item = Schema> {
    let all = statements::SCHEMA.migrations;
    (1..=all.len()).rev().map(|count| Schema { migrations: &all[..count], ..statements::SCHEMA })
}
