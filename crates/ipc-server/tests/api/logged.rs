//! The log lines of the server and of the crates below it, for tests that look for one. All tests
//! of the process write into the same log.

use std::sync::{Mutex, Once};

struct Lines(Mutex<String>);

static LINES: Lines = Lines(Mutex::new(String::new()));

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {} {}\n", record.level(), record.target(), record.args());
            self.0.lock().unwrap().push_str(&line);
        }
    }

    fn flush(&self) {}
}

/// Starts to keep all lines of level info and above.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// The lines so far that contain `part`.
pub(crate) fn with(part: &str) -> Vec<String> {
    let lines = LINES.0.lock().unwrap();
    lines.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}
