//! How many files the process may open, and how many connections fit into that.
//!
//! A server comes here once, before it starts. The limit belongs to the process: it is raised only
//! where the application says so.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for whatever else is opened while a server runs: databases, the application's own,
/// connections that are about to close.
const RESERVE: u64 = 128;

/// Where the open files cannot be counted.
const OPEN_GUESS: u64 = 32;

/// The most that macOS takes where it says that there is no limit (`OPEN_MAX`).
const UNLIMITED: u64 = 10_240;

/// What is served at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
}

/// Makes as many places as were asked for, or as there can be, and says so in the log.
pub(crate) fn fit(wanted: Places, workers: usize, may_raise: bool) -> Places {
    let open = std::fs::read_dir("/dev/fd").map_or(OPEN_GUESS, |files| files.count() as u64);
    let needed = open + RESERVE + wanted.files();
    let mut limit = getrlimit(Resource::Nofile);
    if may_raise && let Some(raised) = raised(limit, needed) {
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = raised,
            Err(error) => {
                log::warn!("the limit of open files cannot be raised: {}", ipc_base::chain(&error))
            }
        }
    }
    let Some(files_max) = limit.current else { return wanted };
    let places = wanted.within(files_max.saturating_sub(open + RESERVE), workers);
    if places != wanted {
        let (connections, handshakes) = (places.connections, places.handshakes);
        log::warn!(
            "this process may open {files_max} files: {connections} connections and {handshakes} handshakes are taken at a time, \
             not {} and {}; for all of them let it open {needed} (ulimit -n)",
            wanted.connections,
            wanted.handshakes
        );
    }
    places
}

/// The limit as it is to be for so many files; `None` where it is high enough, or as high as it may
/// be.
fn raised(limit: Rlimit, needed: u64) -> Option<Rlimit> {
    let current = limit.current?;
    let raised = needed.min(limit.maximum.unwrap_or(UNLIMITED));
    (raised > current).then_some(Rlimit { current: Some(raised), ..limit })
}

impl Places {
    fn files(self) -> u64 {
        (self.connections as u64).saturating_add(self.handshakes as u64)
    }

    /// As many of these as so many files are enough for, but one of each for a worker. They are
    /// shared out among the workers without a rest, since each rounds up for itself.
    fn within(self, files: u64, workers: usize) -> Places {
        if self.files() <= files {
            return self;
        }
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        // A connection is in a handshake for milliseconds.
        let handshakes = shared(self.handshakes.min(files / 4), workers);
        let connections = shared(self.connections.min(files.saturating_sub(handshakes)), workers);
        Places { connections, handshakes }
    }
}

fn shared(places: usize, workers: usize) -> usize {
    (places / workers).max(1) * workers
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Places = Places { connections: 768, handshakes: 128 };

    #[test]
    fn where_there_are_files_for_all_all_are_taken() {
        assert_eq!(WANTED.within(896, 2), WANTED);
        assert_eq!(WANTED.within(u64::MAX, 64), WANTED);
    }

    #[test]
    fn where_there_are_fewer_files_no_more_are_taken_than_there_are() {
        for (files, workers) in [(895, 2), (300, 4), (96, 1), (96, 64), (10, 3)] {
            let places = WANTED.within(files, workers);
            assert!(places.files() <= files.max(2 * workers as u64), "{files} {places:?}");
            assert!(
                places.connections.is_multiple_of(workers)
                    && places.handshakes.is_multiple_of(workers)
            );
            assert!(places.connections >= places.handshakes || workers > 3, "{places:?}");
        }
        assert_eq!(WANTED.within(0, 2), Places { connections: 2, handshakes: 2 });
        let few = Places { connections: 700, handshakes: 10 };
        assert_eq!(few.within(600, 1), Places { connections: 590, handshakes: 10 });
    }

    #[test]
    fn the_limit_is_raised_as_far_as_is_needed_and_allowed() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(limit(Some(256), Some(4096)), 1000), Some(limit(Some(1000), Some(4096))));
        assert_eq!(raised(limit(Some(256), Some(512)), 1000), Some(limit(Some(512), Some(512))));
        assert_eq!(raised(limit(Some(256), None), 100_000), Some(limit(Some(UNLIMITED), None)));
        assert_eq!(raised(limit(Some(1024), Some(4096)), 1000), None);
        assert_eq!(raised(limit(Some(512), Some(512)), 1000), None);
        assert_eq!(raised(limit(None, None), 1000), None);
    }
}
