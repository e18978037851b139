//! Watches whether the files of an open database are still the opened ones, and not truncated.
//!
//! [`Database`](crate::Database) calls it before and after each write. SQLite does not notice: it
//! writes to files that no other process sees, and such a commit is lost. The watch compares only
//! names, numbers and lengths: opening a file here would release SQLite's locks
//! (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::DatabaseError;
use crate::system::{FileId, FileState, file_state, log_path};

/// The files as they were last seen.
#[derive(Debug)]
pub(crate) struct Watch {
    what: &'static str,
    path: PathBuf,
    log: PathBuf,
    file: FileId,
    /// No other process writes: a file that is shorter than before is truncated.
    is_alone: bool,
    seen: Mutex<Seen>,
    loss: OnceLock<Loss>,
}

#[derive(Debug)]
struct Seen {
    bytes: u64,
    /// The `-wal`, once there was one.
    log: Option<FileState>,
}

/// A loss that was noticed once is reported from then on: SQLite itself may extend a truncated file
/// to its old length again.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Replaced,
    Truncated,
    LogReplaced,
    LogTruncated,
}

/// What may be done with open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The files are intact.
    Whole,
    /// The `-wal` is no longer at its path, but complete for the process that has it open: write it
    /// back.
    LogReplaced,
    /// SQLite would overwrite other data, or write back only a part of the committed changes.
    Lost,
}

impl Watch {
    /// Watches the file at `path`, whose state was `file` before it was opened.
    pub(crate) fn new(what: &'static str, path: &Path, file: FileState, is_alone: bool) -> Self {
        Watch {
            what,
            path: path.to_owned(),
            log: log_path(path),
            file: file.id,
            is_alone,
            seen: Mutex::new(Seen { bytes: file.bytes, log: None }),
            loss: OnceLock::new(),
        }
    }

    /// Checks the files. Costs two `stat`.
    ///
    /// # Errors
    /// [`DatabaseError::Replaced`] and [`DatabaseError::Truncated`], from then on at each call;
    /// otherwise the system's error for a path.
    pub(crate) fn check(&self) -> Result<(), DatabaseError> {
        if self.loss.get().is_none()
            && let Some(loss) = self.look()?
        {
            // Another thread may have noted a loss first.
            let _seen_before = self.loss.set(loss);
        }
        self.loss.get().map_or(Ok(()), |loss| Err(self.error(*loss)))
    }

    /// The state of the files, and what it means for closing.
    pub(crate) fn condition(&self) -> Condition {
        // If the files cannot be checked, no loss is known.
        let _checked = self.check();
        match self.loss.get() {
            None => Condition::Whole,
            Some(Loss::LogReplaced) => Condition::LogReplaced,
            Some(Loss::Replaced | Loss::Truncated | Loss::LogTruncated) => Condition::Lost,
        }
    }

    /// Notes that the `-wal` may become shorter.
    pub(crate) fn log_begins_anew(&self) {
        if let Some(log) = &mut self.seen().log {
            log.bytes = 0;
        }
    }

    fn look(&self) -> Result<Option<Loss>, DatabaseError> {
        let state = |path: &Path| match file_state(path) {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DatabaseError::from_io(self.what, path, error)),
        };
        let (file, log) = (state(&self.path)?, state(&self.log)?);
        let mut seen = self.seen();
        let Some(file) = file.filter(|file| file.id == self.file) else {
            return Ok(Some(Loss::Replaced));
        };
        let is_emptied = file.bytes == 0 && seen.bytes > 0;
        if is_emptied || (self.is_alone && file.bytes < seen.bytes) {
            return Ok(Some(Loss::Truncated));
        }
        seen.bytes = file.bytes;
        match (&seen.log, log) {
            (Some(known), Some(log)) if log.id == known.id => {
                if self.is_alone && log.bytes < known.bytes {
                    return Ok(Some(Loss::LogTruncated));
                }
                seen.log = Some(log);
            }
            (Some(_), _) => return Ok(Some(Loss::LogReplaced)),
            (None, log) => seen.log = log,
        }
        Ok(None)
    }

    fn error(&self, loss: Loss) -> DatabaseError {
        let what = self.what;
        match loss {
            Loss::Replaced => DatabaseError::Replaced { what, path: self.path.clone() },
            Loss::LogReplaced => DatabaseError::Replaced { what, path: self.log.clone() },
            Loss::Truncated => DatabaseError::Truncated { what, path: self.path.clone() },
            Loss::LogTruncated => DatabaseError::Truncated { what, path: self.log.clone() },
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Files {
        _directory: tempfile::TempDir,
        path: PathBuf,
        watch: Watch,
    }

    /// A file of 100 bytes with a `-wal` of 50, both seen.
    fn files(is_alone: bool) -> Files {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.db");
        fs::write(&path, [0; 100]).unwrap();
        fs::write(log_path(&path), [0; 50]).unwrap();
        let watch = Watch::new("note database", &path, file_state(&path).unwrap(), is_alone);
        watch.check().unwrap();
        Files { _directory: directory, path, watch }
    }

    fn set_len(path: &Path, bytes: u64) {
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
    }

    #[test]
    fn files_that_grow_are_as_they_should_be() {
        for is_alone in [true, false] {
            let files = files(is_alone);
            for bytes in [200, 300] {
                set_len(&files.path, bytes);
                set_len(&log_path(&files.path), bytes);
                files.watch.check().unwrap();
            }
            assert_eq!(files.watch.condition(), Condition::Whole);
        }
    }

    #[test]
    fn a_file_that_was_cut_short_is_lost_and_stays_so() {
        for bytes in [0, 99] {
            let files = files(true);
            set_len(&files.path, bytes);
            for _ in 0..2 {
                let error = files.watch.check().unwrap_err();
                assert!(
                    matches!(&error, DatabaseError::Truncated { path, .. } if *path == files.path),
                    "{error:?}"
                );
                assert_eq!(files.watch.condition(), Condition::Lost);
                // SQLite does the same when it writes its last page.
                set_len(&files.path, 1000);
            }
        }
    }

    #[test]
    fn a_log_that_was_cut_short_or_removed_is_noticed_by_its_name() {
        let files = files(true);
        let log = log_path(&files.path);
        set_len(&log, 49);
        let error = files.watch.check().unwrap_err();
        assert!(
            matches!(&error, DatabaseError::Truncated { path, .. } if *path == log),
            "{error:?}"
        );
        assert_eq!(files.watch.condition(), Condition::Lost, "not all of it could be written back");
        for is_alone in [true, false] {
            let files = self::files(is_alone);
            fs::remove_file(log_path(&files.path)).unwrap();
            let error = files.watch.check().unwrap_err();
            assert!(
                matches!(&error, DatabaseError::Replaced { path, .. } if *path == log_path(&files.path)),
                "{error:?}"
            );
            assert_eq!(files.watch.condition(), Condition::LogReplaced);
        }
    }

    #[test]
    fn a_log_that_was_written_back_begins_anew() {
        let files = files(true);
        set_len(&log_path(&files.path), 0);
        files.watch.log_begins_anew();
        files.watch.check().unwrap();
    }

    #[test]
    fn of_a_file_that_others_write_too_only_emptiness_is_a_loss() {
        let files = files(false);
        set_len(&files.path, 50);
        set_len(&log_path(&files.path), 0);
        files.watch.check().unwrap();
        set_len(&files.path, 0);
        assert!(matches!(files.watch.check(), Err(DatabaseError::Truncated { .. })));
    }

    #[test]
    fn a_file_that_is_gone_or_another_one_is_lost() {
        let files = files(true);
        let open = fs::File::open(&files.path).unwrap();
        fs::remove_file(&files.path).unwrap();
        assert_eq!(files.watch.condition(), Condition::Lost);
        fs::write(&files.path, [0; 100]).unwrap();
        assert!(matches!(files.watch.check(), Err(DatabaseError::Replaced { .. })));
        drop(open);
    }
}
