//! The log: one line each on stderr, `[2025-03-19 19:38:50,608Z][INFO][module,line]: text`, in UTC,
//! or a JSON object.
//!
//! `main` starts the log and flushes it at the end, and a server that reloads its configuration
//! changes it. This file decides which lines are shown. Logging never waits for the reader of
//! stderr.

mod queue;

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use env_logger::{Builder, Logger, Target};
use ipc_home::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::stdio::stderr;
use serde::Serialize;

use crate::args::{LogFormat, LogLevel};
use crate::error;
use crate::escape::{json_line, printable};
use crate::plural::counted;
use crate::stdio::{Lines, write_all};
use queue::Queue;

/// The prefixes of the crates of this workspace. Of other crates the log shows only warnings,
/// unless `$RUST_LOG` asks for more.
const OWN_CRATES: [&str; 2] = ["ipc_", "web_ipc"];

/// How long printing a result waits for the lines that were logged before it.
const RESULT_WAIT: Duration = Duration::from_millis(200);

/// How long the end of the process waits for the reader of the log.
const END_WAIT: Duration = Duration::from_secs(2);

static QUEUE: Queue = Queue::new();

/// Modules that log what peers send, without a limit, and the level from which they are shown. They
/// are the error of actix-http for each connection that it ends, and the warning of rustls for each
/// invalid name in a handshake.
const UNBOUNDED: [(&str, LevelFilter); 2] =
    [("actix_http::h1::dispatcher", LevelFilter::Off), ("rustls", LevelFilter::Error)];

/// The client of NATS, which logs an error before it returns it. ipc-inbox-jetstream says it once.
const TWICE: (&str, LevelFilter) = ("async_nats", LevelFilter::Off);

/// The form of the error that ends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastLine {
    /// That of the log, which says when a server ended.
    InTheLog,
    /// `error: text`, as of wrong usage.
    Plain,
}

/// Which lines are shown, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Without one, `$RUST_LOG` decides, and without that it is info. The line that ends a command
    /// is always shown.
    pub(crate) level: Option<LogLevel>,
    pub(crate) format: LogFormat,
    pub(crate) last: LastLine,
}

/// The logger of this moment.
static LOGGER: RwLock<Option<Logger>> = RwLock::new(None);

/// Whether lines are JSON, for those that do not come from a record.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Passes records on to [`LOGGER`], which can be replaced.
struct Current;

fn logger() -> RwLockReadGuard<'static, Option<Logger>> {
    LOGGER.read().unwrap_or_else(PoisonError::into_inner)
}

impl Log for Current {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        logger().as_ref().is_some_and(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(logger) = logger().as_ref() {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

/// Starts the log.
pub(crate) fn start(shape: Shape) {
    start_writing();
    change(shape);
    // It is set once, by `main`.
    let _already = log::set_logger(&Current);
}

/// Shows other lines from now on, or in another form.
pub(crate) fn change(shape: Shape) {
    let logger = logger_of(shape);
    log::set_max_level(logger.filter());
    *LOGGER.write().unwrap_or_else(PoisonError::into_inner) = Some(logger);
    IS_JSON.store(shape.format == LogFormat::Json, Ordering::Relaxed);
}

fn logger_of(shape: Shape) -> Logger {
    let Shape { level, format, last } = shape;
    let mut builder = Builder::new();
    match (level, std::env::var("RUST_LOG")) {
        (None, Ok(filters)) if !filters.is_empty() => {
            builder.parse_filters(&filters);
        }
        (level, _) => {
            let (own, others) = filters(level.unwrap_or(LogLevel::Info));
            builder.filter_level(others);
            for own_crate in OWN_CRATES {
                builder.filter_module(own_crate, own);
            }
        }
    }
    // A peer can cause these lines without end, and they do not name it. ipc-server logs a line
    // with the peer's name instead, at a limited rate.
    if std::env::var_os("RUST_LOG").is_none_or(|filters| filters.is_empty()) {
        for (module, level) in UNBOUNDED.into_iter().chain([TWICE]) {
            builder.filter_module(module, level);
        }
    }
    // A command must never fail in silence, whatever the filters.
    builder.filter_module(error::TARGET, LevelFilter::Error);
    builder
        .target(Target::Pipe(Box::new(Queued)))
        .format(move |out, record| writeln!(out, "{}", shown(record, format, last, since_1970())))
        .build()
}

/// Starts the thread that writes. If that fails, each line is written by the thread that logs it.
fn start_writing() {
    let writing = thread::Builder::new().name("web-ipc-log".into()).spawn(|| {
        let mut lines = Lines::new();
        let write = |text: &[u8]| match lines.write(stderr(), text) {
            Ok(()) => 0,
            Err(error) => {
                text[error.written..].iter().filter(|byte| **byte == b'\n').count() as u64
            }
        };
        QUEUE.write(write, |missing| missing_line(missing, since_1970()))
    });
    if writing.is_ok() {
        QUEUE.has_writer();
    }
}

/// The target of the log, which puts lines into the queue.
struct Queued;

impl io::Write for Queued {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts a text between the lines of the log unchanged, such as the progress line.
pub(crate) fn put(text: &[u8]) {
    if !QUEUE.push(text) {
        // Best effort: an error of stderr cannot be logged.
        let _unread = write_all(stderr(), text);
    }
}

/// Puts the last words of a process that found a bug into the log.
pub(crate) fn put_bug(words: &str) {
    let line = match IS_JSON.load(Ordering::Relaxed) {
        true => {
            let mut record = Record::builder();
            record.level(Level::Error).target("main");
            json(&record.args(format_args!("{words}")).build(), since_1970())
        }
        false => words.to_owned(),
    };
    put(format!("{line}\n").as_bytes());
}

/// Waits, for a short time, until the lines so far are written. A result is printed after them.
pub(crate) fn flush_before_a_result() {
    QUEUE.flush(RESULT_WAIT);
}

/// Waits, for a limited time, until all lines are written, before the process ends.
pub(crate) fn flush_at_the_end() {
    QUEUE.flush_at_last(END_WAIT);
}

/// The line that counts lines that were dropped.
fn missing_line(missing: u64, since_1970: Duration) -> String {
    let lines = counted(missing, "line");
    let text = format_args!("{lines} of the log are missing here: nobody read them in time");
    let mut record = Record::builder();
    record.level(Level::Warn).target("log").line(Some(line!()));
    let line = if IS_JSON.load(Ordering::Relaxed) { json } else { line };
    line(&record.args(text).build(), since_1970) + "\n"
}

fn filters(level: LogLevel) -> (LevelFilter, LevelFilter) {
    match level {
        LogLevel::Debug => (LevelFilter::Debug, LevelFilter::Warn),
        LogLevel::Info => (LevelFilter::Info, LevelFilter::Warn),
        LogLevel::Warning => (LevelFilter::Warn, LevelFilter::Warn),
        LogLevel::Error => (LevelFilter::Error, LevelFilter::Error),
        LogLevel::Critical => (LevelFilter::Off, LevelFilter::Off),
    }
}

fn since_1970() -> Duration {
    // A clock before 1970 is wrong anyway.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn shown(record: &Record<'_>, format: LogFormat, last: LastLine, since_1970: Duration) -> String {
    match format {
        LogFormat::Json => json(record, since_1970),
        LogFormat::Text if last == LastLine::Plain && record.target() == error::TARGET => {
            format!("error: {}", printable(&record.args().to_string()))
        }
        LogFormat::Text => line(record, since_1970),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}

/// The module that logged the record, with its crate.
fn path<'a>(record: &'a Record<'_>) -> &'a str {
    record.module_path().unwrap_or(record.target())
}

fn line(record: &Record<'_>, since_1970: Duration) -> String {
    let path = path(record);
    let module = path.rsplit("::").next().unwrap_or(path);
    format!(
        "[{}][{}][{module},{}]: {}",
        time(since_1970),
        level(record.level()),
        record.line().unwrap_or(0),
        // Escaped, so that one record is one line: text from a peer must not look like a line of
        // this log.
        printable(&record.args().to_string()),
    )
}

/// A record as JSON, in the order in which people read it.
#[derive(Serialize)]
struct Object<'a> {
    /// RFC 3339, UTC, with milliseconds.
    time: String,
    level: &'a str,
    module: &'a str,
    line: u32,
    message: String,
}

fn json(record: &Record<'_>, since_1970: Duration) -> String {
    let object = Object {
        time: format!("{:.3}", Timestamp::since_unix_epoch(since_1970)),
        level: level(record.level()),
        module: path(record),
        line: record.line().unwrap_or(0),
        message: record.args().to_string(),
    };
    let json = serde_json::to_string(&object).expect("texts and a number always serialise");
    // What a terminal obeys, or does not show, is escaped here too. It is the same JSON.
    json_line(&json).into_owned()
}

/// `2025-03-19 19:38:50,608Z`, the form of the Python tool with the zone. After the year 9999 it is
/// `second 253402300800,608 since 1970`.
fn time(since_1970: Duration) -> String {
    let time = format!("{:.3}", Timestamp::since_unix_epoch(since_1970));
    time.replace('T', " ").replace('.', ",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_calendar_knows_is_told_in_seconds() {
        let last = Duration::from_secs(253_402_300_799);
        assert_eq!(time(last), "9999-12-31 23:59:59,000Z");
        assert_eq!(time(last + Duration::from_millis(1_608)), "second 253402300800,608 since 1970");
        assert!(time(Duration::MAX).starts_with("second "));
    }

    fn told(level: Level, module: Option<&str>, text: &str) -> String {
        let now = Duration::from_nanos(1_742_413_130_608_999_999);
        line(
            &Record::builder()
                .level(level)
                .target("the_target")
                .module_path(module)
                .line(Some(12))
                .args(format_args!("{text}"))
                .build(),
            now,
        )
    }

    #[test]
    fn a_line_has_time_level_module_and_line_number() {
        assert_eq!(
            told(Level::Info, Some("ipc_server::server"), "Starting"),
            "[2025-03-19 19:38:50,608Z][INFO][server,12]: Starting"
        );
    }

    #[test]
    fn the_error_that_ends_a_command_has_no_time_and_place_unless_it_is_in_a_servers_log() {
        let shown = |target: &str, last| {
            let mut record = Record::builder();
            record.level(Level::Error).target(target).module_path(Some(target)).line(Some(12));
            let record = record.args(format_args!("no\nway")).build();
            super::shown(&record, LogFormat::Text, last, Duration::ZERO)
        };
        assert_eq!(shown(error::TARGET, LastLine::Plain), "error: no\\nway");
        let logged = "[1970-01-01 00:00:00,000Z][ERROR][";
        assert!(shown(error::TARGET, LastLine::InTheLog).starts_with(logged));
        assert!(shown("web_ipc::send", LastLine::Plain).starts_with(logged));
    }

    #[test]
    fn a_warning_is_called_warning_and_a_missing_module_is_the_target() {
        assert_eq!(
            told(Level::Warn, None, "x"),
            "[2025-03-19 19:38:50,608Z][WARNING][the_target,12]: x"
        );
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let shown = told(Level::Error, Some("a"), "one\n[fake]\r\u{1b}[31m é");
        assert!(shown.ends_with("]: one\\n[fake]\\r\\u{1b}[31m é"), "{shown}");
    }

    #[test]
    fn a_record_as_json_is_one_object_on_one_line_whatever_is_in_it() {
        let text = "one\n[fake]\r\u{1b}[31m \"é\" \\ \u{0} \u{9b}\u{202e}\u{2028}\u{1f600}";
        let now = Duration::from_nanos(1_742_413_130_608_999_999);
        let shown_as_json = |target: &str, module: Option<&str>, number, last, text: &str| {
            let mut record = Record::builder();
            record.level(Level::Warn).target(target).module_path(module).line(number);
            super::shown(&record.args(format_args!("{text}")).build(), LogFormat::Json, last, now)
        };
        for last in [LastLine::Plain, LastLine::InTheLog] {
            let line = shown_as_json("t", Some("ipc_server::server"), Some(12), last, text);
            assert!(!line.contains(char::is_control) && !line.contains('\u{202e}'), "{line}");
            let begin = r#"{"time":"2025-03-19T19:38:50.608Z","level":"WARNING","module":"ipc_server::server","line":12,"message":"one\n"#;
            assert!(line.starts_with(begin), "{line}");
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["message"], text);
        }
        assert_eq!(
            shown_as_json(error::TARGET, None, None, LastLine::Plain, "no"),
            r#"{"time":"2025-03-19T19:38:50.608Z","level":"WARNING","module":"web_ipc::error","line":0,"message":"no"}"#
        );
    }

    #[test]
    fn lines_that_are_missing_are_told_as_a_line() {
        let told = missing_line(12, Duration::from_millis(1_742_413_130_608));
        let (before, after) = told.split_once("][WARNING][log,").unwrap();
        assert_eq!(before, "[2025-03-19 19:38:50,608Z");
        assert!(
            after.ends_with("]: 12 lines of the log are missing here: nobody read them in time\n"),
            "{told}"
        );
    }

    #[test]
    fn the_lowest_level_shows_nothing_of_ours() {
        assert_eq!(filters(LogLevel::Critical), (LevelFilter::Off, LevelFilter::Off));
        assert_eq!(filters(LogLevel::Info), (LevelFilter::Info, LevelFilter::Warn));
    }
}
