//! How the writer handles a file that cannot be used: it logs the error, and rescues what it can.

use std::time::Duration;

use ipc_base::chain;
use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::writer::Writer;

/// How often a lasting error is logged again.
const REPORT_EVERY: Duration = Duration::from_secs(60);

impl Writer {
    /// Logs why the file cannot be used: at once, and then once a minute while the error lasts.
    pub(super) fn report(&self, error: &DatabaseError) {
        let now = Instant::now();
        let mut text = chain(error).to_string();
        match error {
            DatabaseError::DiskFull { .. } => text += "; the inbox continues once there is room",
            DatabaseError::Truncated { .. } => {
                text +=
                    "; the inbox accepts nothing more: stop the server, and restore a good copy";
            }
            DatabaseError::Replaced { .. } => text += "; the inbox accepts nothing until then",
            _ => {}
        }
        let mut reported = self.reported.borrow_mut();
        let is_new = reported
            .as_ref()
            .is_none_or(|(before, at)| *before != text || now >= *at + REPORT_EVERY);
        if is_new {
            log::error!("{text}");
            *reported = Some((text, now));
        }
    }

    /// If the file's `-wal` was removed, only this process still has its content, and only now.
    pub(super) fn rescue(&self, error: &DatabaseError) {
        if matches!(error, DatabaseError::Replaced { .. })
            && let Err(error) = self.database.rescue()
        {
            self.report(&error);
        }
    }

    /// Writes everything into the database file, for those who closed the inbox.
    pub(super) fn write_back(&mut self) {
        if let Err(error) = self.database.write_all_back() {
            self.report_not_written_back(&error);
        }
        for done in self.closing.drain(..) {
            let _gone = done.send(());
        }
    }

    /// Logs that the write-ahead log was not written back. No message is lost by that.
    pub(super) fn report_not_written_back(&self, error: &DatabaseError) {
        match error {
            // This error says it.
            DatabaseError::Replaced { .. } | DatabaseError::Truncated { .. } => self.report(error),
            // A reader has the file open, and the -wal stays until the reader is done.
            DatabaseError::Busy { .. } => log::debug!("{}", chain(error)),
            _ => log::warn!(
                "the latest messages stay in {}-wal, which belongs to the inbox, and nothing is lost: {}",
                self.database.path().display(),
                chain(error)
            ),
        }
    }
}
