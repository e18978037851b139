//! What can be done with the file of a durable inbox while a server has it: look at its dead
//! letters, and copy it.
//!
//! The command line comes here, beside a running server. Nothing here writes the file.

use std::path::Path;

use ipc_sqlite::{Database, DatabaseError, Options};

use super::{dead_letter_rows, statements};
use crate::dead_letter::{DeadLetter, DeadLetterId};

/// The file of a durable inbox, for reading alone: also while a server has it open.
#[derive(Debug)]
pub struct InboxReader {
    database: Database,
}

impl InboxReader {
    /// Opens the file at `path`, which must be there.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, DatabaseError> {
        let database =
            ipc_sqlite::open_read_only(path.as_ref(), &statements::SCHEMA, &Options::new()).await?;
        Ok(InboxReader { database })
    }

    /// The dead letters after the one with that id (`None`: from the first), oldest first, no more
    /// than `count_max`, as they are at this moment.
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

    /// How many messages the file has at this moment: those that wait, those that somebody has, and
    /// dead letters.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn messages(&self) -> Result<u64, DatabaseError> {
        let failed = |error| self.database.error(error);
        let mut reader = self.database.readers().acquire().await.map_err(failed)?;
        dead_letter_rows::count_messages(&mut reader).await.map_err(failed)
    }
}

/// Copies the file of a durable inbox at `from`, as it is at this moment, to `to`, which must not
/// be there: also while a server has it open. The copy is for its owner alone (0600), and whole
/// without anything beside it. On an error a part of it may be left.
///
/// # Errors
/// Any [`DatabaseError`], of either file.
pub async fn copy(from: &Path, to: &Path) -> Result<(), DatabaseError> {
    ipc_sqlite::copy(from, to, &statements::SCHEMA, &Options::new()).await
}
