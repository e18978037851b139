//! Keeps the log lines of a unit test's own thread. Only for tests.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct OwnLines;

impl log::Log for OwnLines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.with_borrow_mut(|lines| {
                lines.iter_mut().for_each(|lines| lines.push(record.args().to_string()))
            });
        }
    }

    fn flush(&self) {}
}

/// From here on, keeps the lines of this thread at level info and above.
pub(crate) fn watch_this_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&OwnLines).expect("no other test sets a logger");
        log::set_max_level(log::LevelFilter::Info);
    });
    LINES.set(Some(Vec::new()));
}

pub(crate) fn info_lines() -> Vec<String> {
    LINES.with_borrow(|lines| lines.clone().unwrap_or_default())
}
