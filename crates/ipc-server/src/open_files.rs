//! Fits the number of connections into the number of files that the process may open.
//!
//! A server comes here once, before it starts. The limit belongs to the process, so it is raised
//! only if the application allows it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files kept free for everything else that is opened while a server runs: databases, the
/// application's own files, connections that are about to close.
const RESERVE: u64 = 128;

/// The assumed number of open files where they cannot be counted.
const OPEN_GUESS: u64 = 32;

/// The highest limit that macOS accepts where it reports no limit (`OPEN_MAX`).
const UNLIMITED: u64 = 10_240;

/// How many files a process may have to open that runs one server with the default limits.
#[must_use]
pub fn open_files_needed() -> u64 {
    let connections = (CONNECTIONS_MAX_DEFAULT + HANDSHAKES_MAX_DEFAULT) as u64;
    OPEN_GUESS + RESERVE + connections
}

/// The default of `ServerBuilder::connections_max`.
pub(crate) const CONNECTIONS_MAX_DEFAULT: usize = 768;

/// The default of `ServerBuilder::handshakes_max`.
pub(crate) const HANDSHAKES_MAX_DEFAULT: usize = 128;

/// How many connections and handshakes are served at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
}

/// Lowers the wanted numbers if the process may not open enough files, and logs that. Raises the
/// process's limit first if `may_raise`.
pub(crate) fn fit(wanted: Places, workers: usize, may_raise: bool) -> Places {
    let open = std::fs::read_dir("/dev/fd").map_or(OPEN_GUESS, |files| files.count() as u64);
    let needed = open + RESERVE + wanted.files();
    let mut limit = getrlimit(Resource::Nofile);
    if may_raise && let Some(raised) = raised(limit, needed) {
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = raised,
            Err(error) => {
                log::warn!("cannot raise the limit of open files: {}", ipc_base::chain(&error))
            }
        }
    }
    let Some(files_max) = limit.current else { return wanted };
    let places = wanted.within(files_max.saturating_sub(open + RESERVE), workers);
    if places != wanted {
        let (connections, handshakes) = (places.connections, places.handshakes);
        log::warn!(
            "this process may open {files_max} files: the limits are now {connections} connections and {handshakes} handshakes at a time, \
             not {} and {}; to have all of them, let it open {needed} (ulimit -n)",
            wanted.connections,
            wanted.handshakes
        );
    }
    places
}

/// Returns the limit raised to `needed` files, or to the hard limit if that is lower. `None` if the
/// current limit is already as high.
fn raised(limit: Rlimit, needed: u64) -> Option<Rlimit> {
    let current = limit.current?;
    let raised = needed.min(limit.maximum.unwrap_or(UNLIMITED));
    (raised > current).then_some(Rlimit { current: Some(raised), ..limit })
}

impl Places {
    fn files(self) -> u64 {
        (self.connections as u64).saturating_add(self.handshakes as u64)
    }

    /// As many of these as fit into `files`, but at least one of each for each worker. Both numbers
    /// are multiples of `workers`, since each worker rounds its share up.
    fn within(self, files: u64, workers: usize) -> Places {
        if self.files() <= files {
            return self;
        }
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        // A connection is in its handshake for milliseconds, so a quarter is enough.
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
