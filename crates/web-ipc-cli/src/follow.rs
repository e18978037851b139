//! Waits for changes of a durable inbox's file, beside the server that has it.
//!
//! `dead.rs` and `inbox.rs` come here with `--follow`. Nothing here reads what is in the file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often in a row it may be unreadable: a server that starts or ends changes what is beside it.
pub(crate) const FAILURES_MAX: u32 = 10;

/// What a file looks like from outside: inode, length, and the time of its last change.
type Look = Option<(u64, u64, i64, i64)>;

/// A file that is watched.
pub(crate) struct Watch {
    files: [PathBuf; 2],
    last: [Look; 2],
}

impl Watch {
    /// Watches a database and its log.
    pub(crate) fn new(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let files = [database.to_owned(), log.into()];
        let last = looks(&files);
        Watch { files, last }
    }

    /// Waits until the file has changed since the last call.
    pub(crate) async fn changed(&mut self) {
        loop {
            let now = looks(&self.files);
            if now != self.last {
                self.last = now;
                return;
            }
            pause().await;
        }
    }
}

/// The time between two looks.
pub(crate) async fn pause() {
    tokio::time::sleep(LOOK_EVERY).await;
}

fn looks(files: &[PathBuf; 2]) -> [Look; 2] {
    files.each_ref().map(|file| {
        let found = fs::metadata(file).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_file_or_of_its_log_is_seen_once() {
        const LONG: Duration = Duration::from_secs(3600);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("inbox.db");
        let mut watch = Watch::new(&file);
        assert!(timeout(LONG, watch.changed()).await.is_err());
        for name in ["inbox.db", "inbox.db-wal"] {
            let path = directory.path().join(name);
            for text in ["a", "ab"] {
                fs::write(&path, text).unwrap();
                watch.changed().await;
                assert!(timeout(LONG, watch.changed()).await.is_err());
            }
            fs::remove_file(&path).unwrap();
            watch.changed().await;
        }
    }
}
