//! Notices that files of a home have changed: a certificate was renewed, a key rotated, a list of
//! revoked certificates written.
//!
//! Server and client come here with what they have read. The system's own notices (inotify,
//! FSEvents) make it quick; a look at the files every two seconds makes it certain, also where the
//! system gives no notices, as on network file systems. What a change means is not known here.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

/// How often the files are looked at where no notice comes.
const PERIOD: Duration = Duration::from_secs(2);

/// How long no further notice comes before a change is taken to be over: what belongs together, as
/// a certificate and its key, is renamed one after the other.
const QUIET: Duration = Duration::from_millis(20);

/// How long a change is waited for at most, however many notices come.
const QUIET_MAX: Duration = Duration::from_millis(200);

/// What the one who watches makes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The files were read: they are looked at again when they change.
    Done,
    /// The files could not be used as they are now. They are read again with the next look, whether
    /// they change or not.
    NotYet,
}

/// Watches files of one directory on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct HomeWatch {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

enum Signal {
    Notice,
    End,
}

impl HomeWatch {
    /// Begins to watch `files`, which are in `directory`, and calls `follow` on the watching thread
    /// after each change of one of them: its content, its inode, or that it is there at all.
    ///
    /// `seen` is what the caller has read: a change between that and this call is noticed too.
    /// `follow` may block. A panic in it ends the watching.
    ///
    /// # Errors
    /// The system starts no thread. That it gives no notices is no error: the look every two
    /// seconds is enough.
    pub fn begin(
        directory: &Path,
        files: Vec<PathBuf>,
        seen: FileStamps,
        follow: impl FnMut() -> Followed + Send + 'static,
    ) -> io::Result<Self> {
        let (signals, received) = mpsc::channel();
        let notices = signals.clone();
        let names: HashSet<_> =
            files.iter().filter_map(|file| file.file_name().map(ToOwned::to_owned)).collect();
        let noticer = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A notice that went lost, or names no file, may be about any of them.
            let concerns = event.as_ref().map_or(true, |event| {
                !event.kind.is_access()
                    && (event.paths.is_empty()
                        || event
                            .paths
                            .iter()
                            .filter_map(|path| path.file_name())
                            .any(|name| names.contains(name)))
            });
            if concerns {
                let _ended = notices.send(Signal::Notice);
            }
        });
        let noticer = noticer.and_then(|mut noticer| {
            noticer.watch(directory, RecursiveMode::NonRecursive).map(|()| noticer)
        });
        let noticer = noticer
            .inspect_err(|error| {
                let seconds = PERIOD.as_secs();
                log::debug!(
                    "the system gives no notices of changes in {}, which is looked at every {seconds} s: {error}",
                    directory.display()
                );
            })
            .ok();
        let thread = std::thread::Builder::new().name("web-ipc-watch".into()).spawn(move || {
            watch(&received, &files, seen, follow);
            drop(noticer);
        })?;
        Ok(Self { signals, thread: Some(thread) })
    }
}

impl Drop for HomeWatch {
    fn drop(&mut self) {
        let _ended = self.signals.send(Signal::End);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _panicked = thread.join();
        }
    }
}

fn watch(
    signals: &mpsc::Receiver<Signal>,
    files: &[PathBuf],
    mut seen: FileStamps,
    mut follow: impl FnMut() -> Followed,
) {
    loop {
        match signals.recv_timeout(PERIOD) {
            Ok(Signal::Notice) => {
                if !is_quiet(signals) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => (),
            Ok(Signal::End) | Err(RecvTimeoutError::Disconnected) => return,
        }
        // Taken before the files are read: a change while they are is noticed with the next look.
        let now = FileStamps::of(files);
        if now != seen {
            seen = match follow() {
                Followed::Done => now,
                Followed::NotYet => FileStamps::default(),
            };
        }
    }
}

/// Waits until no notice came for a while. `false` if the watching has ended.
fn is_quiet(signals: &mpsc::Receiver<Signal>) -> bool {
    let until = Instant::now() + QUIET_MAX;
    while Instant::now() < until {
        match signals.recv_timeout(QUIET) {
            Ok(Signal::Notice) => (),
            Ok(Signal::End) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
    }
    true
}

/// What files looked like from outside when they were read: enough to tell that one was replaced or
/// written to since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStamps(Vec<Option<Stamp>>);

/// Device, inode, length, and the times of the last change of content and of the inode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp([i128; 5]);

impl FileStamps {
    /// Those of `files` as they are now, in their order. Take it before the files are read.
    #[must_use]
    pub fn of(files: &[PathBuf]) -> Self {
        let stamp = |metadata: Metadata| {
            let time = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
            Stamp([
                metadata.dev().into(),
                metadata.ino().into(),
                metadata.len().into(),
                time(metadata.mtime(), metadata.mtime_nsec()),
                time(metadata.ctime(), metadata.ctime_nsec()),
            ])
        };
        Self(files.iter().map(|file| std::fs::metadata(file).ok().map(stamp)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any change takes to be noticed.
    const LIMIT: Duration = Duration::from_secs(30);

    struct Watched {
        _watch: HomeWatch,
        file: PathBuf,
        changes: mpsc::Receiver<()>,
        _directory: tempfile::TempDir,
    }

    /// Watches a file that is there or not, and takes a change in with the n-th look.
    fn watched(content: Option<&str>, looks: usize) -> Watched {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.crt");
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let files = vec![file.clone(), directory.path().join("a.key")];
        let (told, changes) = mpsc::channel();
        let mut left = looks;
        let watch =
            HomeWatch::begin(directory.path(), files.clone(), FileStamps::of(&files), move || {
                told.send(()).unwrap();
                left = left.saturating_sub(1);
                if left == 0 { Followed::Done } else { Followed::NotYet }
            });
        Watched { _watch: watch.unwrap(), file, changes, _directory: directory }
    }

    #[test]
    fn a_file_that_is_made_written_replaced_or_removed_is_noticed() {
        let watched = watched(None, 1);
        let noticed = || watched.changes.recv_timeout(LIMIT).unwrap();
        std::fs::write(&watched.file, "1").unwrap();
        noticed();
        std::fs::write(&watched.file, "12").unwrap();
        noticed();
        let other = watched.file.with_extension("new");
        std::fs::write(&other, "12").unwrap();
        std::fs::rename(&other, &watched.file).unwrap();
        noticed();
        std::fs::remove_file(&watched.file).unwrap();
        noticed();
    }

    #[test]
    fn what_could_not_be_used_is_tried_again_although_nothing_changes() {
        let watched = watched(Some("1"), 2);
        std::fs::write(&watched.file, "half").unwrap();
        for _ in 0..2 {
            watched.changes.recv_timeout(LIMIT).unwrap();
        }
    }

    #[test]
    fn a_change_between_reading_and_watching_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let files = vec![directory.path().join("a.crt")];
        let before = FileStamps::of(&files);
        std::fs::write(&files[0], "1").unwrap();
        let (told, changes) = mpsc::channel();
        let watch = HomeWatch::begin(directory.path(), files, before, move || {
            told.send(()).unwrap();
            Followed::Done
        });
        changes.recv_timeout(LIMIT).unwrap();
        drop(watch);
    }

    #[test]
    fn other_files_of_the_directory_are_none_of_its_business() {
        let watched = watched(Some("1"), 1);
        std::fs::write(watched.file.with_file_name("inbox.db"), "1").unwrap();
        std::fs::write(&watched.file, "12").unwrap();
        watched.changes.recv_timeout(LIMIT).unwrap();
        assert!(watched.changes.try_recv().is_err(), "one change, one call");
    }

    #[test]
    fn a_directory_that_cannot_be_watched_is_looked_at_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.crt");
        let (told, changes) = mpsc::channel();
        let missing = directory.path().join("missing");
        let files = vec![file.clone()];
        let _watch = HomeWatch::begin(&missing, files.clone(), FileStamps::of(&files), move || {
            told.send(()).unwrap();
            Followed::Done
        });
        std::fs::write(&file, "1").unwrap();
        changes.recv_timeout(LIMIT).unwrap();
    }
}
