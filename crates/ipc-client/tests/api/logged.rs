//! Collects the log lines of this crate and of the libraries below it. All tests of the process
//! share the collection.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, Once};

struct Everything(Mutex<String>);

/// Who waits for a line, and for which.
static WAITS: Mutex<Vec<(String, Sender<()>)>> = Mutex::new(Vec::new());

static LOG: Everything = Everything(Mutex::new(String::new()));

impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {} {}\n", record.level(), record.target(), record.args());
        WAITS.lock().unwrap().retain(|(text, tell)| !line.contains(text) || tell.send(()).is_err());
        self.0.lock().unwrap().push_str(&line);
    }

    fn flush(&self) {}
}

/// From here on, keeps all lines of all levels.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

pub(crate) fn so_far() -> String {
    LOG.0.lock().unwrap().clone()
}

/// Tells when a line with `text` in it comes.
pub(crate) fn when(text: String) -> Receiver<()> {
    watch();
    let (tell, told) = channel();
    WAITS.lock().unwrap().push((text, tell));
    told
}
