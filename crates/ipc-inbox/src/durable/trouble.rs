//! What the writer does about a file that cannot be used: it tells the log, and saves what can be
//! saved.

use std::time::Duration;

use ipc_base::chain;
use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::writer::Writer;

/// How often the log is told of a trouble that lasts.
const REPORT_EVERY: Duration = Duration::from_secs(60);

impl Writer {
    /// Tells the log why the file cannot be used: at once, and then once in a while for as long as
    /// it lasts.
    pub(super) fn report(&self, error: &DatabaseError) {
        let now = Instant::now();
        let mut text = chain(error).to_string();
        match error {
            DatabaseError::DiskFull { .. } => text += "; make some room, and it goes on by itself",
            DatabaseError::Truncated { .. } => {
                text += "; nothing is accepted any more: stop the server, and put back a good copy";
            }
            DatabaseError::Replaced { .. } => text += "; nothing is accepted any more until then",
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

    /// Where the file's `-wal` was removed, what is in it can be had only here, and only now.
    pub(super) fn rescue(&self, error: &DatabaseError) {
        if matches!(error, DatabaseError::Replaced { .. })
            && let Err(error) = self.database.rescue()
        {
            self.report(&error);
        }
    }

    /// Has everything in the file itself, for those who closed the inbox.
    pub(super) fn write_back(&mut self) {
        if let Err(error) = self.database.write_all_back() {
            self.report_not_written_back(&error);
        }
        for done in self.closing.drain(..) {
            let _gone = done.send(());
        }
    }

    /// Nothing is lost by it.
    pub(super) fn report_not_written_back(&self, error: &DatabaseError) {
        match error {
            // The log has it.
            DatabaseError::Replaced { .. } | DatabaseError::Truncated { .. } => self.report(error),
            // Somebody reads the file, and its -wal stays until that is done.
            DatabaseError::Busy { .. } => log::debug!("{}", chain(error)),
            _ => log::warn!(
                "what came last stays in {}-wal, which belongs to it, and nothing is lost: {}",
                self.database.path().display(),
                chain(error)
            ),
        }
    }
}
