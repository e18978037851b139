//! The logs of a run's processes.
//!
//! The receivers and senders of a run write them. The run counts channels and POSTs in them, and
//! shows their ends after a failure.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

/// Opens a log for appending.
pub(crate) fn open(path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| format!("{}: {error}", path.display()))
}

/// How many channels the servers with this log have opened, and how many POSTs with messages they
/// have answered. Both may be too low, since the log limits its lines.
pub(crate) fn channels_and_posts(log: &Path) -> (usize, usize) {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    (text.matches("\"GET /message/channel\" 101").count(), text.matches("\"POST /message/").count())
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(tail(&log), "");
        let lines: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        assert_eq!(tail(&log), lines[10..].join("\n"));
    }

    #[test]
    fn channels_and_posts_are_counted_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(channels_and_posts(&log), (0, 0));
        let [channel, post] = ["GET /message/channel", "POST /message/submit"]
            .map(|request| move |status: u16| format!("1.2.3.4:5 - \"{request}\" {status}\n"));
        let lines =
            [channel(101), channel(426), post(200), "x\n".to_owned(), channel(101), post(503)];
        fs::write(&log, lines.concat()).unwrap();
        assert_eq!(channels_and_posts(&log), (2, 2));
    }
}
